"""What the kernel tests share: both backends side by side, and seeded randomness."""

import zlib
from types import SimpleNamespace

import numpy as np
import pytest

import cext
from cext import reference, reference_codec

assert cext.BACKEND == "compiled", "kernel tests compare with the twins: unset SPLIT_CODEC"

KERNELS = [name for name in cext.__all__ if callable(getattr(cext, name))]


def twin_of(name):
    """The twin of a kernel, in whichever of the two modules it is."""
    return getattr(reference_codec if name in vars(reference_codec) else reference, name)


@pytest.fixture(params=["compiled", "reference"])
def kernels(request):
    """Each backend in turn, for what both must do alike."""
    find = {"compiled": lambda name: getattr(cext, name), "reference": twin_of}[request.param]
    return SimpleNamespace(**{name: find(name) for name in KERNELS})


@pytest.fixture
def rng(request):
    """Randomness of this test's own; pytest shows the seed when the test fails."""
    seed = zlib.crc32(request.node.nodeid.encode())
    print(f"seed {seed}")
    return np.random.default_rng(seed)


@pytest.fixture
def twins():
    """Run a kernel and its twin on the same input; fail unless every byte is equal."""
    def run(name, src, size, dtype, *args):
        # Filled with different bytes, so that a value nobody wrote shows up.
        found, wanted = np.full(size, 0x5A, dtype), np.full(size, 0x33, dtype)
        getattr(cext, name)(src, found, *args)
        twin_of(name)(src, wanted, *args)
        assert found.tobytes() == wanted.tobytes(), f"{name} of {len(src)} values with {args}"
        return found
    return run
