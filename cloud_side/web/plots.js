// Plots of a device's past, as SVG made here: no library, and nothing from outside but numbers.

const NS = "http://www.w3.org/2000/svg";
const LEFT = 52, RIGHT = 8, TOP = 8, BOTTOM = 20, HEIGHT = 150;
export const OUTCOMES = ["remote", "local", "fallback", "dropped", "failed"];

export function ms(value) {
  if (value === null || value === undefined) return "–";
  if (value >= 10000) return (value / 1000).toFixed(0) + " s";
  if (value >= 1000) return (value / 1000).toFixed(1) + " s";
  return (value >= 10 ? value.toFixed(0) : value.toFixed(1)) + " ms";
}

export function ago(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 3) return "now";
  if (seconds < 90) return Math.round(seconds) + " s";
  if (seconds < 5400) return Math.round(seconds / 60) + " min";
  if (seconds < 172800) return Math.round(seconds / 3600) + " h";
  return Math.round(seconds / 86400) + " days";
}

function make(name, attributes, ...children) {
  const node = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

// A round number of at least this.
function ceiling(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 1.5, 2, 3, 4, 5, 8, 10].map((f) => f * power).find((v) => v >= value * 0.999);
}

// How far back the axis goes: at least to the oldest point.
function span(seconds) {
  // What is a little older than the axis is left out rather than half the axis empty.
  return [300, 900, 1800, 3600, 7200, 21600, 43200, 86400].find((s) => s >= 0.93 * seconds) || seconds;
}

// As many steps as can be told apart: neighbours become one, of the worst and the sum.
function condense(history, width) {
  const seconds = span(Math.max(0, ...history.ago_s));
  const shown = history.ago_s.map((_, i) => i).filter((i) => history.ago_s[i] <= seconds);
  const size = Math.max(1, Math.ceil(shown.length / ((width - LEFT - RIGHT) / 3)));
  const groups = [];
  // From the newest on: that is the one people look at.
  for (let end = shown.length; end > 0; end -= size) groups.unshift(shown.slice(Math.max(0, end - size), end));
  const each = (key, join) => groups.map((g) => join(g.map((i) => history[key][i]).filter((v) => v !== null)));
  const last = (values) => values.at(-1);
  return {
    step_s: history.step_s * size, seconds, ago_s: each("ago_s", last), cut: each("cut", last),
    rung: each("rung", last),
    p50_ms: each("p50_ms", (v) => v.length ? v.reduce((a, b) => a + b, 0) / v.length : null),
    p95_ms: each("p95_ms", (v) => v.length ? Math.max(...v) : null),
    outcomes: Object.fromEntries(OUTCOMES.map((o) =>
      [o, groups.map((g) => g.reduce((sum, i) => sum + history.outcomes[o][i], 0))])),
  };
}

class Axes {
  constructor(history, width, top, ticks, label) {
    this.width = width;
    this.seconds = history.seconds;
    this.top = top;
    this.svg = make("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": label });
    for (const [value, text] of ticks) {
      const y = this.y(value);
      this.svg.append(make("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y, y2: y }),
        make("text", { x: LEFT - 6, y: y + 4, "text-anchor": "end" }, text));
    }
    const y = HEIGHT - 5;
    this.svg.append(make("text", { x: LEFT, y }, ago(this.seconds) + " ago"),
      make("text", { x: width - RIGHT, y, "text-anchor": "end" }, "now"));
  }
  x(secondsAgo) {
    return LEFT + (this.width - LEFT - RIGHT) * (1 - secondsAgo / this.seconds);
  }
  y(value) {
    return TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / this.top);
  }
}

// Points in runs: a gap of more than two steps is a gap, and so is a point without a value.
function runs(history, values) {
  const found = [];
  let run = [], last = null;
  history.ago_s.forEach((secondsAgo, i) => {
    const there = values[i] !== null;
    if (run.length && (!there || last - secondsAgo > 2.6 * history.step_s)) {
      found.push(run);
      run = [];
    }
    if (there) run.push(i);
    last = secondsAgo;
  });
  if (run.length) found.push(run);
  return found;
}

function path(points) {
  return points.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
}

function drawLine(axes, history, values, className, stepped) {
  for (const run of runs(history, values)) {
    const points = [];
    for (const i of run) {
      const x = axes.x(history.ago_s[i]), y = axes.y(values[i]);
      if (stepped && points.length) points.push([x, points.at(-1)[1]]);
      points.push([x, y]);
    }
    if (run.length === 1) {
      axes.svg.append(make("circle", { class: "dot", cx: points[0][0], cy: points[0][1], r: 2 }));
    } else axes.svg.append(make("path", { class: className, d: path(points) }));
  }
}

export function cutPlot(past, width, device) {
  const history = condense(past, width);
  const most = Math.max(1, device.last_cut || 0, ...history.cut);
  const ticks = [[0, "0"], [most, String(most)]];
  if (most >= 8) ticks.push([Math.round(most / 2), String(Math.round(most / 2))]);
  const now = history.cut.at(-1);
  const axes = new Axes(history, width, most, ticks, `Where it cuts: now before op ${now} of ${most}`);
  drawLine(axes, history, history.cut, "line", true);
  const where = (cut) => cut === device.last_cut ? "all here" : cut === 0 ? "sends its input" : `op ${cut}`;
  return finish("Cut", axes, history, (i) => `${where(history.cut[i])}, ${history.rung[i]}`);
}

export function outcomePlot(past, width) {
  const history = condense(past, width);
  const sums = history.ago_s.map((_, i) => OUTCOMES.reduce((s, o) => s + history.outcomes[o][i], 0));
  const top = ceiling(Math.max(...sums));
  const total = sums.reduce((a, b) => a + b, 0);
  const axes = new Axes(history, width, top, [[0, "0"], [top / 2, String(top / 2)], [top, String(top)]],
    `How ${total} frames ended, in steps of ${history.step_s} seconds`);
  const wide = (axes.x(0) - axes.x(history.step_s));
  const base = sums.map(() => 0);
  for (const outcome of OUTCOMES) {
    let d = "";
    history.outcomes[outcome].forEach((count, i) => {
      if (!count) return;
      const low = axes.y(base[i]), high = axes.y(base[i] + count);
      base[i] += count;
      // A step's frames ended before its time; bars touch where steps do.
      const right = axes.x(history.ago_s[i]), left = Math.max(LEFT, right - wide);
      d += `M${left.toFixed(1)} ${low.toFixed(1)}H${right.toFixed(1)}V${high.toFixed(1)}H${left.toFixed(1)}Z`;
    });
    if (d) axes.svg.append(make("path", { class: `f-${outcome}`, d }));
  }
  return finish(`Frames in ${history.step_s} s`, axes, history, (i) =>
    OUTCOMES.filter((o) => history.outcomes[o][i]).map((o) => `${history.outcomes[o][i]} ${o}`).join(", ")
      || "none");
}

export function latencyPlot(past, width, device) {
  const history = condense(past, width);
  const known = history.p95_ms.filter((v) => v !== null);
  const highest = Math.max(0, ...known);
  // A deadline far above everything would press the lines to the floor.
  const limit = device.deadline_ms && device.deadline_ms < 2.5 * highest ? device.deadline_ms : null;
  const top = ceiling(Math.max(highest, limit || 0));
  const axes = new Axes(history, width, top, [[0, "0"], [top / 2, ms(top / 2)], [top, ms(top)]],
    `Latency: median ${ms(history.p50_ms.at(-1))}, 95 % within ${ms(history.p95_ms.at(-1))}`);
  for (const run of runs(history, history.p95_ms)) {
    const up = run.map((i) => [axes.x(history.ago_s[i]), axes.y(history.p95_ms[i])]);
    const down = run.map((i) => [axes.x(history.ago_s[i]), axes.y(history.p50_ms[i] ?? 0)]).reverse();
    axes.svg.append(make("path", { class: "band", d: path([...up, ...down]) + "Z" }));
  }
  if (limit !== null) {
    const y = axes.y(limit);
    axes.svg.append(make("line", { class: "limit", x1: LEFT, x2: width - RIGHT, y1: y, y2: y }),
      make("text", { x: width - RIGHT, y: y - 3, "text-anchor": "end" }, "deadline"));
  }
  drawLine(axes, history, history.p95_ms, "line thin", false);
  drawLine(axes, history, history.p50_ms, "line", false);
  return finish("Latency", axes, history, (i) =>
    `median ${ms(history.p50_ms[i])}, 95 % within ${ms(history.p95_ms[i])}`);
}

// A figure with its title and, beside it, the newest values or those under the pointer.
function finish(title, axes, history, words) {
  const figure = document.createElement("figure");
  const caption = document.createElement("figcaption");
  const name = document.createElement("b"), said = document.createElement("span");
  name.textContent = title;
  const last = history.ago_s.length - 1;
  said.textContent = words(last);
  caption.append(name, said);
  figure.append(caption, axes.svg);
  const cursor = make("line", { class: "cursor", y1: TOP, y2: HEIGHT - BOTTOM, visibility: "hidden" });
  axes.svg.append(cursor);
  axes.svg.addEventListener("pointermove", (event) => {
    const box = axes.svg.getBoundingClientRect();
    const x = (event.clientX - box.left) * axes.width / box.width;
    let best = last;
    history.ago_s.forEach((secondsAgo, i) => {
      if (Math.abs(axes.x(secondsAgo) - x) < Math.abs(axes.x(history.ago_s[best]) - x)) best = i;
    });
    const at = axes.x(history.ago_s[best]);
    cursor.setAttribute("x1", at);
    cursor.setAttribute("x2", at);
    cursor.setAttribute("visibility", "visible");
    said.textContent = `${ago(history.ago_s[best])} ago: ${words(best)}`;
  });
  axes.svg.addEventListener("pointerleave", () => {
    cursor.setAttribute("visibility", "hidden");
    said.textContent = words(last);
  });
  return figure;
}

// The worker's own throughput, as a shape without axes.
export function pulse(history, width, height) {
  const values = history.answered;
  const top = Math.max(1, ...values);
  const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img",
    "aria-label": `Frames answered in steps of ${history.step_s} seconds, at most ${Math.max(0, ...values)}` });
  const wide = width / Math.max(60, values.length);
  // The last step has only begun.
  const points = values.slice(0, -1).map((value, i) =>
    [width - (values.length - 1 - i - 0.5) * wide, 1 + (height - 1) * (1 - value / top)]);
  if (points.length > 1) {
    const under = [[points.at(-1)[0], height], [points[0][0], height]];
    svg.append(make("path", { class: "band", d: path([...points, ...under]) + "Z" }),
      make("path", { class: "line hair", d: path(points) }));
  }
  return svg;
}
