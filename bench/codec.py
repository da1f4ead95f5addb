"""What the activation codec reaches, and what else there is: `python -m bench.codec`.

Calibrates on a hundred photographs without labels, judges on two hundred others, and writes
every figure of the README's table of bytes with its bootstrap interval, and the plot of the
front. Divergence is the mean KL divergence of the whole model's answer from the split one's,
through the real runtime. `--quick` uses fewer photographs and views, to see it work.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

import cext
from bench import rig
from cext import class_tables
from split_core.model.bundle import Bundle, open_bundle
from split_core.wire.rungs import Rung
from split_core.wire.transformed import TensorTransform, step_of
from split_lab.calibrate.run import calibrate_model
from split_lab.evaluate import Evaluation, Frames, collect, judge_method
from split_lab.intervals import Interval, bytes_at, paired_ratio, ratio_at
from split_lab.methods import make_method
from split_lab.rivals import clip_method, picture_method, uint8_zstd_method
from split_lab.views import list_inputs

QUALITY = 0.02
# Pictures cannot come as near: changing any of the input costs an integer model 0.02.
PICTURE_QUALITY = 0.04
KLS = (0.007, 0.01, 0.014, 0.02, 0.03, 0.05, 0.08)
LEVELS = (6, 8, 12, 16, 24, 32, 64)
PICTURES = {"jpeg": (80, 90, 94, 97), "jpeg444": (75, 85, 90, 94), "webp": (85, 90, 95, 98),
            "avif": (75, 85, 90, 94)}
TUNED = (65, 76, 82, 88)
# Model, and its cuts of 14x14x64 and 7x7x160.
MODELS = {"tf2_mobilenet_v2_1.0_224_ptq": (25, 51), "mobilenet_v2_1.0_224_quant": (24, 50)}
RESNET, RESNET_CUT = "resnet_cifar10_float", 8


def calibrated(name: str, folder: Path, inputs: str, cuts, samples: int) -> Bundle:
    outcome = calibrate_model(rig.SHARED / "models" / f"{name}.tflite", rig.SHARED / inputs,
                              cuts=cuts, samples=samples)
    path = folder / f"{name}.{samples}.split.tflite"
    path.write_bytes(outcome.data)
    print(f"{name}: calibrated on {samples} in {outcome.seconds:.0f} s,"
          f" {outcome.table_bytes} bytes of tables", file=sys.stderr)
    return open_bundle(path)


def frames_at(bundle: Bundle, cut: int, inputs: str, crops: str, args) -> Frames:
    rig.progress(f"{bundle.manifest.name} cut {cut}, {crops} crops")
    files = list_inputs(rig.SHARED / inputs, args.photos)
    return collect(bundle, files, cut, crops=crops, views=args.views if crops == "hard" else 1)


def ladder(frames: Frames, names: Sequence[str]) -> list[Evaluation]:
    found = []
    for name in names:
        rig.progress(f"cut {frames.cut} {name}")
        found.append(judge_method(frames, make_method(frames, name)))
    return found


def clips(frames: Frames, calibration: Frames, clip: bool) -> list[Evaluation]:
    """Clip (or not), uniform levels, ideal entropy coder: fitted to calibration inputs."""
    found = []
    for levels in LEVELS:
        rig.progress(f"cut {frames.cut} {levels} levels")
        method = clip_method(frames.specs, calibration.boundary, levels, clip=clip)
        found.append(judge_method(frames, method))
    return found


def shown(interval: Interval) -> dict:
    return {k: float(f"{v:.5g}") for k, v in asdict(interval).items()}


def points(evaluations: Sequence[Evaluation]) -> list[dict]:
    return [{"method": e.method, "bytes": round(float(e.bytes.mean()), 1),
             "kl": float(f"{e.divergence.mean():.4g}"),
             "agreement": round(float(e.agree.mean()), 4)} for e in evaluations]


def coder_over_entropy(bundle: Bundle, frames: Frames, name: str) -> tuple[float, float]:
    """Real payload bytes over what the compiled tables make of the symbols (an ideal coder
    with them), and over the entropy each class has in these very frames (what no static coder
    can beat; too low for classes that are rare here)."""
    index = bundle.rate(frames.cut).index_for_kl(Rung.parse(name).level)
    real = table_bits = ideal_bits = 0.0
    for spec in bundle.boundary(frames.cut):
        transform = TensorTransform(bundle.codings[spec.name], spec)
        classes = (transform.exponents.astype(int) - index + 4) >> 3
        counts: dict[int, np.ndarray] = {}
        for i in range(0, len(frames), 7):
            symbols = transform.symbols(frames.live(i)[spec.name], step_of(index)).astype(int)
            out = np.empty(cext.max_coded_bytes(symbols.size), np.uint8)
            real += cext.encode_symbols(symbols.astype(np.int16), transform.exponents, index, out)
            for t in np.unique(classes[classes >= class_tables.T_MIN]):
                h = np.bincount(symbols[classes == t] + 2048, minlength=4097)
                counts[t] = counts.get(t, 0) + h
        for t, h in counts.items():
            table_bits += float(h @ _table_bits(int(t)))
            h = h[h > 0]
            ideal_bits -= float((h * np.log2(h / h.sum())).sum())
    return round(8 * real / table_bits, 4), round(8 * real / ideal_bits, 4)


def _table_bits(t: int) -> np.ndarray:
    """What the symbols -2048 to 2048 of a class cost by its table, bits."""
    raw = max(0, (t - class_tables.T_MAX + 3) >> 2)
    table = class_tables.SYMBOLS[t - 4 * raw - class_tables.T_MIN]
    scale = 1 << class_tables.SCALE_BITS
    magnitude = np.abs((np.arange(-2048, 2049) + (1 << raw >> 1)) >> raw)
    excess = np.maximum(magnitude - len(table) + 1, 1)
    escape = np.log2(scale / (scale - 2 * sum(table) + table[0])) + 5 + np.floor(np.log2(excess))
    inside = np.log2(scale / np.array(table, float))
    return raw + np.where(magnitude < len(table),
                          inside[np.minimum(magnitude, len(table) - 1)], escape)


def at_cut(bundle: Bundle, cut: int, inputs: str, args) -> tuple[dict, dict]:
    """The row of one model and cut, and its evaluations for what is compared with it."""
    hard = frames_at(bundle, cut, f"{inputs}/evaluation", args.crops, args)
    few = argparse.Namespace(photos=min(100, args.photos), views=min(2, args.views))
    calibration = frames_at(bundle, cut, f"{inputs}/calibration", args.crops, few)
    ours = ladder(hard, [f"kl{k:g}" for k in KLS])
    layered = ladder(hard, [f"kl{k:g}+refine" for k in (0.005, 0.007, 0.01, 0.014, 0.02)])
    clip, uniform = clips(hard, calibration, True), clips(hard, calibration, False)
    elements = sum(s.elements for s in bundle.boundary(cut))
    zstd = judge_method(hard, uint8_zstd_method(bundle, cut))
    single = next(e for e in ours if e.method == "kl0.02")
    size = bytes_at(ours, QUALITY)
    over_tables, over_own = coder_over_entropy(bundle, hard, "kl0.02")
    row = {
        "model": bundle.manifest.name, "cut": cut, "crops": args.crops, "frames": len(hard),
        "elements": elements,
        "macs_before_ratio": round(bundle.cut(cut).macs_before / bundle.manifest.macs, 4),
        "bytes_at_0.02": shown(size),
        "bits_an_element_at_0.02": round(8 * size.value / elements, 3),
        "two_layers_bytes_at_0.02": shown(bytes_at(layered, QUALITY)),
        "two_layers": [p | {"margin": bundle.cut(cut).margin} for p in points(layered)],
        "two_layers_bytes_over_single": shown(paired_ratio(layered[-1], single)),
        "two_layers_agreement_less_single": round(
            float(layered[-1].agree.mean() - single.agree.mean()), 4),
        "over_clip_entropy": shown(ratio_at(ours, clip, QUALITY)),
        "over_uniform_entropy": shown(ratio_at(ours, uniform, QUALITY)),
        "coder_over_tables": over_tables, "coder_over_own_entropy": over_own,
        "realised_over_asked": {e.method[2:]: round(float(e.divergence.mean())
                                                    / float(e.method[2:]), 3) for e in ours},
        "encode_us": round(1e6 * float(np.median(single.encode_s)), 1),
        "decode_us": round(1e6 * float(np.median(single.decode_s)), 1),
        "ours": points(ours), "clip": points(clip), "uniform": points(uniform),
        "uint8_zstd": points([zstd]),
    }
    return row, {"ours": ours, "frames": hard}


def pictures(bundle: Bundle, inputs: str, args) -> dict[str, list[Evaluation]]:
    frames = frames_at(bundle, 0, f"{inputs}/evaluation", args.crops, args)
    found = {}
    for kind, qualities in PICTURES.items():
        found[kind] = []
        for quality in qualities:
            rig.progress(f"{kind} {quality}")
            found[kind].append(judge_method(frames, picture_method(bundle, 0, kind, quality)))
    return found | {"tuned jpeg": ladder(frames, [f"jpeg{q}" for q in TUNED])}


def measure(folder: Path, args) -> dict:
    rows, compared, fronts, samples = [], {}, {}, []
    for name, cuts in MODELS.items():
        bundle = calibrated(name, folder, "images/calibration", cuts, args.samples)
        evaluations = {}
        for cut in cuts:
            row, evaluations[cut] = at_cut(bundle, cut, "images", args)
            centre = frames_at(bundle, cut, "images/evaluation", "centre", args)
            row["centre"] = points(ladder(centre, ["kl0.02", "kl0.02+refine"]))
            rows.append(row)
        against = pictures(bundle, "images", args)
        compared[name] = {
            f"{kind} over ours at {kl:g}": shown(ratio_at(e, evaluations[cuts[0]]["ours"], kl))
            for kind, e in against.items() for kl in (PICTURE_QUALITY, 0.06) if _encloses(e, kl)}
        fronts[name] = {kind: points(e) for kind, e in against.items()}
    name, (cut, _) = next(iter(MODELS.items()))
    for count in (30, 10):
        few = calibrated(name, folder, "images/calibration", [cut], count)
        frames = frames_at(few, cut, "images/evaluation", args.crops, args)
        samples.append({"samples": count,
                        "bytes_at_0.02": shown(bytes_at(ladder(
                            frames, [f"kl{k:g}" for k in KLS]), QUALITY))})
    bundle = calibrated(RESNET, folder, "cifar10/calibration", "all", args.samples)
    thumbnails = argparse.Namespace(**vars(args) | {"crops": "centre", "photos": 400})
    rows.append(at_cut(bundle, RESNET_CUT, "cifar10", thumbnails)[0])
    return {"cuts": rows, "pictures_over_ours": compared, "pictures": fronts,
            "calibration_samples": samples}


def _encloses(evaluations: Sequence[Evaluation], kl: float) -> bool:
    found = [float(e.divergence.mean()) for e in evaluations]
    return min(found) <= kl <= max(found)


def render(result: dict) -> str:
    lines = []
    for r in result["cuts"]:
        size, clip, uniform = (r[k] for k in ("bytes_at_0.02", "over_clip_entropy",
                                              "over_uniform_entropy"))
        two = r["two_layers"][-1]
        lines += [
            f"{r['model']}, cut {r['cut']} ({r['macs_before_ratio']:.0%} of the MACs),"
            f" {r['frames']} frames, {r['crops']} crops",
            f"  bytes at KL 0.02          {size['value']:.0f} ({size['low']:.0f} to"
            f" {size['high']:.0f}), {r['bits_an_element_at_0.02']} bits an element",
            f"  two layers                {two['bytes']:.0f} bytes, agreement"
            f" {r['two_layers_agreement_less_single']:+.2%} of single (KL {two['kl']})",
            f"  over clip + ideal coder   {clip['value']:.3f} ({clip['low']:.3f} to"
            f" {clip['high']:.3f}); without clip {uniform['value']:.3f}",
            f"  two layers at KL 0.02     {r['two_layers_bytes_at_0.02']['value']:.0f} bytes",
            f"  coder over its tables     {r['coder_over_tables']:.4f}, over each class's own"
            f" entropy here {r['coder_over_own_entropy']:.4f}",
            f"  realised over asked       {r['realised_over_asked']}",
        ]
    for name, ratios in result["pictures_over_ours"].items():
        lines += [f"{name}: {k}  {v['value']:.1f} ({v['low']:.1f} to {v['high']:.1f})"
                  for k, v in ratios.items()]
    lines += [f"calibrated on {s['samples']}: {s['bytes_at_0.02']['value']:.0f} bytes"
              for s in result["calibration_samples"]]
    return "\n".join(lines)


def plot(result: dict, file: Path) -> None:
    """The front of the first model: bytes against divergence, everything on one page."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    name = next(iter(MODELS))
    figure, axes = plt.subplots(figsize=(8.5, 5.2), layout="constrained")

    def draw(rows, label, style, **options):
        rows = sorted(rows, key=lambda p: p["kl"])
        axes.plot([max(p["kl"], 4.4e-3) for p in rows], [p["bytes"] for p in rows], style,
                  label=label, **options)

    for kind, colour in zip(("jpeg", "tuned jpeg", "webp", "avif"),
                            ("#b5473c", "#e08a80", "#c98a1b", "#8a6bb0")):
        draw(result["pictures"][name][kind], f"{kind} of the input", "s--", ms=4, color=colour)
    for r, colour in zip([r for r in result["cuts"] if r["model"] == name],
                         ("#3b6ea5", "#3a9a6f")):
        at = f"{r['macs_before_ratio']:.0%} of the work on the device"
        draw(r["clip"], f"clip + ideal entropy coder, {at}", "^:", ms=4, color=colour, alpha=0.6)
        # Without loss on an integer model: it stands at the edge.
        draw(r["uint8_zstd"], f"8 bits + zstd (no loss), {at}", "x", ms=7, color=colour)
        draw(r["ours"], f"this codec, {at}", "o-", ms=5, color=colour, lw=2)
    axes.set(xscale="log", yscale="log", xlim=(4e-3, 0.3),
             xlabel="divergence from the whole model (mean KL, nats; hard crops)",
             ylabel="bytes a frame", title="MobileNetV2 224: what an answer costs to send")
    axes.axvline(QUALITY, color="0.7", lw=0.8, zorder=0)
    axes.grid(alpha=0.2, which="both")
    axes.legend(fontsize=7.5, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.savefig(file, dpi=130)
    plt.close(figure)


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.codec", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    if not rig.SHARED.exists():
        print(f"bench.codec: no models and photos in {rig.SHARED}: skipped", file=sys.stderr)
        return 0
    args.crops, args.samples = "hard", 30 if args.quick else 100
    args.photos, args.views = (20, 2) if args.quick else (200, 8)
    with tempfile.TemporaryDirectory() as folder:
        result = measure(Path(folder), args)
    rig.progress("")
    print(render(result))
    name = "codec-quick" if args.quick else "codec"
    print(rig.save(name, result))
    plot(result, rig.RESULTS / f"{name}.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
