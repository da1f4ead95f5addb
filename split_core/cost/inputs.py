"""A few real inputs to measure with: pictures, or saved arrays, from a folder or one file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from split_core.errors import InputError
from split_core.model.bundle import Bundle
from split_core.model.runner import zeros

# Enough to tell a typical size; all of a folder would be read for nothing.
_MOST = 8
_ARRAYS = (".npy", ".npz")

Tensors = dict[str, np.ndarray]


def load_inputs(bundle: Bundle, source: str | Path) -> list[Tensors]:
    """Model inputs of the files in ``source``, at most eight, spread evenly over their names:
    of a picture the image input, of arrays (.npy: the first input, .npz: by name) these.
    State inputs that a file lacks are as before the first frame. Raises InputError."""
    from split_core.pictures import SUFFIXES      # loads Pillow, which few devices need

    source = Path(source)
    suffixes = {*SUFFIXES, *_ARRAYS}
    files = [source] if source.is_file() else sorted(
        p for p in source.rglob("*") if p.suffix.lower() in suffixes)
    if not files:
        raise InputError(f"no inputs in {source} (looked for {', '.join(sorted(suffixes))})")
    count = min(_MOST, len(files))
    return [_load(bundle, files[i * len(files) // count]) for i in range(count)]


def _load(bundle: Bundle, file: Path) -> Tensors:
    states = {s.input for s in bundle.manifest.states}
    arrays = {n: zeros(bundle.specs[n]) for n in bundle.manifest.inputs if n in states}
    arrays |= _saved(bundle, file) if file.suffix.lower() in _ARRAYS else _picture(bundle, file)
    for name in bundle.manifest.inputs:
        spec, array = bundle.specs[name], arrays.get(name)
        if array is None or array.shape != spec.shape or array.dtype != spec.np_dtype:
            found = "missing" if array is None else f"{array.dtype}{list(array.shape)}"
            raise InputError(f"{file}: input {name!r} is {found}, wanted"
                             f" {spec.dtype}{list(spec.shape)}")
    return {n: arrays[n] for n in bundle.manifest.inputs}


def _picture(bundle: Bundle, file: Path) -> Tensors:
    from split_core.pictures import prepare, read_picture

    image = bundle.manifest.image
    if image is None:
        raise InputError(f"{file}: the model's input is no picture; wanted .npy or .npz")
    return {image.tensor: prepare(read_picture(file), image, bundle.specs[image.tensor])}


def _saved(bundle: Bundle, file: Path) -> Tensors:
    try:
        loaded = np.load(file, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {bundle.manifest.inputs[0]: loaded}
        with loaded:
            return dict(loaded)
    except (OSError, ValueError) as e:
        raise InputError(f"{file}: {e}") from None
