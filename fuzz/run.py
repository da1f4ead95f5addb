"""`python -m fuzz.run TARGET [libFuzzer's arguments]`: one target under libFuzzer.

Atheris feeds it the coverage of split_core, and of the kernels where they were built for it
(fuzz/build.py). `make fuzz` sets all of that up.
"""

import sys

import atheris

with atheris.instrument_imports(include=["split_core"]):
    from fuzz.targets import TARGETS

if __name__ == "__main__":
    _, target, *arguments = sys.argv
    # libFuzzer runs its own command line again to merge corpora, through a shell.
    atheris.Setup([f"{sys.executable} -m fuzz.run {target}", *arguments], TARGETS[target])
    atheris.Fuzz()
