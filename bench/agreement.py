"""Agreement of split and whole model on real photos, through a broker and a worker.

`python -m bench.agreement`: for each model and default cut, the share of photos whose best
class is the whole model's; then the same with the head in one runtime and the tail in the
other, without loss.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

from bench import rig
from edge_agent.sources.files import list_pictures
from split_core.model.bundle import Bundle, open_bundle
from split_core.model.runner import WholeModel, available_runtimes
from split_core.pictures import prepare, read_picture
from split_lab.split import split_model

# Model, photos, rung, and how its float input is made of 0..255 samples.
CASES = [
    ("tf2_mobilenet_v2_1.0_224_ptq", "images/evaluation", "q4", {}),
    ("mobilenet_v2_1.0_224_quant", "images/evaluation", "q4", {}),
    ("vww_96_float", "images/evaluation", "q8", {"scale": 1 / 255}),
    ("resnet_cifar10_float", "cifar10/evaluation", "q8", {}),
]
ACROSS = ["tf2_mobilenet_v2_1.0_224_ptq", "mobilenet_v2_1.0_224_quant",
          "mobilenet_v1_0.5_160_quant", "vww_96_float", "resnet_cifar10_float"]


def load_inputs(bundle: Bundle, folder: str) -> list[np.ndarray]:
    image = bundle.manifest.image
    spec = bundle.specs[image.tensor]
    return [prepare(read_picture(p), image, spec) for p in list_pictures(rig.SHARED / folder)]


def best_classes(model: Path, inputs, runtime: str | None) -> np.ndarray:
    whole = WholeModel(model, runtime=runtime)
    return np.array([whole.run([x])[0].ravel().argmax() for x in inputs])


def run_split(broker, bundle: Bundle, inputs, *, cut: int, rung: str,
              runtime: str | None = None) -> tuple[np.ndarray, list[int], int]:
    """Best class and payload bytes of each input, and how many were not answered remotely."""
    with rig.agent(broker, bundle.path, cut=cut, rung=rung, runtime=runtime) as agent:
        answers = [agent.infer({bundle.manifest.inputs[0]: x}) for x in inputs]
    name = bundle.manifest.outputs[0]
    best = np.array([a.outputs[name].ravel().argmax() for a in answers])
    return best, [a.payload_bytes for a in answers], sum(a.worker is None for a in answers)


def agreement_rows(broker, folder: Path) -> list[dict]:
    rows = []
    for name, photos, rung, image in CASES:
        model = rig.SHARED / "models" / f"{name}.tflite"
        path = folder / f"{name}.split.tflite"
        path.write_bytes(split_model(model, image=image))
        bundle = open_bundle(path)
        inputs = load_inputs(bundle, photos)
        wanted = best_classes(model, inputs, None)
        for cut in bundle.manifest.cuts[:-1]:
            rig.progress(f"{name} cut {cut.cut} {rung}")
            best, nbytes, not_remote = run_split(broker, bundle, inputs, cut=cut.cut, rung=rung)
            rows.append({
                "model": name, "rung": rung, "cut": cut.cut, "after_op": cut.after_op,
                "macs_before_ratio": round(cut.macs_before / bundle.manifest.macs, 4),
                "frames": len(inputs), "not_remote": not_remote,
                "raw_bytes": bundle.raw_bytes(cut.cut),
                "payload_bytes": rig.spread(nbytes),
                "agreement_ratio": round(float(np.mean(best == wanted)), 4)})
    return rows


def across_rows(folder: Path) -> list[dict]:
    """Head in one runtime, tail in the other, raw rung, the middle default cut."""
    rows, runtimes = [], available_runtimes()
    if len(runtimes) < 2:
        print(f"only {runtimes} here: no run across runtimes", file=sys.stderr)
        return rows
    for tail, head in (runtimes, runtimes[::-1]):
        with rig.mosquitto() as broker, rig.worker(broker, tail):
            for name in ACROSS:
                rig.progress(f"{name} head in {head}, tail in {tail}")
                model = rig.SHARED / "models" / f"{name}.tflite"
                path = folder / f"{name}.across.split.tflite"
                path.write_bytes(split_model(model))
                bundle = open_bundle(path)
                cut = bundle.manifest.cuts[len(bundle.manifest.cuts) // 2]
                photos = "cifar10/evaluation" if "cifar" in name else "images/evaluation"
                inputs = load_inputs(bundle, photos)
                best, _, not_remote = run_split(broker, bundle, inputs, cut=cut.cut, rung="raw",
                                                runtime=head)
                row = {"model": name, "head": head, "tail": tail, "cut": cut.cut,
                       "frames": len(inputs), "not_remote": not_remote}
                wanted = {r: best_classes(model, inputs, r) for r in runtimes}
                for runtime in runtimes:
                    row[f"agreement_with_{runtime}_ratio"] = round(
                        float(np.mean(best == wanted[runtime])), 4)
                # No split across the two can agree with one of them more often than this.
                row["whole_models_agree_ratio"] = round(
                    float(np.mean(wanted[runtimes[0]] == wanted[runtimes[1]])), 4)
                rows.append(row)
    return rows


def main() -> int:
    if not rig.SHARED.exists():
        print(f"bench.agreement: no models and photos in {rig.SHARED}: skipped",
              file=sys.stderr)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        with rig.mosquitto() as broker, rig.worker(broker):
            rows = agreement_rows(broker, Path(folder))
        across = across_rows(Path(folder))
    rig.progress("")
    print(f"{'model':<32}{'rung':>5}{'cut':>5} {'MACs':>5} {'payload':>9} {'agreement':>10}")
    for r in rows:
        print(f"{r['model']:<32}{r['rung']:>5}{r['cut']:>5} {r['macs_before_ratio']:>5.0%}"
              f" {r['payload_bytes']['median']:>7.0f} B {r['agreement_ratio']:>10.1%}")
    for r in across:
        shares = ", ".join(f"{v:.1%} with whole in {k[15:-6]}" for k, v in r.items()
                           if k.startswith("agreement"))
        print(f"{r['model']:<32} head {r['head']}, tail {r['tail']}, cut {r['cut']}: {shares};"
              f" the whole models agree {r['whole_models_agree_ratio']:.1%}")
    print(rig.save("agreement", {"lossy": rows, "across_runtimes": across}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
