"""Does a runtime run a model here, do the kernels agree with their definition, does the bundle
run? Asked of a child process (`probe.py`), because a wrong build ends the process that tries."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from split_core.doctor.findings import Finding, fail, ok, warn

# A large model on a busy Pi takes ten seconds to load.
TIMEOUT_S = 60.0
_INSTALL = "install one: pip install ai-edge-litert, or up to Python 3.11 pip install tflite-runtime 'numpy<2'"


@dataclass(frozen=True, slots=True)
class Step:
    """How a step of the probe ended."""

    ok: bool
    text: str


def check_runtime(runtime: str | None, threads: int, bundle: str | None,
                  wanted_by: str = "model.bundle") -> Iterator[Finding]:
    """Runtime, kernels, and the bundle where there is one."""
    steps = run_probe(runtime, threads, bundle)
    yield from judge(steps, runtime, bundle, wanted_by)


def run_probe(runtime: str | None, threads: int, bundle: str | None) -> dict[str, Step]:
    """What the child said, by step. One that it began and did not end has the reason."""
    command = [sys.executable, "-m", "split_core.doctor.probe", "--threads", str(threads)]
    command += ["--runtime", runtime] if runtime else []
    command += ["--bundle", bundle] if bundle else []
    try:
        child = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                               errors="replace", timeout=TIMEOUT_S)
        out, end = child.stdout, _ending(child.returncode, child.stderr)
    except subprocess.TimeoutExpired as e:
        out = (e.stdout or b"").decode(errors="replace") if isinstance(e.stdout, bytes) \
            else e.stdout or ""
        end = f"it did not end within {TIMEOUT_S:.0f} s"
    steps = {}
    for line in out.splitlines():
        if line.startswith('{"step"'):
            record = json.loads(line)
            steps[record["step"]] = Step(record["ok"], record["text"])
    for name in ("numpy", "kernels", "runtime", "bundle"):
        if name not in steps and end and not (name == "bundle" and not bundle):
            steps[name] = Step(False, end)
            break
    return steps


def _ending(code: int, stderr: str) -> str:
    """Why a child ended that did not end well; empty where it did."""
    if code < 0:
        name = signal.Signals(-code).name if -code in list(signal.Signals) else f"signal {-code}"
        return f"the process that tried ended with {name}"
    said = [line for line in stderr.strip().splitlines() if line.strip()]
    return "" if code == 0 else (said[-1] if said else f"exit code {code}")


def judge(steps: dict[str, Step], runtime: str | None, bundle: str | None,
          wanted_by: str) -> Iterator[Finding]:
    """Findings and remedies of what the child said."""
    numpy = steps.get("numpy")
    if numpy is None or not numpy.ok:
        yield fail("runtime", f"NumPy cannot be loaded: {numpy.text if numpy else 'nothing said'}",
                   "install the package into an environment of its own again; a system-wide NumPy"
                   " for another Python is the usual cause")
        return
    if (kernels := steps.get("kernels")) is not None:
        yield _kernels(kernels)
    if (ran := steps.get("runtime")) is not None:
        yield _runtime(ran, numpy.text, runtime)
    if (tried := steps.get("bundle")) is not None:
        yield ok("bundle", tried.text) if tried.ok else \
            fail("bundle", _about(str(bundle), _plain(tried.text)),
                 _bundle_remedy(tried.text, wanted_by))


def _kernels(step: Step) -> Finding:
    if step.ok and step.text.startswith("reference"):
        return warn("kernels", "the slow NumPy twins run, because SPLIT_CODEC=reference asks for"
                               " them", "unset SPLIT_CODEC")
    if step.ok:
        return ok("kernels", f"{step.text}, every result as defined")
    if "SelfTestError" in step.text:
        return fail("kernels", f"they compute something else here: {_plain(step.text)}",
                    "this build must not be used: install the package for this machine anew, and"
                    " please report the processor (`lscpu`)")
    if "SIGILL" in step.text:
        return fail("kernels", step.text, "this build is for another processor: install the"
                    " package for this machine's architecture")
    return fail("kernels", _plain(step.text), "install the package anew, or from the source tree:"
                " pip install -e . (needs a C compiler)")


def _runtime(step: Step, numpy: str, runtime: str | None) -> Finding:
    if step.ok:
        return ok("runtime", f"{step.text} runs a model (NumPy {numpy})")
    major = int(re.match(r"\d*", numpy)[0] or 0)
    if major >= 2 and ("SystemError" in step.text or "NumPy 1.x" in step.text
                       or "_ARRAY_API" in step.text or "tflite" in str(runtime)):
        return fail("runtime", f"tflite-runtime loads but runs no model with NumPy {numpy}:"
                               f" {_plain(step.text)}",
                    "pip install 'numpy<2', or use the other runtime: pip install ai-edge-litert")
    if "no TFLite runtime here" in step.text:
        return fail("runtime", _plain(step.text).partition("; ")[0], _INSTALL)
    if "SIGILL" in step.text:
        return fail("runtime", step.text, "the runtime is built for another processor; install the"
                    " wheel of this machine's architecture")
    return fail("runtime", _plain(step.text), "install the runtime anew: pip install"
                " --force-reinstall ai-edge-litert (or tflite-runtime 'numpy<2')")


def _bundle_remedy(text: str, wanted_by: str) -> str:
    if "no such file" in text.lower():
        return f"put the bundle there, or say in {wanted_by} where it is"
    if "PermissionError" in text or "ermission denied" in text:
        return "let the service's user read it: chmod a+r, and a+x on the folders above"
    if "ended with" in text:
        return "the runtime crashed on it: try the other one (model.runtime)"
    if "not a bundle" in text:
        return f"`edge-agent split MODEL -o FILE` makes one; name FILE in {wanted_by}"
    return ("it is damaged or of another model: copy it again, or make it anew with"
            " `edge-agent split`")


def _about(file: str, text: str) -> str:
    """What is wrong with a file, its name said once."""
    return text if file in text else f"{file}: {text}"


def _plain(text: str) -> str:
    """Without the name of our own exception class in front."""
    return re.sub(r"^(BundleError|ConfigError|SelfTestError|ImportError): ", "", text)
