"""The rules of ARCHITECTURE.md, executed: who may import whom, what stays pure, how long."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("edge_agent", "cloud_side", "cext", "split_core", "split_lab")
FILES = sorted(p for package in PACKAGES for p in (ROOT / package).rglob("*.py"))
KERNELS = sorted(p for p in (ROOT / "cext").iterdir() if p.suffix in (".pyx", ".pxd"))
PROGRAM_FILES = [p for p in FILES if "demo" not in p.parts]

# One door per dependency: the only places that may import it.
DOORS = {
    "cext": ["split_core/wire/payload.py", "split_core/wire/grids.py",
             "split_core/wire/transformed.py", "split_core/doctor/probe.py", "cext/"],
    "paho": ["split_core/session/"],
    "flatbuffers": ["split_core/model/graft.py", "split_lab/demo/"],
    "ai_edge_litert": ["split_core/model/runner.py", "split_lab/demo/"],
    "tflite_runtime": ["split_core/model/runner.py", "split_lab/demo/"],
    "zstandard": ["split_core/wire/payload.py"],
    "cryptography": ["split_core/crypto/library.py"],
    "PIL": ["split_core/pictures.py", "split_lab/"],
    "cv2": ["edge_agent/sources/camera.py"],
    "picamera2": ["edge_agent/sources/csi.py"],
    "amqtt": ["split_lab/"],
    "rich": ["split_lab/"],
    "shtab": ["split_core/texts.py"],
    "matplotlib": ["split_lab/calibrate/plot.py", "split_lab/field/",
                   "split_lab/plan_plot.py", "bench/"],
    "prometheus_client": ["split_core/metrics.py"],
    "opentelemetry": ["split_core/tracing.py"],
    "torch": ["split_lab/demo/", "split_lab/calibrate/gradients.py"],
}
# Who may import whom; a package may always import itself.
ALLOWED = {
    "edge_agent": {"split_core", "split_lab"},       # split_lab in commands only, see below
    "cloud_side": {"split_core"},
    "split_core": {"cext"},
    "cext": set(),
    "split_lab": {"edge_agent", "cloud_side", "split_core"},
}
# Pure: no clock, chance, socket, thread, file or log. What needs time takes `now_s`.
PURE = [
    *(p for p in (ROOT / "split_core/wire").glob("*.py")),
    *(ROOT / "split_core/model" / f"{n}.py" for n in (
        "flatbuffer", "schema", "graph", "macs", "cuts", "manifest", "coding", "rate", "certainty", "graft")),
    *(p for name in ("belief", "planner", "policies")
      for p in (ROOT / "edge_agent" / name).glob("*.py")),
    *(ROOT / "edge_agent/inference" / f"{n}.py" for n in (
        "encoder", "flights", "gate", "segment_times", "state", "workers")),
    *(ROOT / "edge_agent/control" / f"{n}.py" for n in ("budget", "plans", "step")),
    *(ROOT / "edge_agent/results" / f"{n}.py" for n in ("answers", "record", "topic")),
    *(ROOT / "edge_agent/whatif" / f"{n}.py" for n in ("report", "situation")),
    *(ROOT / "edge_agent" / f"{n}.py" for n in ("asyncapi", "settings")),
    *(ROOT / "edge_agent/remote" / f"{n}.py" for n in ("commands", "discovery", "events",
                                                       "health", "config")),
    *(ROOT / "edge_agent/sensors" / f"{n}.py" for n in ("health", "report")),
    *(ROOT / "split_core/cost" / f"{n}.py" for n in ("profile", "round_trip")),
    ROOT / "split_core/quantities.py",
    *(ROOT / "edge_agent/models" / f"{n}.py" for n in ("rollout", "pace")),
    ROOT / "split_core/log_fields.py",
    ROOT / "edge_agent/observers/status_line.py",
    ROOT / "cloud_side/settings.py",
    *(ROOT / "split_core" / f"{n}.py" for n in ("redact", "manual", "commands")),
    *(ROOT / "split_core/settings" / f"{n}.py" for n in ("keys", "lines", "problems", "changed")),
    ROOT / "split_core/crypto/window.py",
    *(ROOT / "split_lab/field" / f"{n}.py" for n in ("summary", "colours", "page", "page_style",
                                                     "records", "oracle")),
    ROOT / "cloud_side/load.py",
    ROOT / "split_lab/field/uplink.py",
    ROOT / "cloud_side/admission.py",
    ROOT / "cloud_side/bases.py",
    ROOT / "cloud_side/observers/fleet.py",
    ROOT / "cloud_side/observers/vitals.py",
    ROOT / "split_core/listen.py",
    ROOT / "split_core/tensors.py",
]
IMPURE = {"time", "datetime", "random", "secrets", "socket", "ssl", "select", "selectors",
          "threading", "asyncio", "subprocess", "multiprocessing", "logging", "pathlib", "os",
          "tempfile", "shutil"}
# Docstrings and comments apart, a file this long holds a second thing.
MAX_LINES = 500
NOT_A_NAME = {"utils", "util", "common", "helpers", "misc"}


def imports(path: Path) -> list[tuple[str, bool]]:
    """Modules a file imports, and whether inside a function."""
    tree = ast.parse(path.read_text("utf-8"))
    inside = {id(n) for f in ast.walk(tree) if isinstance(f, (ast.FunctionDef, ast.AsyncFunctionDef))
              for n in ast.walk(f)}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(a.name, id(node) in inside) for a in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.append((node.module, id(node) in inside))
    return found


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_there_is_something_to_check():
    assert len(FILES) > 40 and all(p.exists() for p in PURE)


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_imports_follow_the_house(path):
    package = path.relative_to(ROOT).parts[0]
    for module, lazily in imports(path):
        top = module.split(".")[0]
        if top in PACKAGES and top != package:
            assert top in ALLOWED[package], f"{relative(path)} imports {module}"
        if package == "edge_agent" and top == "split_lab":
            assert lazily and path.parent.name == "cli", f"{relative(path)} imports {module}"


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_each_dependency_has_one_door(path):
    for module, _ in imports(path):
        doors = DOORS.get(module.split(".")[0])
        if doors is not None:
            assert any(relative(path).startswith(d) for d in doors), (
                f"{relative(path)} imports {module}; its door is {doors}")


@pytest.mark.parametrize("path", PURE, ids=relative)
def test_pure_files_import_nothing_that_acts(path):
    for module, _ in imports(path):
        assert module.split(".")[0] not in IMPURE, f"{relative(path)} imports {module}"
    calls = {n.func.id for n in ast.walk(ast.parse(path.read_text("utf-8")))
             if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
    assert not calls & {"open", "print", "input"}, relative(path)


@pytest.mark.parametrize("path", [*FILES, *KERNELS], ids=relative)
def test_files_are_short_and_named_for_what_they_do(path):
    assert len(path.read_text("utf-8").splitlines()) <= MAX_LINES
    assert path.stem not in NOT_A_NAME


@pytest.mark.parametrize("path", PROGRAM_FILES, ids=relative)
def test_modules_say_what_they_are_for(path):
    tree = ast.parse(path.read_text("utf-8"))
    if tree.body:
        assert ast.get_docstring(tree), f"{relative(path)} has no docstring"


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_no_error_is_swallowed_whole(path):
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ExceptHandler):
            broad = node.type is None or (isinstance(node.type, ast.Name)
                                          and node.type.id in ("Exception", "BaseException"))
            nothing = all(isinstance(s, ast.Pass) for s in node.body)
            assert not (broad and nothing), f"{relative(path)}:{node.lineno}"
