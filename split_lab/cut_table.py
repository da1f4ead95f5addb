"""The cut table of a model or bundle: as JSON for programs, as text for people."""

from __future__ import annotations

import hashlib
from pathlib import Path

from split_core.errors import BundleError
from split_core.model.bundle import is_bundle, verify
from split_core.model.cuts import find_cuts, useful_cuts
from split_core.model.graph import read_graph
from split_core.model.manifest import CutEntry, PictureRate
from split_core.model.rate import picture_curves
from split_core.tensors import TensorSpec

_BAR = 12
_WIDE = 120                          # for whoever does not say how wide a line may be
_LAST = "MACs on the device"
_COLUMN_KL = 0.02                    # calibration measured coded bytes there
_PICTURE_NAMES = {"jpeg": "JPEG", "webp": "WebP"}


def inspect_file(path: str | Path) -> dict:
    """What `inspect --json` prints. Raises BundleError."""
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as e:
        raise BundleError(f"cannot read {path}: {e.strerror}") from None
    try:
        if is_bundle(data):
            return _bundle(data)
        return _model(data) | {"name": path.name.removesuffix(".tflite")}
    except BundleError as e:
        raise BundleError(f"{path}: {e}") from None


def _bundle(data: bytes) -> dict:
    manifest, digest = verify(data)
    specs = {t.name: t.spec for t in manifest.tensors}
    return {
        "kind": "bundle",
        "sha256": digest.hex(),
        "name": manifest.name,
        "source_sha256": manifest.source_sha256,
        "ops": manifest.ops,
        "segments": [{"first_op": s.first_op, "end_op": s.end_op, "macs": s.macs}
                     for s in manifest.segments],
        "cuts": [_cut(c.cut, c.after_op, [specs[n] for n in c.boundary], c.macs_before,
                      c.macs_after, c.coded_bytes) | _rate(c) for c in manifest.cuts],
        "inputs": [_tensor(specs[n]) for n in manifest.inputs],
        "outputs": [_tensor(specs[n]) for n in manifest.outputs],
        "states": [{"input": s.input, "output": s.output} for s in manifest.states],
        "answer": manifest.answer.kind,
        "labels": len(manifest.answer.labels),
        "pictures": [{"format": p.format, "quality": p.quality, "kl": p.kl, "bytes": p.bytes}
                     for p in manifest.pictures],
    }


def _rate(c: CutEntry) -> dict:
    """The calibrated curve, finest first; empty where nobody calibrated."""
    return {"rate": [{"kl": p.kl, "bytes": p.bytes, "index": p.index} for p in c.rate],
            "margin": c.margin}


def _model(data: bytes) -> dict:
    graph = read_graph(data)
    cuts = find_cuts(graph)
    useful = {c.cut for c in useful_cuts(cuts)}
    return {
        "kind": "model",
        "sha256": hashlib.sha256(data).hexdigest(),
        "ops": len(graph.ops),
        "segments": [],
        "cuts": [_cut(c.cut, c.after_op, graph.specs(c.boundary), c.macs_before, c.macs_after,
                      c.coded_bytes) | {"useful": c.cut in useful} for c in cuts],
        "inputs": [_tensor(s) for s in graph.specs(graph.inputs)],
        "outputs": [_tensor(s) for s in graph.specs(graph.outputs)],
    }


def _cut(cut: int, after_op: str, boundary, macs_before: int, macs_after: int,
         coded_bytes: int) -> dict:
    return {"cut": cut, "after_op": after_op, "boundary": [_tensor(s) for s in boundary],
            "macs_before": macs_before, "macs_after": macs_after, "coded_bytes": coded_bytes}


def _tensor(spec: TensorSpec) -> dict:
    return {"name": spec.name, "shape": list(spec.shape), "dtype": spec.dtype,
            "bytes": spec.nbytes}


def render(report: dict, *, every: bool = False, columns: int = _WIDE) -> str:
    """The table as text, for a window of so many ``columns``: the bars are what gives way. Of a
    model only the useful cuts, unless ``every``."""
    cuts = report["cuts"]
    total = cuts[0]["macs_after"]
    input_bytes = sum(t["bytes"] for t in cuts[0]["boundary"])
    shown = [c for c in cuts if every or c.get("useful", True)]
    # Measured at the quality floor where the bundle is calibrated, else estimated.
    coded = f"KL {_COLUMN_KL}" if any(c.get("rate") for c in shown) else "coded ~"
    lines = [
        f"{report['name']}: {report['kind']}, {report['ops']} ops, {_count(total)} MACs,"
        f" {len(cuts)} cuts" + (f", {len(shown)} of them useful (--all shows every one)"
                                if len(shown) < len(cuts) else ""),
        f"sha256 {report['sha256']}",
        *(f"input  {_shape(t)}  {t['name']}" for t in report["inputs"]),
        *(f"output {_shape(t)}  {t['name']}" for t in report["outputs"]),
        *(f"state  {s['output']} -> {s['input']}" for s in report.get("states", ())),
        "",
    ]
    rows = []
    for c in shown:
        raw = sum(t["bytes"] for t in c["boundary"])
        share = c["macs_before"] / total if total else 0.0
        guessed = "~" if coded != "coded ~" and raw and not c["rate"] else ""
        rows.append((share, c["cut"], c["after_op"].removeprefix("CUSTOM:")[:28],
                     _boundary(c["boundary"]), _bytes(raw) if raw else "-",
                     f"{raw / input_bytes:.0%}" if raw else "-",
                     guessed + _bytes(c["coded_bytes"]) if raw else "-"))
    lines += _aligned(coded, rows, columns)
    lines += _pictures(report)
    return "\n".join(lines)


def _aligned(coded: str, rows: list[tuple], columns: int) -> list[str]:
    """Heads and rows, each column as wide as what is in it."""
    op, boundary = (max(len(head), *(len(r[i]) for r in rows))
                    for i, head in ((2, "after op"), (3, "boundary")))

    def line(cut, after_op, where, raw, of_input, sent) -> str:
        return (f"{cut:>4}  {after_op:<{op}}  {where:<{boundary}} {raw:>8} {of_input:>8}"
                f" {sent:>8}  ")

    head = line("cut", "after op", "boundary", "raw", "of input", coded)
    room = columns - len(head)
    bar = max(0, min(_BAR, room - len("100% ")))
    return [head + (_LAST if room >= len(_LAST) else "MACs"),
            *((line(*cells) + f"{share:>4.0%} {'#' * round(bar * share)}").rstrip()
              for share, *cells in rows)]


def _pictures(report: dict) -> list[str]:
    """What the input costs as a picture: at the divergence of the column, or at the best."""
    curves = picture_curves(PictureRate(**p) for p in report.get("pictures", ()))
    found = []
    for name, curve in curves.items():
        quality = curve.quality_for_kl(_COLUMN_KL) or curve.points[-1].quality
        found.append(f"{_PICTURE_NAMES[name]} {quality}: {_bytes(round(curve.bytes(quality)))}"
                     f" at KL {curve.kl(quality):.2g}")
    return ["input as " + ", ".join(found)] if found else []


def _shape(tensor: dict) -> str:
    return f"{tensor['dtype']} {'x'.join(map(str, tensor['shape'])) or 'scalar'}"


def _boundary(tensors: list[dict]) -> str:
    if not tensors:
        return "nothing is sent"
    text = _shape(tensors[0])
    return text if len(tensors) == 1 else f"{text} + {len(tensors) - 1} more"


def _bytes(n: int) -> str:
    return f"{n} B" if n < 10_000 else f"{n / 1000:.1f} kB" if n < 10e6 else f"{n / 1e6:.1f} MB"


def _count(n: int) -> str:
    return f"{n / 1e6:.1f} M" if n >= 1e5 else str(n)
