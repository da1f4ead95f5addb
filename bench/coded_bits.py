"""Bits an element takes at the default rung, by kind of tensor: `python -m bench.coded_bits`.

These are the constants by which `split` chooses the useful cuts (split_core/model/cuts.py)
before anything was measured on a model: 4 bits, channel planes, packed, zstd level 1, over
photos, at every cut with a single boundary tensor.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

from bench import rig
from edge_agent.sources.files import list_pictures
from split_core.model.bundle import open_bundle
from split_core.model.cuts import image_tensors, rectified_tensors
from split_core.model.graph import read_graph
from split_core.model.runner import Runner
from split_core.pictures import prepare, read_picture
from split_core.wire.payload import Coder
from split_core.wire.rungs import Rung
from split_lab.split import split_model

MODELS = [("tf2_mobilenet_v2_1.0_224_ptq", "images/calibration", {}),
          ("mobilenet_v1_0.5_160_quant", "images/calibration", {}),
          ("vww_96_float", "images/calibration", {"scale": 1 / 255}),
          ("resnet_cifar10_float", "cifar10/calibration", {})]
PHOTOS = 12


def measure(model: Path, photos: str, image: dict, folder: Path) -> list[dict]:
    source = model.read_bytes()
    graph = read_graph(source)
    rectified, images = rectified_tensors(graph), image_tensors(graph)
    path = folder / "m.split.tflite"
    path.write_bytes(split_model(model, cuts="all", image=image))
    bundle = open_bundle(path)
    runner, coder = Runner(bundle), Coder(image=bundle.manifest.image)
    index_of = {t.spec.name: t.index for t in graph.tensors}
    rung, bits = Rung.parse("q4"), {}
    files = list_pictures(rig.SHARED / photos)
    for file in files[:: max(1, len(files) // PHOTOS)][:PHOTOS]:
        spec = bundle.specs[bundle.manifest.image.tensor]
        live = {spec.name: prepare(read_picture(file), bundle.manifest.image, spec)}
        for here, there in zip(bundle.manifest.cuts, bundle.manifest.cuts[1:]):
            boundary = bundle.boundary(here.cut)
            if len(boundary) == 1 and boundary[0].elements > 500:
                size = len(coder.encode([live[boundary[0].name]], boundary, rung))
                bits.setdefault(here.cut, []).append(8 * size / boundary[0].elements)
            live = runner.run(live, here.cut, there.cut)
    rows = []
    for cut, values in bits.items():
        (name,) = bundle.cut(cut).boundary
        t = index_of[name]
        kind = "image" if t in images else "rectified" if t in rectified else "linear"
        rows.append({"model": model.stem, "cut": cut, "kind": kind,
                     "bits": round(float(np.mean(values)), 3)})
    return rows


def main() -> int:
    if not rig.SHARED.exists():
        print(f"bench.coded_bits: no models and photos in {rig.SHARED}: skipped",
              file=sys.stderr)
        return 0
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, photos, image in MODELS:
            rig.progress(name)
            rows += measure(rig.SHARED / "models" / f"{name}.tflite", photos, image,
                            Path(folder))
    rig.progress("")
    for kind in ("linear", "rectified", "image"):
        values = [r["bits"] for r in rows if r["kind"] == kind]
        low, middle, high = np.percentile(values, (25, 50, 75))
        print(f"{kind:<10} {len(values):>3} cuts  median {middle:.2f} bits an element,"
              f" quartiles {low:.2f} to {high:.2f}")
    print(rig.save("coded_bits", rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
