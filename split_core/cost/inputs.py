"""A few real inputs to measure with: pictures, or saved arrays, from a folder or one file."""

from __future__ import annotations

from pathlib import Path

from split_core.errors import InputError
from split_core.inputs import Tensors, check_inputs, first_states, read_arrays
from split_core.model.bundle import Bundle

# Enough to tell a typical size; all of a folder would be read for nothing.
_MOST = 8
_ARRAYS = (".npy", ".npz")


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
    if file.suffix.lower() in _ARRAYS:
        return read_arrays(bundle, file)
    arrays = first_states(bundle) | _picture(bundle, file)
    check_inputs(bundle, arrays, f"{file}: ")
    return arrays


def _picture(bundle: Bundle, file: Path) -> Tensors:
    from split_core.pictures import prepare, read_picture

    image = bundle.manifest.image
    if image is None:
        raise InputError(f"{file}: the model's input is no picture; wanted .npy or .npz")
    return {image.tensor: prepare(read_picture(file), image, bundle.specs[image.tensor])}
