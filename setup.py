"""Compiled kernels only; everything else about the distribution is in pyproject.toml.

Every ``cext/*.pyx`` becomes one extension module, so a new kernel file needs no
line here. The generated C goes under ``build/``, out of the source tree.
"""

from glob import glob

from Cython.Build import cythonize
from setuptools import Extension, setup

COMPILE_ARGS = [
    "-O3",
    # Contraction into fused multiply-add changes the last bit, and with it some
    # symbols: the quantizer is defined by its exact order of operations.
    "-ffp-contract=off",
    "-Wall",
    "-Wextra",
    # Symbols for debuggers would be nine tenths of what is installed.
    "-g0",
]

EXTRA_ARGS = {
    # Its products promise an error bound, not bits; its other loops have nothing to fuse.
    # Nobody reads the exception flags, for whose sake gcc would not vectorize a clamp
    # (14x14x64, no matrices: 18 us, and with the flag 10 us on SSE2, 5 us on AVX2).
    "cext/transform.pyx": ["-ffp-contract=fast", "-fno-trapping-math"],
}

# Relative paths: setuptools refuses absolute ones, and pip runs this file from
# the directory that holds it.
extensions = [
    Extension(path[:-len(".pyx")].replace("/", "."), [path], extra_compile_args=COMPILE_ARGS + EXTRA_ARGS.get(path, []))
    for path in sorted(glob("cext/*.pyx"))
]

setup(
    ext_modules=cythonize(
        extensions,
        build_dir="build/cython",
        compiler_directives={
            "language_level": 3,
            # The faces check every size once; kernels work on bare pointers.
            "boundscheck": False,
            "wraparound": False,
            "initializedcheck": False,
            "cdivision": True,
        },
    ),
)
