"""Kernels of the codec: arrays in, bytes out. They know no model, no wire, no MQTT.

The caller owns every buffer and knows every size; src may be read-only, dst must
not overlap it. Kernels run without the GIL and refuse wrong sizes and values with a
ValueError before they write (a read-only dst with whatever its owner raises, which
may be BufferError). Each has a NumPy twin in cext.reference.

A further kernel is a .pyx with its .pyi, a twin, a test, a benchmark, and its names
here; setup.py finds the file by itself.

BACKEND is "compiled", or "reference" if SPLIT_CODEC=reference asked for the twins.
"""

import os

# An empty variable is an unset one: unit files and CI matrices cannot always unset.
_DEMAND = os.environ.get("SPLIT_CODEC", "")

if _DEMAND == "reference":
    BACKEND = "reference"
    from cext.reference import (
        lookup_f32, lookup_u8, pack_bits, pixels_from_planes, planes_from_pixels, quantize_f32,
        range_f32, unpack_bits,
    )
elif _DEMAND:
    raise ImportError(f"SPLIT_CODEC is {_DEMAND!r}, must be unset or 'reference'")
else:
    BACKEND = "compiled"
    try:
        from cext.bits import pack_bits, unpack_bits
        from cext.lookup import lookup_f32, lookup_u8
        from cext.planes import pixels_from_planes, planes_from_pixels
        from cext.quantize import quantize_f32, range_f32
    except ImportError as error:
        raise ImportError(
            f"the compiled kernels are missing ({error}): build them with `pip install -e .`, "
            "or set SPLIT_CODEC=reference to use the slow NumPy kernels on purpose"
        ) from error

__all__ = [
    "BACKEND", "lookup_f32", "lookup_u8", "pack_bits", "pixels_from_planes", "planes_from_pixels",
    "quantize_f32", "range_f32", "unpack_bits",
]
