"""A child process that tries what can end a process: `python -m split_core.doctor.probe`.

An interpreter that is built for another NumPy, an instruction that this processor lacks and a
damaged bundle end this process and not the doctor. A line of JSON after each step says how far it
came: {"step", "ok", "text"}. It starts with the standard library alone.
"""

from __future__ import annotations

import argparse
import base64
import json
import tempfile
import time
from pathlib import Path

# y = x + 1 for four floats (tests/doctor/test_probe.py makes it again and compares).
MODEL = base64.b64decode(
    "GAAAAFRGTDMAAA4AGAAUABAADAAIAAQADgAAAEQBAAAQAAAAGAAAABwBAAADAAAABAAAAHRpbnkAAAAAAQAAABAA"
    "AAAMABQAEAAMAAgABAAMAAAAIAAAAAwAAAAQAAAAWAAAAAEAAAACAAAAAQAAAAAAAAABAAAAFAAAAAAADgAUAAAA"
    "EAAMAAcACAAOAAAAAAAACwwAAAAMAAAAEAAAAAj///8BAAAAAgAAAAIAAAAAAAAAAQAAAAMAAABoAAAANAAAAAQA"
    "AACw////CAAAAAwAAAABAAAAeQAAAAIAAAABAAAABAAAAAwAEAAMAAAACAAEAAwAAAAMAAAAAQAAAAwAAAADAAAA"
    "b25lAAIAAAABAAAABAAAAAwADAAIAAAAAAAEAAwAAAAIAAAADAAAAAEAAAB4AAAAAgAAAAEAAAAEAAAAAQAAABAA"
    "AAAAAAoACAAAAAAABAAKAAAAAQAAAAIAAAA4AAAADAAAAAAABgAIAAQABgAAAAQAAAAQAAAAAACAPwAAgD8AAIA/"
    "AACAPwAAAAAAAAAABAAEAAQAAAA="
)


def main(arguments: list[str] | None = None) -> None:
    """Do the steps that were asked for."""
    parser = argparse.ArgumentParser(prog="split_core.doctor.probe")
    parser.add_argument("--runtime")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--bundle")
    args = parser.parse_args(arguments)
    if not _step("numpy", _numpy):
        return
    _step("kernels", _kernels)
    if _step("runtime", lambda: _runtime(args.runtime)) and args.bundle:
        _step("bundle", lambda: _bundle(args.bundle, args.runtime, args.threads))


def _step(name: str, body) -> bool:
    try:
        ok, text = True, body()
    except BaseException as e:          # SystemError, and what else a C extension comes up with
        ok, text = False, _said(e)
    print(json.dumps({"step": name, "ok": ok, "text": text}), flush=True)
    return ok


def _said(error: BaseException) -> str:
    """In one line, and what set it off: of whatever keeps NumPy from loading it says that one
    is in its source directory."""
    text = " ".join(f"{type(error).__name__}: {error}".removesuffix(": ").split())
    return text if error.__cause__ is None else f"{text}; because of {_said(error.__cause__)}"


def _numpy() -> str:
    import numpy

    return numpy.__version__


def _kernels() -> str:
    import cext
    from cext import selftest

    selftest.check()
    return f"{cext.BACKEND}, {cext.simd}"


def _runtime(runtime: str | None) -> str:
    import numpy as np

    from split_core.model.runner import WholeModel

    with tempfile.NamedTemporaryFile(suffix=".tflite") as file:
        file.write(MODEL)
        file.flush()
        model = WholeModel(file.name, runtime=runtime)
        x = np.array([[0.5, -1.0, 2.0, 1e6]], np.float32)
        (y,) = model.run([x])
    if not np.array_equal(y, x + 1):
        raise ArithmeticError(f"{model.runtime} makes {y.tolist()} of {x.tolist()} + 1")
    return model.runtime


def _bundle(path: str, runtime: str | None, threads: int) -> str:
    import numpy as np

    from split_core.model.bundle import open_bundle
    from split_core.model.runner import Runner, zeros

    bundle = open_bundle(Path(path))
    runner = Runner(bundle, runtime=runtime, threads=threads)
    manifest = bundle.manifest
    live = {name: zeros(bundle.specs[name]) for name in manifest.inputs}
    times_s = []
    for _ in range(2):                  # the first time allocates
        begun_s = time.monotonic()
        outputs = runner.run(live, 0, bundle.last_cut)
        times_s.append(time.monotonic() - begun_s)
    for name in manifest.outputs:
        if outputs[name].dtype.kind == "f" and not np.isfinite(outputs[name]).all():
            raise ArithmeticError(f"output {name} of an empty input is not finite")
    return (f"{manifest.name}, {len(manifest.segments)} segments,"
            f" {1e3 * min(times_s):.1f} ms here, id {bundle.id_hex[:16]}")


if __name__ == "__main__":
    main()
