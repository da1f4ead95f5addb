"""Tries a bundle before it may run frames: `python -m edge_agent.models.selftest BUNDLE ...`.

In a process of its own, with less right to the processor than the frames have: what crashes,
hangs or fills the memory there does no harm here. It opens the bundle, runs its chained segments
and its whole model on a few inputs, and compares and times them.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np

from split_core.errors import BundleError, SplitError
from split_core.model.bundle import Bundle, open_bundle, source_model
from split_core.model.runner import Runner, WholeModel
from split_core.tensors import TensorSpec

# Loading is most of it. Less than systemd gives a service to start, because there it runs, too.
TIMEOUT_S = 45.0
_LOOK_S = 0.25
_SEED = 20060216                    # any; fixed so that a refusal can be repeated
_NOISY_INPUTS = 2
_TIMED_RUNS = 3
# Split and whole are compared byte for byte where a bundle is made. Another machine's runtime may
# fuse differently: so much of the largest magnitude, or of an integer's unit.
_TOLERANCE = 1e-3
_NICENESS = 10
_SECRET = frozenset({"MQTT_PASSWORD", "CREDENTIALS_DIRECTORY"})


class Report(msgspec.Struct, frozen=True):
    """What a bundle is and takes."""

    model: str
    whole_s: float


def self_test(path: Path, *, runtime: str | None, threads: int,
              look: Callable[[], None] = lambda: None,
              timeout_s: float = TIMEOUT_S) -> Report:
    """Run the test in a child. ``look()`` is called several times a second and may raise, which
    ends it. Raises BundleError for what may not run frames."""
    command = [sys.executable, "-m", "edge_agent.models.selftest", str(path), runtime or "",
               str(threads)]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, env=_environment()) as child:
        try:
            out, err = _wait(child, look, time.monotonic() + timeout_s)
        except subprocess.TimeoutExpired:
            raise BundleError(f"its self-test did not end in {timeout_s:.0f} s") from None
        finally:
            child.kill()                  # ended already, unless something was raised
    if child.returncode < 0:
        raise BundleError(f"its self-test was killed by signal {-child.returncode}: the runtime"
                          " crashed on it, or the memory did not suffice")
    try:
        report = json.loads(out.splitlines()[-1])
    except (IndexError, ValueError):
        raise BundleError("its self-test ended without a word:"
                          f" {(err.strip().splitlines() or ['nothing said'])[-1][-200:]}") from None
    if "error" in report:
        raise BundleError(report["error"])
    return msgspec.convert(report, Report)


def _wait(child: subprocess.Popen, look: Callable[[], None], limit_s: float) -> tuple[str, str]:
    while True:
        look()
        try:
            return child.communicate(timeout=_LOOK_S)
        except subprocess.TimeoutExpired:
            if time.monotonic() > limit_s:
                raise


def _environment() -> dict[str, str]:
    """The child imports what we import, installed or not."""
    paths = [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]
    # Secrets are in the environment and in files it leads to; the child needs none.
    kept = {k: v for k, v in os.environ.items() if k not in _SECRET}
    return kept | {"PYTHONPATH": os.pathsep.join(p for p in paths if p)}


def check_fits(new: Bundle, old: Bundle) -> None:
    """Raises BundleError unless the new bundle takes the inputs that the old one does."""
    wanted, found = _inputs(old), _inputs(new)
    if [s[1:] for s in wanted] != [s[1:] for s in found]:
        raise BundleError(f"it takes {_say(found)}, and the frames here are {_say(wanted)}")
    pictures = new.manifest.image is not None and old.manifest.image is not None
    # A picture finds its input by itself; arrays come by name.
    if not pictures and wanted != found:
        raise BundleError(f"its inputs are called {', '.join(s[0] for s in found)}, the frames"
                          f" here have {', '.join(s[0] for s in wanted)}")


def _inputs(bundle: Bundle) -> list[tuple[str, str, tuple[int, ...]]]:
    states = {s.input for s in bundle.manifest.states}
    return [(n, bundle.specs[n].dtype, bundle.specs[n].shape)
            for n in bundle.manifest.inputs if n not in states]


def _say(inputs: list[tuple[str, str, tuple[int, ...]]]) -> str:
    return ", ".join(f"{dtype}{list(shape)}" for _, dtype, shape in inputs) or "nothing"


# -- in the child


def run_test(path: Path, runtime: str | None, threads: int) -> Report:
    """The test itself. Raises SplitError for what may not run frames."""
    bundle = open_bundle(path)
    runner = Runner(bundle, runtime=runtime, threads=threads)
    runner.warm_up(range(len(bundle.manifest.segments)))
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".trial") as file:
        file.write(source_model(path.read_bytes()))
        file.flush()
        whole = WholeModel(file.name, runtime=runtime, threads=threads)
        for inputs in _test_inputs(bundle):
            tensors = runner.run(inputs, 0, bundle.last_cut)
            _compare(bundle, tensors, whole.run(inputs.values()))
    took_s = []
    zeros = next(_test_inputs(bundle))
    for _ in range(_TIMED_RUNS):
        begin_s = time.perf_counter()
        runner.run(zeros, 0, bundle.last_cut)
        took_s.append(time.perf_counter() - begin_s)
    return Report(bundle.manifest.name, min(took_s))


def _test_inputs(bundle: Bundle):
    """Inputs by name, in the model's order: zeros, then noise."""
    rng = np.random.default_rng(_SEED)
    specs = {n: bundle.specs[n] for n in bundle.manifest.inputs}
    yield {n: np.zeros(s.shape, s.np_dtype) for n, s in specs.items()}
    for _ in range(_NOISY_INPUTS):
        yield {n: _noise(s, rng) for n, s in specs.items()}


def _noise(spec: TensorSpec, rng: np.random.Generator) -> np.ndarray:
    kind = spec.np_dtype.kind
    if kind == "f":
        return rng.random(spec.shape, np.float32).astype(spec.np_dtype)
    if kind == "b":
        return rng.random(spec.shape) < 0.5
    if spec.np_dtype.itemsize > 2:
        return np.zeros(spec.shape, spec.np_dtype)      # most likely an index: 0 is in range
    info = np.iinfo(spec.np_dtype)
    return rng.integers(info.min, info.max + 1, spec.shape, spec.np_dtype)


def _compare(bundle: Bundle, tensors: dict[str, np.ndarray], whole: list[np.ndarray]) -> None:
    for name, wanted in zip(bundle.manifest.outputs, whole):
        found = tensors[name].astype(np.float64)
        wanted = wanted.astype(np.float64)
        kind = bundle.specs[name].np_dtype.kind
        bound = _TOLERANCE * max(1e-30, np.abs(wanted).max(initial=0)) if kind == "f" else 1
        if found.shape != wanted.shape or not np.all(np.abs(found - wanted) <= bound):
            raise BundleError(f"its segments and its whole model differ in output {name!r} here")


def main(argv: list[str]) -> int:
    # systemd/edge-agent.service forbids all that sets priorities; the test is then less polite.
    with contextlib.suppress(OSError):
        os.nice(_NICENESS)
    try:
        report = msgspec.structs.asdict(run_test(Path(argv[0]), argv[1] or None, int(argv[2])))
    except SplitError as e:
        report = {"error": str(e)}
    except (ValueError, OSError, MemoryError) as e:
        report = {"error": f"{type(e).__name__}: {e}"}
    print(json.dumps(report))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
