"""Makes a bundle from a model, and proves it before writing it.

The proof is a run of the whole model and of its chained segments on one input, in a process
of its own: a model whose ops have no kernel, whose shapes are not what the file says, or
which crashes the runtime is refused here and not on a device.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from split_core.errors import BundleError, UsageError
from split_core.model.build import build_bundle
from split_core.model.bundle import is_bundle
from split_core.model.cuts import Cut, find_cuts, useful_cuts
from split_core.model.graph import Graph, read_graph
from split_core.model.manifest import Answer, ImageInput, State
from split_lab import describe

_TRIAL_TIMEOUT_S = 300


def split_model(model: str | Path, *, cuts: str | Sequence[int] = "useful",
                labels: str | Path | None = None, answer: str | None = None,
                states: Sequence[str] | None = None, image: dict | None = None,
                runtime: str | None = None) -> bytes:
    """The bundle for a `.tflite` file.

    ``cuts`` is "useful", "all" or op counts; ``states`` is INPUT=OUTPUT pairs; ``image``
    overrides fields of `ImageInput`. Raises BundleError for what cannot be split.
    """
    path = Path(model)
    source = read_model(path)
    graph = read_graph(source)
    what = describe_model(path, source, graph, labels=labels, answer=answer, states=states,
                          image=image)
    possible = trial(source, graph, what, cuts, runtime)
    return build_bundle(source, graph, choose_cuts(possible, cuts), **what.fields())


@dataclass(frozen=True)
class Described:
    """What a model's inputs and outputs mean, guessed or told."""

    name: str
    states: tuple[State, ...]
    image: ImageInput | None
    answer: Answer

    def fields(self) -> dict:
        return {"name": self.name, "states": self.states, "image": self.image,
                "answer": self.answer}


def describe_model(path: Path, source: bytes, graph: Graph, *, labels: str | Path | None = None,
                   answer: str | None = None, states: Sequence[str] | None = None,
                   image: dict | None = None) -> Described:
    """The description of a model; arguments as in `split_model`."""
    if not graph.ops:
        raise BundleError(f"{path.name} has no ops to split")
    found_labels = describe.read_labels(labels) if labels else describe.packed_labels(source)
    found_labels = describe.checked_labels(graph, found_labels, wanted=labels is not None)
    return Described(
        path.name.removesuffix(".tflite"),
        describe.guess_states(graph) if states is None
        else describe.parse_states(graph, list(states)),
        _image(graph, image or {}),
        Answer(answer, found_labels) if answer else describe.guess_answer(graph, found_labels))


def trial(source: bytes, graph: Graph, what: Described, cuts: str | Sequence[int],
          runtime: str | None) -> tuple[Cut, ...]:
    """The cuts that are possible once the model has run: whole, and split at ``cuts``, in a
    child process.

    Raises BundleError for a model that cannot run, or answers differently when split.
    """
    possible = find_cuts(graph)
    dynamic = _trial(build_bundle(source, graph, choose_cuts(possible, cuts), **what.fields()), runtime)
    if not dynamic:
        return possible
    # Tensors whose shape only running tells cannot cross: their size is not in the bundle.
    possible = tuple(c for c in possible
                     if not dynamic.intersection(graph.spec(t).name for t in c.boundary))
    _trial(build_bundle(source, graph, choose_cuts(possible, cuts), **what.fields()), runtime)
    return possible


def read_model(path: Path) -> bytes:
    """A model's bytes; BundleError when there is no such file or it is a bundle already."""
    try:
        source = path.read_bytes()
    except OSError as e:
        raise BundleError(f"cannot read {path}: {e.strerror}") from None
    try:
        bundle = is_bundle(source)
    except BundleError as e:
        raise BundleError(f"{path.name}: {e}") from None
    if bundle:
        raise BundleError(f"{path.name} is a bundle already; split its model")
    return source


def choose_cuts(possible: tuple[Cut, ...], wanted: str | Sequence[int]) -> tuple[Cut, ...]:
    """The cuts asked for, 0 and n always among them."""
    if wanted == "useful":
        return useful_cuts(possible)
    if wanted == "all":
        return possible
    by_number = {c.cut: c for c in possible}
    numbers = sorted({possible[0].cut, *wanted, possible[-1].cut})
    missing = [k for k in numbers if k not in by_number]
    if missing:
        raise UsageError(f"no cut {missing[0]} here; possible are {sorted(by_number)}")
    return tuple(by_number[k] for k in numbers)


def _image(graph: Graph, overrides: dict) -> ImageInput | None:
    image = describe.guess_image(graph)
    if image is None:
        if overrides:
            raise UsageError("the first input has not the shape of a picture, so"
                             f" {', '.join(overrides)} cannot apply")
        return None
    return msgspec.structs.replace(image, **overrides)


def _trial(data: bytes, runtime: str | None) -> set[str]:
    """Run the bundle against its model in a child process; names of dynamic tensors."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trial.split.tflite"
        path.write_bytes(data)
        command = [sys.executable, "-m", "split_lab.trial", str(path), runtime or ""]
        try:
            child = subprocess.run(command, capture_output=True, text=True,
                                   timeout=_TRIAL_TIMEOUT_S, env=_child_environment())
        except subprocess.TimeoutExpired:
            raise BundleError(f"the model did not finish one run in {_TRIAL_TIMEOUT_S} s"
                              ) from None
    if child.returncode < 0:
        raise BundleError(f"the runtime crashed on this model (signal {-child.returncode});"
                          " the file is damaged or uses what the runtime cannot do")
    try:
        report = json.loads(child.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        raise BundleError(f"trial run failed: {child.stderr.strip()[-400:]}") from None
    if "error" in report:
        raise BundleError(report["error"])
    return set(report["dynamic"])


def _child_environment() -> dict[str, str]:
    """The child imports what we import, installed or not."""
    paths = [str(Path(__file__).resolve().parent.parent), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(p for p in paths if p)}
