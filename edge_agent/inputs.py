"""From what callers hand in to what the model takes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from split_core.errors import InputError
from split_core.inputs import check_inputs, state_inputs
from split_core.model.bundle import Bundle


def model_inputs(bundle: Bundle, frame) -> dict[str, np.ndarray]:
    """Model inputs of a picture (uint8 [height, width, 3]), an array of the first input's
    shape, or a mapping of them by name. Raises InputError."""
    manifest = bundle.manifest
    if isinstance(frame, Mapping):
        arrays = dict(frame)
    else:
        try:
            array = np.asarray(frame)
        except ValueError as e:
            raise InputError(f"input is no array: {e}") from None
        name = manifest.inputs[0]
        spec = bundle.specs[name]
        if array.shape == spec.shape and array.dtype == spec.np_dtype:
            arrays = {name: array}
        elif manifest.image is not None:
            from split_core.pictures import prepare      # loads Pillow

            arrays = {name: prepare(array, manifest.image, spec)}
        else:
            raise InputError(f"input is {array.dtype}{list(array.shape)}, wanted"
                             f" {spec.dtype}{list(spec.shape)}")
    check_inputs(bundle, arrays, spare=state_inputs(bundle))
    return arrays
