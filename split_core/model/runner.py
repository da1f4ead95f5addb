"""Runs segments of a bundle: the only importer of an interpreter.

Two runtimes behind one door, LiteRT and tflite-runtime. An interpreter belongs to one
thread: two threads on one gave wrong outputs. Each segment is allocated when it first runs,
so a device pays memory for the segments it uses.
"""

from __future__ import annotations

import importlib
from collections.abc import Container, Iterable, Mapping
from pathlib import Path

import numpy as np

from split_core.errors import BundleError, ConfigError
from split_core.model import quiet
from split_core.model.bundle import Bundle
from split_core.model.manifest import SIGNATURE_PREFIX

# In order of preference: on x86-64 LiteRT 2.3 runs quantized models 14 to 18 times faster
# than tflite-runtime 2.14; on 32-bit Arm only the latter exists.
RUNTIMES = {"litert": "ai_edge_litert.interpreter", "tflite-runtime": "tflite_runtime.interpreter"}

Tensors = dict[str, np.ndarray]


def available_runtimes() -> tuple[str, ...]:
    """Names of the runtimes that import here, best first."""
    return tuple(name for name in RUNTIMES if _import(name) is not None)


def _import(name: str):
    try:
        return importlib.import_module(RUNTIMES[name])
    except ImportError:
        return None


def resolve_runtime(runtime: str | None) -> str:
    """The runtime that will be used. Raises ConfigError when it is not here."""
    return _interpreter_class(runtime)[0]


def _interpreter_class(runtime: str | None):
    names = [runtime] if runtime else list(RUNTIMES)
    for name in names:
        if name not in RUNTIMES:
            raise ConfigError(f"unknown runtime {name!r}; there are {', '.join(RUNTIMES)}")
        module = _import(name)
        if module is not None:
            return name, module.Interpreter
    raise ConfigError(
        f"no TFLite runtime here (looked for {', '.join(names)}); install one with"
        " `pip install ai-edge-litert` or, for Python 3.11 and older, `pip install"
        " tflite-runtime 'numpy<2'`"
    )


def _new_interpreter(runtime: str, interpreter_class, path: Path, threads: int):
    quiet.greet(runtime, lambda model: interpreter_class(
        model_content=model, num_threads=1).allocate_tensors())
    try:
        interpreter = interpreter_class(model_path=str(path), num_threads=threads)
        # Signatures of an interpreter that was never allocated as a whole run without
        # XNNPACK: 3 to 8 times slower on float models, and no longer bit-identical.
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as e:
        raise BundleError(f"the runtime refuses {path.name}: {_first_line(e)}") from None
    return interpreter


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


class Runner:
    """One interpreter on one bundle, for one thread.

    ``run`` takes the tensors alive at a cut and returns those alive at the next, model
    outputs included; names and shapes are the bundle's.
    """

    def __init__(self, bundle: Bundle, *, runtime: str | None = None, threads: int = 1):
        self.bundle = bundle
        self.runtime, interpreter_class = _interpreter_class(runtime)
        self._interpreter = _new_interpreter(self.runtime, interpreter_class, bundle.path,
                                             threads)
        # The signature runner of both runtimes resizes and re-allocates on every call, which
        # costs more than a small segment; its wrapper offers the steps one by one.
        self._wrapper = self._interpreter._interpreter
        self._signatures = self._wrapper.GetSignatureDefs()
        self._segments: dict[int, _Segment] = {}

    def segment(self, index: int) -> _Segment:
        """The segment, allocated on its first use."""
        if index not in self._segments:
            key = f"{SIGNATURE_PREFIX}{index}"
            if key not in self._signatures:
                raise BundleError(f"bundle {self.bundle.manifest.name} has no signature {key}")
            self._segments[index] = _Segment(
                self._wrapper, self._signatures[key],
                self._wrapper.GetSubgraphIndexFromSignature(key),
                self.bundle.manifest.segments[index], self.bundle.specs,
            )
        return self._segments[index]

    def run_segment(self, index: int, live: Mapping[str, np.ndarray],
                    keep: Container[str] | None = None) -> Tensors:
        """Run one segment on ``live`` and return its outputs, as arrays of their own.

        With ``keep``, outputs not in it are the runtime's own memory, which the segment's next
        run overwrites: for whoever runs the next segment at once.
        What stateful ops kept is forgotten first: a frame does not depend on the last one,
        and a variable tensor never spans two segments.
        """
        if self.bundle.manifest.segments[index].stateful:
            self._reset_state()
        return self.segment(index).run(live, keep)

    def _reset_state(self) -> None:
        for index, entry in enumerate(self.bundle.manifest.segments):
            if entry.stateful:
                self.segment(index)      # the runtime cannot reset what is not allocated
        self._interpreter.reset_all_variables()

    def run(self, live: Mapping[str, np.ndarray], first_cut: int, end_cut: int) -> Tensors:
        """Run the ops between two cuts; returns what is alive at ``end_cut`` and all model
        outputs made on the way."""
        tensors = dict(live)
        first, end = (self.bundle.segment_index(c) for c in (first_cut, end_cut))
        # What is read on the way only is passed on from where the runtime holds it: one copy
        # a border instead of two.
        keep = {*self.bundle.cut(end_cut).boundary, *self.bundle.manifest.outputs}
        for index in range(first, end):
            tensors.update(self.run_segment(index, tensors, keep))
            self.forget_used(tensors, index)
        return tensors

    def forget_used(self, tensors: Tensors, segment: int) -> None:
        """Drop what nothing after ``segment`` reads, so that memory follows the boundary."""
        cut = self.bundle.manifest.cuts[segment + 1]
        keep = {*cut.boundary, *self.bundle.manifest.outputs}
        for name in [n for n in tensors if n not in keep]:
            del tensors[name]

    def warm_up(self, segments: Iterable[int]) -> None:
        """Allocate segments and run each once on zeros, so that the first frame is not slow."""
        for index in segments:
            entry = self.bundle.manifest.segments[index]
            self.run_segment(index, {n: zeros(self.bundle.specs[n]) for n in entry.inputs})


def zeros(spec) -> np.ndarray:
    return np.zeros(spec.shape, spec.np_dtype)


class _Segment:
    """One subgraph, ready to run."""

    def __init__(self, wrapper, signature, subgraph: int, entry, specs):
        self._wrapper, self._subgraph = wrapper, subgraph
        self._entry = entry
        inputs, outputs = signature["inputs"], signature["outputs"]
        missing = [n for n in entry.inputs if n not in inputs]
        missing += [n for n in entry.outputs if n not in outputs]
        if missing:
            raise BundleError(f"the manifest names {missing[0]!r}, which ops {entry.first_op} to"
                              f" {entry.end_op - 1} neither take nor make")
        self._inputs = [(name, inputs[name], specs[name]) for name in entry.inputs]
        self._outputs = [(name, outputs[name]) for name in entry.outputs]
        self._check_inputs()
        try:
            wrapper.AllocateTensors(subgraph)
        except (ValueError, RuntimeError) as e:
            raise BundleError(
                f"ops {entry.first_op} to {entry.end_op - 1} cannot run here: {_first_line(e)}"
            ) from None

    def _check_inputs(self) -> None:
        """A manifest can be forged; what the runtime allocates is what counts."""
        for name, index, spec in self._inputs:
            shape = tuple(int(d) for d in self._wrapper.TensorSize(index, self._subgraph))
            dtype = np.dtype(self._wrapper.TensorType(index, self._subgraph))
            if (shape, dtype) != (spec.shape, spec.np_dtype):
                raise BundleError(f"tensor {name!r} is {dtype}{list(shape)}, the manifest says"
                                  f" {spec.dtype}{list(spec.shape)}")

    def run(self, live: Mapping[str, np.ndarray], keep: Container[str] | None) -> Tensors:
        wrapper, subgraph = self._wrapper, self._subgraph
        for name, index, spec in self._inputs:
            value = live[name]
            if value.shape != spec.shape or value.dtype != spec.np_dtype:
                raise ValueError(f"tensor {name!r} is {value.dtype}{list(value.shape)}, wanted"
                                 f" {spec.dtype}{list(spec.shape)}")
            wrapper.SetTensor(index, value, subgraph)
        try:
            wrapper.Invoke(subgraph)
        except (ValueError, RuntimeError) as e:
            raise BundleError(
                f"ops {self._entry.first_op} to {self._entry.end_op - 1} failed:"
                f" {_first_line(e)}"
            ) from None
        return {
            name: wrapper.GetTensor(index, subgraph) if keep is None or name in keep
            else wrapper.tensor(wrapper, index, subgraph)
            for name, index in self._outputs
        }


class WholeModel:
    """The model as its author made it, unsplit: the yardstick for tests and benchmarks."""

    def __init__(self, path: str | Path, *, runtime: str | None = None, threads: int = 1):
        self.runtime, interpreter_class = _interpreter_class(runtime)
        self._interpreter = _new_interpreter(self.runtime, interpreter_class, Path(path),
                                             threads)
        self.inputs = self._interpreter.get_input_details()
        self.outputs = self._interpreter.get_output_details()

    def run(self, arrays: Iterable[np.ndarray]) -> list[np.ndarray]:
        """Outputs in the model's order, for inputs in the model's order."""
        self._interpreter.reset_all_variables()
        for detail, array in zip(self.inputs, arrays, strict=True):
            self._interpreter.set_tensor(detail["index"], array)
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(d["index"]) for d in self.outputs]
