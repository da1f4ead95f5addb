// The status page. What comes from outside is put in as text (textContent), never as markup.

import { OUTCOMES, ago, cutPlot, latencyPlot, ms, outcomePlot, pulse } from "./plots.js";

const $ = (id) => document.getElementById(id);
const STATES = ["lost", "silent", "unknown", "ready", "stopped"];
const percent = (ratio) => (100 * ratio).toFixed(ratio > 0 && ratio < 0.1 ? 1 : 0) + " %";

function rate(bps) {
  if (bps >= 1e6) return (bps / 1e6).toFixed(bps >= 1e7 ? 0 : 1) + " Mbit/s";
  return (bps / 1e3).toFixed(0) + " kbit/s";
}
function bytes(n) {
  if (n >= 1e9) return (n / 1e9).toFixed(1) + " GB";
  if (n >= 1e6) return (n / 1e6).toFixed(n >= 1e7 ? 0 : 1) + " MB";
  return n >= 1000 ? (n / 1000).toFixed(n >= 1e4 ? 0 : 1) + " kB" : Math.round(n) + " B";
}
const number = (n) => n >= 100000 ? (n / 1e6).toFixed(n >= 1e7 ? 0 : 2) + " M" : String(n);

function node(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}
function set(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// Columns: title, sort value, and the cell's content as nodes.
const COLUMNS = {
  device: { title: "Device", value: (d) => d.device },
  state: { title: "State", value: (d) => STATES.indexOf(d.state) },
  cut: { title: "Plan", value: (d) => d.cut ?? -1 },
  outcomes: { title: "Outcomes", value: (d) => share(d, "remote") },
  latency: { title: "Latency", value: (d) => -(d.p95_ms ?? -1) },
  fps: { title: "Frames/s", value: (d) => -(d.fps ?? -1) },
  link: { title: "Link", value: (d) => -((d.link && d.link.rtt_ms) ?? -1) },
  battery: { title: "Battery", value: (d) => d.battery_ratio ?? 2 },
  temperature: { title: "Temp.", value: (d) => -(d.temperature_c ?? -300) },
  seen: { title: "Seen", value: (d) => -(d.seen_s_ago ?? 1e9) },
};

function share(device, outcome) {
  if (!device.outcomes) return 2;
  const all = OUTCOMES.reduce((sum, o) => sum + device.outcomes[o], 0);
  return all ? device.outcomes[outcome] / all : 2;
}

const CELLS = {
  state: (d) => [node("span", `pill ${d.state}`, d.state), ...d.twice ? [node("span", "pill lost", "two with this id")] : []],
  cut: (d) => {
    if (d.cut === null) return ["–"];
    const here = d.cut === d.last_cut;
    const to = here ? "" : d.worker ? ` at ${d.worker}` : "";
    return [node("span", "n", here ? "all here" : d.cut === 0 ? "cut 0" : `cut ${d.cut}`),
      node("span", "second", here ? "" : `${d.rung ?? ""}${to}`)];
  },
  outcomes: (d) => {
    if (!d.outcomes) return ["–"];
    const all = OUTCOMES.reduce((sum, o) => sum + d.outcomes[o], 0);
    if (!all) return [node("span", "second", "no frames")];
    const bar = node("div", "shares");
    const parts = OUTCOMES.filter((o) => d.outcomes[o]);
    for (const o of parts) {
      const part = node("span", `o-${o}`);
      part.style.flexGrow = d.outcomes[o];
      bar.append(part);
    }
    const words = parts.map((o) => [d.outcomes[o] / all, o]).sort((a, b) => b[0] - a[0])
      .map(([ratio, o]) => `${percent(ratio)} ${o}`);
    bar.setAttribute("role", "img");
    bar.setAttribute("aria-label", words.join(", "));
    bar.title = words.join(", ");
    return [bar, node("span", "second", words.slice(0, 2).join(", "))];
  },
  latency: (d) => {
    if (!d.reports || d.p50_ms === null) return ["–"];
    const late = d.late ? [node("span", "second alert", `${d.late} late`)] : [];
    return [node("span", "n", ms(d.p50_ms)), node("span", "second n", `95 %: ${ms(d.p95_ms)}`), ...late];
  },
  fps: (d) => [node("span", "n", d.fps === undefined ? "–" : d.fps.toFixed(d.fps < 10 ? 1 : 0))],
  link: (d) => {
    if (!d.link) return ["–"];
    if (!d.link.up) return [node("span", "alert", "down")];
    const signal = d.link.signal_dbm === null ? [] :
      [node("span", "second n", `Wi-Fi ${d.link.signal_dbm} dBm`)];
    return [node("span", "n", d.link.rtt_ms === null ? "up" : ms(d.link.rtt_ms)),
      node("span", "second n", d.link.rate_bps === null ? "" : rate(d.link.rate_bps)), ...signal];
  },
  battery: (d) => {
    if (d.battery_ratio === undefined || d.battery_ratio === null) {
      return [node("span", "n", d.mains ? "mains" : "–")];
    }
    const low = d.battery_ratio < 0.15 && !d.mains;
    return [node("span", low ? "n alert" : "n", percent(d.battery_ratio)),
      node("span", "second", d.mains ? "on mains" : low ? "low" : "")];
  },
  temperature: (d) => {
    if (d.temperature_c === undefined || d.temperature_c === null) return ["–"];
    return [node("span", "n", `${d.temperature_c.toFixed(0)} °C`),
      ...(d.throttled ? [node("span", "second alert", "throttled")] : [])];
  },
  seen: (d) => [node("span", "n", ago(d.seen_s_ago))],
};

// -- the fleet

const rows = new Map();              // by device: its row, its detail, what was drawn
const opened = new Set();
let sort = { key: "state", down: false };
let latest = [];
let touched = false;                 // somebody has opened or closed a row

function sortedDevices(devices) {
  const value = COLUMNS[sort.key].value;
  return [...devices].sort((a, b) => {
    const [x, y] = [value(a), value(b)];
    const order = x < y ? -1 : x > y ? 1 : 0;
    return (sort.down ? -order : order) || (a.device < b.device ? -1 : 1);
  });
}

function makeHeads() {
  for (const [key, column] of Object.entries(COLUMNS)) {
    const head = node("th");
    head.scope = "col";
    head.dataset.key = key;
    const button = node("button", "", column.title);
    button.type = "button";
    button.addEventListener("click", () => sortBy(key, sort.key === key && !sort.down));
    head.append(button);
    $("heads").append(head);
    const option = node("option", "", column.title);
    option.value = key;
    $("sort").append(option);
  }
  $("sort").addEventListener("change", () => sortBy($("sort").value, false));
  for (const outcome of OUTCOMES) {
    const item = node("li");
    item.append(node("i", `o-${outcome}`), outcome);
    $("key").append(item);
  }
}

function sortBy(key, down) {
  sort = { key, down };
  drawFleet(latest);
}

function makeRow(device) {
  const row = node("tr", "device");
  const head = node("th");
  head.scope = "row";
  const who = node("button", "who", device.device);
  who.type = "button";
  const model = node("span", "second");
  head.append(who, model);
  row.append(head);
  const cells = {};
  for (const key of Object.keys(CELLS)) {
    cells[key] = node("td", `k-${key}`);
    cells[key].dataset.label = COLUMNS[key].title;
    row.append(cells[key]);
  }
  const detail = node("tr", "detail");
  const body = node("td");
  body.colSpan = Object.keys(COLUMNS).length;
  const plots = node("div", "plots"), none = node("p", "none"), facts = node("dl");
  body.append(none, plots, facts);
  detail.append(body);
  detail.hidden = true;
  row.addEventListener("click", () => {
    if (!String(window.getSelection())) toggle(device.device);
  });
  const made = { row, who, model, cells, detail, plots, none, facts, drawn: -1, said: {}, history: null };
  rows.set(device.device, made);
  return made;
}

function toggle(name) {
  touched = true;
  if (!opened.delete(name)) opened.add(name);
  drawFleet(latest);
}

function drawRow(device) {
  const r = rows.get(device.device) || makeRow(device);
  set(r.model, device.model || "");
  const open = opened.has(device.device);
  r.row.className = `device${open ? " open" : ""}${device.state === "ready" ? "" : " gone"}`;
  r.who.setAttribute("aria-expanded", open);
  for (const [key, cell] of Object.entries(CELLS)) {
    const content = cell(device);
    // Only what has changed: the pointer may be over it.
    const said = content.map((c) => c.outerHTML ?? c).join("");
    if (r.said[key] !== said) {
      r.said[key] = said;
      r.cells[key].replaceChildren(...content);
    }
  }
  r.detail.hidden = !open;
  if (open) drawDetail(device, r);
  return r;
}

function drawDetail(device, r) {
  const facts = [
    ["Plan's reason", device.plan_reason, true], ["Aim", device.aim],
    ["Running for", device.uptime_s && ago(device.uptime_s)],
    ["Bytes a frame", device.payload_bytes && bytes(device.payload_bytes)],
    ["Sent", device.sent_bytes && bytes(device.sent_bytes)],
    ["Deadline", device.deadline_ms && ms(device.deadline_ms)],
    ["Processor", device.cpu_busy_ratio != null && percent(device.cpu_busy_ratio) + " busy"],
    ["Memory", device.memory_bytes && bytes(device.memory_bytes)
      + (device.memory_max_bytes ? ` of ${bytes(device.memory_max_bytes)}` : "")],
    ["Connected anew", device.link && `${device.link.reconnects} times`],
    ["Results waiting", device.results_waiting && String(device.results_waiting)],
    ["Results lost", device.results_lost && String(device.results_lost)],
    ["Version", device.version], ["Bundle", device.bundle && device.bundle.slice(0, 16)],
  ].filter(([, value]) => value);
  const said = JSON.stringify(facts);
  if (r.said.facts !== said) {
    r.said.facts = said;
    r.facts.replaceChildren(...facts.map(([name, value, far]) => {
      const item = node("div", far ? "far" : "");
      item.append(node("dt", "", name), node("dd", "", value));
      return item;
    }));
  }
  r.none.hidden = device.reports && device.made > 0;
  set(r.none, r.none.hidden ? "" : "It has not reported its health here yet; plots begin with the first report.");
  if (device.made !== r.drawn && device.made > 0) {
    r.drawn = device.made;
    loadHistory(device.device, r);
  }
}

async function loadHistory(name, r) {
  try {
    const reply = await fetch(`history.json?device=${encodeURIComponent(name)}`);
    if (!reply.ok) throw new Error(`status ${reply.status}`);
    r.history = await reply.json();
    drawPlots(name, r);
  } catch {
    r.drawn = -1;                    // with the next word from the worker, again
  }
}

function drawPlots(name, r) {
  const device = latest.find((d) => d.device === name);
  if (!device || !r.history || !r.history.ago_s.length || r.detail.hidden) return;
  if (r.plots.matches(":hover")) return;          // somebody reads them
  const columns = getComputedStyle(r.plots).gridTemplateColumns.split(" ");
  const width = Math.max(220, Math.round(parseFloat(columns[0]) - 24));
  r.width = width;
  r.plots.replaceChildren(cutPlot(r.history, width, device), outcomePlot(r.history, width),
    latencyPlot(r.history, width, device));
}

function drawFleet(devices) {
  latest = devices;
  if (!touched && devices.length === 1) opened.add(devices[0].device);
  for (const name of [...rows.keys()]) {
    if (!devices.some((d) => d.device === name)) {
      rows.get(name).row.remove();
      rows.get(name).detail.remove();
      rows.delete(name);
      opened.delete(name);
    }
  }
  const wanted = [];
  for (const device of sortedDevices(devices)) {
    const r = drawRow(device);
    wanted.push(r.row, r.detail);
  }
  const there = [...$("rows").children];
  if (wanted.length !== there.length || wanted.some((row, i) => row !== there[i])) {
    const focused = document.activeElement;
    $("rows").replaceChildren(...wanted);
    if (focused && focused.isConnected) focused.focus({ preventScroll: true });
  }
  for (const head of $("heads").children) {
    if (head.dataset.key === sort.key) head.setAttribute("aria-sort", sort.down ? "descending" : "ascending");
    else head.removeAttribute("aria-sort");
  }
  $("sort").value = sort.key;
  $("fleet").hidden = $("key").hidden = !devices.length;
  $("empty").hidden = devices.length > 0;
  const counts = STATES.map((s) => [devices.filter((d) => d.state === s).length, s]).filter(([n]) => n);
  set($("counts"), counts.reverse().map(([n, s]) => `${n} ${s}`).join(", "));
}

// -- the worker

function workerState(w) {
  if (w.dead_threads.length) return ["dead", `thread not running: ${w.dead_threads.join(", ")}`];
  if (!w.connected) return ["waiting", "no broker"];
  return w.loading ? ["loading", "loading a model"] : ["ready", "ready"];
}

function drawWorker(w) {
  document.title = `${w.id} · cloud-worker`;
  set($("worker"), w.id);
  const [state, words] = workerState(w);
  $("state").className = `pill ${state}`;
  set($("state"), words);
  $("trouble").hidden = w.connected || !w.trouble;
  set($("trouble"), w.trouble);
  set($("fps"), w.fps.toFixed(w.fps < 10 ? 1 : 0));
  set($("p50"), ms(w.p50_ms));
  set($("p95"), ms(w.p95_ms));
  set($("queued"), String(w.queued));
  set($("slots"), `of ${w.queue_size}`);
  set($("wait"), w.wait_ms > 0 ? `${ms(w.wait_ms)} to wait` : "nothing to wait for");
  set($("busy"), percent(w.busy_ratio));
  $("busybar").style.width = `${100 * w.busy_ratio}%`;
  set($("answered"), number(w.answered));
  const refused = Object.entries(w.refused).map(([reason, n]) => `${number(n)} ${reason.replaceAll("_", " ")}`);
  set($("refused"), refused.length ? refused.join(", ") : "none turned away");
  set($("models"), String(w.models.length));
  set($("modelnames"), w.models.slice(-3).map((m) => m.model).join(", ") || (w.fetching ? "one on its way" : ""));
  const box = $("pulse").getBoundingClientRect();
  $("pulse").replaceChildren(pulse(w.history, Math.max(60, box.width), Math.max(20, box.height)));
  set($("about"), `cloud-worker ${w.version}, ${w.runtime}, running for ${ago(w.uptime_s)}`);
  set($("empty"), w.connected ? "No device has been heard of on this broker yet."
    : "Not connected: nothing is known of the fleet.");
}

function drawPool(workers, own) {
  $("pool-part").hidden = workers.filter((w) => w.worker !== own).length === 0;
  $("pool").replaceChildren(...workers.map((w) => {
    const item = node("li");
    item.append(w.worker, node("span", `pill ${w.state}`, w.state),
      w.busy_ratio === undefined ? "" : `${percent(w.busy_ratio)} busy`);
    return item;
  }));
}

function drawEvents(events) {
  $("events-part").hidden = events.length === 0;
  $("events").replaceChildren(...events.slice(0, 15).map((e) => {
    const item = node("li");
    item.append(node("span", "when", e.ago_s < 3 ? "now" : `${ago(e.ago_s)} ago`), node("span", "where", e.device),
      node("span", "what", e.text || e.event));
    return item;
  }));
}

function draw(data) {
  drawWorker(data.worker);
  drawFleet(data.devices);
  drawPool(data.workers, data.worker.id);
  drawEvents(data.events);
}

// -- live

let heard = 0;

function listen() {
  const source = new EventSource("live");
  source.addEventListener("fleet", (event) => {
    heard = Date.now();
    draw(JSON.parse(event.data));
    $("live").className = "live on";
    set($("live"), "live");
  });
  source.addEventListener("error", () => {
    $("live").className = "live";
    set($("live"), "connection lost, trying again");
    // A refusal ends a source for good, a break does not.
    if (source.readyState === EventSource.CLOSED) setTimeout(listen, 3000);
  });
}

setInterval(() => {
  if (heard && Date.now() - heard > 10000) {
    $("live").className = "live";
    set($("live"), `no word for ${ago((Date.now() - heard) / 1000)}`);
  }
}, 2000);

let resizing = 0;
window.addEventListener("resize", () => {
  clearTimeout(resizing);
  resizing = setTimeout(() => {
    for (const [name, r] of rows) drawPlots(name, r);
  }, 150);
});

makeHeads();
listen();
