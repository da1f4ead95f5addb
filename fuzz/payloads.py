"""Valid payloads of every encoding, and what decodes them: where damage begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from split_core.errors import MessageError
from split_core.tensors import TensorSpec
from split_core.wire.payload import Coder
from tests.golden import calibrated
from tests.golden import make as golden

# Of a Coder's scratch, of what it keeps beside the arrays (symbols as int16, double tables of
# 256 values) and of exceptions: what decoding may allocate is some of the first and this.
TIMES_TENSORS, BYTES_BESIDE = 8, 64_000


@dataclass(frozen=True)
class Source:
    """A payload, its refinement where it is a base layer, and who decodes them."""

    name: str
    coder: Coder
    specs: Sequence[TensorSpec]
    payload: bytes
    refinement: bytes = b""

    @property
    def most_bytes(self) -> int:
        """No more may be allocated to decode it, whatever it says."""
        return TIMES_TENSORS * sum(s.nbytes for s in self.specs) + BYTES_BESIDE


def sources() -> list[Source]:
    """Encoded anew, so that a corpus outlives a change of the tables."""
    plain, tables = Coder(image=golden.IMAGE), Coder(codings=calibrated.stored_codings())
    found = [Source(rung, plain, golden.specs(), golden.payload(rung)) for rung in golden.RUNGS]
    found += [Source(name, tables, calibrated.SPECS, *calibrated.encode(name, tables))
              for name in calibrated.STEPS]
    for source in found:
        decode(source, source.payload, source.refinement)
    return found


def decode(source: Source, payload: bytes, refinement: bytes) -> bool:
    """Decode and refine; False for what is refused. All that is accepted is of the bundle's
    shapes and types."""
    try:
        arrays, layers = source.coder.decode_layers(memoryview(payload), source.specs)
        _check(arrays, source.specs)
        if layers is not None:
            _check(source.coder.refine(layers, memoryview(refinement)), source.specs)
    except MessageError:
        return False
    return True


def _check(arrays: Sequence[np.ndarray], specs: Sequence[TensorSpec]) -> None:
    found = [(a.shape, a.dtype) for a in arrays]
    wanted = [(s.shape, s.np_dtype) for s in specs]
    assert found == wanted, f"decoded {found}, the bundle says {wanted}"
