"""The calibration report as a picture. The only importer of matplotlib."""

from __future__ import annotations

from pathlib import Path

from split_core.errors import UsageError
from split_core.files import cannot_write
from split_lab.calibrate.learn import QUALITY_FLOOR
from split_lab.calibrate.run import Outcome, bytes_at_floor

_PICTURES = {"jpeg": ("JPEG of the input", "#b5473c"), "webp": ("WebP of the input", "#c98a1b")}


def plot_rates(outcome: Outcome, file: str | Path) -> None:
    """Left bytes against divergence, a curve a cut; right bytes at the quality floor against
    work on the device. Raises UsageError without matplotlib."""
    try:
        import matplotlib
    except ImportError:
        raise UsageError("--plot needs matplotlib: pip install 'edge-agent[plot]'") from None
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    kept = [l for l in outcome.learnt if l.cut.cut in outcome.kept]
    figure, (curves, front) = plt.subplots(1, 2, figsize=(12, 5.4), layout="constrained")
    colours = plt.get_cmap("viridis")
    for i, l in enumerate(kept):
        share = l.cut.macs_before / outcome.macs
        curves.plot([p.kl for p in l.rate], [p.bytes for p in l.rate], "-",
                    color=colours(0.9 * i / max(1, len(kept) - 1)),
                    label=f"cut {l.cut.cut}, {share:.0%} of the work here")
    for name, points in outcome.pictures.items():
        label, colour = _PICTURES[name]
        curves.plot(*zip(*points), "--", color=colour, label=label)
    curves.axvline(QUALITY_FLOOR, color="0.7", lw=0.8, zorder=0)
    curves.set(xscale="log", yscale="log", xlabel="divergence from the whole model (nats)",
               ylabel="bytes a frame", title="What quality costs")
    curves.legend(fontsize=8, frameon=False)
    curves.grid(alpha=0.2, which="both")

    reached = [l for l in outcome.learnt if bytes_at_floor(l) < float("inf")]
    on_it = [l for l in kept if l in reached]
    others = [l for l in reached if l not in on_it]
    if others:
        front.plot([100 * l.cut.macs_before / outcome.macs for l in others],
                   [bytes_at_floor(l) for l in others], "o", ms=4, color="0.75",
                   label="cuts not kept")
    front.plot([100 * l.cut.macs_before / outcome.macs for l in on_it],
               [bytes_at_floor(l) for l in on_it], "o-", ms=6, color="#3b6ea5",
               label=f"cuts of the bundle, at {QUALITY_FLOOR}")
    for l in on_it:
        front.annotate(str(l.cut.cut), (100 * l.cut.macs_before / outcome.macs,
                                        bytes_at_floor(l)), fontsize=8,
                       textcoords="offset points", xytext=(5, 5))
    for name, points in outcome.pictures.items():
        nearest = min(points, key=lambda p: abs(p[0] - QUALITY_FLOOR))
        label, colour = _PICTURES[name]
        front.plot([0], [nearest[1]], "s", color=colour,
                   label=f"{label}, at {nearest[0]:.2g}")
    front.set(yscale="log", xlabel="work on the device (% of MACs)", ylabel="bytes a frame",
              title="What work on the device saves")
    front.legend(fontsize=8, frameon=False)
    front.grid(alpha=0.2, which="both")
    _time_axis(front, outcome)
    figure.suptitle(f"{outcome.name}, calibrated on {outcome.files} inputs")
    try:
        figure.savefig(file, dpi=130)
    except OSError as e:
        raise cannot_write(file, e) from None
    except ValueError as e:                        # an ending that names no kind of picture
        raise UsageError(f"cannot write {file}: {e}") from None
    plt.close(figure)


def _time_axis(axes, outcome: Outcome) -> None:
    """Along the top: how long the head takes on the machine that calibrated."""
    top = axes.twiny()
    top.set_xlim(axes.get_xlim())
    shown, last = [], -100.0
    for cut, seconds in outcome.head_s.items():
        at = 100 * outcome.macs_before[cut] / outcome.macs
        if at - last > 9:                    # labels need room
            shown.append((at, f"{1e3 * seconds:.1f}"))
            last = at
    top.set_xticks([at for at, _ in shown], [text for _, text in shown], fontsize=8)
    top.set_xlabel("head on this machine (ms)", fontsize=9)
