"""A model's inputs, as they must be before anything is run: all there, of their shape and type."""

from __future__ import annotations

import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from split_core.errors import InputError
from split_core.model.bundle import Bundle
from split_core.model.runner import zeros

Tensors = dict[str, np.ndarray]


def check_inputs(bundle: Bundle, arrays: Mapping[str, np.ndarray], where: str = "", *,
                 spare: Collection[str] = ()) -> None:
    """Raises InputError, which begins with ``where``, for an input that is missing or another one
    than the model takes. ``spare``: those that may be anything, for they are replaced."""
    for name in bundle.manifest.inputs:
        if name in spare:
            continue
        spec, array = bundle.specs[name], arrays.get(name)
        if array is None or array.shape != spec.shape or array.dtype != spec.np_dtype:
            found = "missing" if array is None else f"{array.dtype}{list(array.shape)}"
            raise InputError(f"{where}input {name!r} is {found}, wanted"
                             f" {spec.dtype}{list(spec.shape)}")


def state_inputs(bundle: Bundle) -> set[str]:
    """The inputs that the last frame has made."""
    return {s.input for s in bundle.manifest.states}


def first_states(bundle: Bundle) -> Tensors:
    """State inputs as they are before the first frame."""
    states = state_inputs(bundle)
    return {n: zeros(bundle.specs[n]) for n in bundle.manifest.inputs if n in states}


def read_arrays(bundle: Bundle, file: Path) -> Tensors:
    """Saved inputs: of an .npy the first, of an .npz all by name. State that it lacks is as before
    the first frame, what is no input is left out. Raises InputError."""
    try:
        with file.open("rb") as opened:
            loaded = np.load(opened, allow_pickle=False)
            one = isinstance(loaded, np.ndarray)
            arrays = {bundle.manifest.inputs[0]: loaded} if one else dict(loaded)
    # A file that says it is a zip archive and is none: BadZipFile, which is a plain Exception.
    except (OSError, ValueError, zipfile.BadZipFile) as e:
        raise InputError(f"{file}: {e}") from None
    arrays = first_states(bundle) | arrays
    check_inputs(bundle, arrays, f"{file}: ")
    return {n: arrays[n] for n in bundle.manifest.inputs}
