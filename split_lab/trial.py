"""One run of a bundle's segments beside its whole model: `python -m split_lab.trial BUNDLE`.

Prints one JSON object: {"dynamic": [names]} of boundary tensors whose shape is not the one in
the file, or {"error": text}. A process of its own, because a damaged model may crash the
runtime.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import numpy as np

from split_core.errors import SplitError
from split_core.model.bundle import Bundle, open_bundle, source_model
from split_core.model.runner import Runner, WholeModel
from split_core.tensors import TensorSpec

_SEED = 20060216          # any; fixed so that a refusal can be repeated


def random_tensor(spec: TensorSpec, rng: np.random.Generator) -> np.ndarray:
    """An input of the right shape: pixels-like values, in the type's own range."""
    if spec.np_dtype.kind == "f":
        return rng.random(spec.shape, np.float32).astype(spec.np_dtype) * 255
    if spec.np_dtype.kind == "b":
        return rng.random(spec.shape) < 0.5
    if spec.np_dtype.itemsize > 2:
        return np.zeros(spec.shape, spec.np_dtype)      # most likely an index: 0 is in range
    info = np.iinfo(spec.np_dtype)
    return rng.integers(info.min, info.max + 1, spec.shape, spec.np_dtype)


def try_bundle(bundle: Bundle, runtime: str | None) -> list[str]:
    """Names of dynamic boundary tensors; SplitError if the answers differ or nothing runs."""
    rng = np.random.default_rng(_SEED)
    inputs = {n: random_tensor(bundle.specs[n], rng) for n in bundle.manifest.inputs}
    runner = Runner(bundle, runtime=runtime)
    tensors, dynamic = dict(inputs), set()
    for index in range(len(bundle.manifest.segments)):
        made = runner.run_segment(index, tensors)
        tensors.update(made)
        dynamic |= {n for n, a in made.items() if a.shape != bundle.specs[n].shape}
        if dynamic.intersection(bundle.manifest.cuts[index + 1].boundary):
            break                     # the next segment would refuse it; the caller re-cuts
    crossing = {n for c in bundle.manifest.cuts for n in c.boundary}
    if dynamic & crossing:
        return sorted(dynamic & crossing)
    with tempfile.NamedTemporaryFile(suffix=".tflite") as file:
        file.write(source_model(Path(bundle.path).read_bytes()))
        file.flush()
        whole = WholeModel(file.name, runtime=runtime).run(inputs.values())
    for name, wanted in zip(bundle.manifest.outputs, whole):
        if tensors[name].tobytes() != wanted.tobytes():
            raise SplitError(f"output {name!r} of the chained segments differs from the whole"
                             " model's; an op of this model is not deterministic")
    return []


def main(argv: list[str]) -> int:
    try:
        report = {"dynamic": try_bundle(open_bundle(argv[0]), argv[1] or None)}
    except SplitError as e:
        report = {"error": str(e)}
    print(json.dumps(report))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
