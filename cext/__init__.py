"""Kernels of the codec: arrays in, bytes out. They know no model, no wire, no MQTT.

The caller owns every buffer and knows every size; src may be read-only, dst must
not overlap it. Kernels run without the GIL and refuse wrong sizes and values with a
ValueError before they write (a read-only dst with whatever its owner raises, which
may be BufferError). Each has a NumPy twin in cext.reference or cext.reference_codec.

A further kernel is a .pyx with its .pyi, a twin, a test, a benchmark, and its names
here; setup.py finds the file by itself.

BACKEND is "compiled", or "reference" if SPLIT_CODEC=reference asked for the twins. simd
names the loops of the transform: "avx2" where the machine has it, else "baseline", on
which SPLIT_SIMD=baseline insists; "reference" with the twins.
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
    from cext.reference_codec import (
        Transform, decode_refinement, decode_symbols, encode_refinement, encode_symbols, expected_bits,
        max_coded_bytes, quantize_coefficients, split_base,
    )
    simd = "reference"
elif _DEMAND:
    raise ImportError(f"SPLIT_CODEC is {_DEMAND!r}, must be unset or 'reference'")
else:
    BACKEND = "compiled"
    try:
        from cext.bits import pack_bits, unpack_bits
        from cext.entropy import (
            decode_refinement, decode_symbols, encode_refinement, encode_symbols, expected_bits,
            max_coded_bytes, split_base,
        )
        from cext.lookup import lookup_f32, lookup_u8
        from cext.planes import pixels_from_planes, planes_from_pixels
        from cext.quantize import quantize_f32, range_f32
        from cext.transform import SIMD as simd, Transform, quantize_coefficients
    except ImportError as error:
        raise ImportError(
            f"the compiled kernels are missing ({error}): build them with `pip install -e .`, "
            "or set SPLIT_CODEC=reference to use the slow NumPy kernels on purpose"
        ) from error

__all__ = [
    "BACKEND", "Transform", "decode_refinement", "decode_symbols", "encode_refinement", "encode_symbols",
    "expected_bits", "lookup_f32", "lookup_u8", "max_coded_bytes", "pack_bits", "pixels_from_planes",
    "planes_from_pixels", "quantize_coefficients", "quantize_f32", "range_f32", "simd", "split_base",
    "unpack_bits",
]
