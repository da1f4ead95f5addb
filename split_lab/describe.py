"""What a model's inputs and outputs most likely mean, so that `split` needs no flags.

Guesses are made once, here, and written into the manifest, where people can read and
override them; nothing guesses while frames are flowing.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

from split_core.errors import BundleError, UsageError
from split_core.model.graph import Graph
from split_core.model.manifest import Answer, ImageInput, State

_DETECTION = "CUSTOM:TFLite_Detection_PostProcess"


def guess_states(graph: Graph) -> tuple[State, ...]:
    """Pairs of output and input that carry state from frame to frame.

    A pair has one shape, type and quantization and one last word in its names, as in
    ``raw_inputs/init_lstm_c`` and ``raw_outputs/lstm_c``. The first input is never state.
    """
    states = []
    for i in graph.inputs[1:]:
        spec = graph.spec(i)
        matches = [
            graph.spec(o) for o in graph.outputs
            if (graph.spec(o).shape, graph.spec(o).dtype, graph.spec(o).quantization)
            == (spec.shape, spec.dtype, spec.quantization)
            and _last_word(spec.name).endswith(_last_word(graph.spec(o).name))
        ]
        if len(matches) == 1:
            states.append(State(spec.name, matches[0].name))
    return tuple(states)


def _last_word(name: str) -> str:
    return name.rsplit("/", 1)[-1].split(":")[0]


def parse_states(graph: Graph, pairs: list[str]) -> tuple[State, ...]:
    """States given as INPUT=OUTPUT; UsageError unless both exist and match."""
    by_name = {graph.spec(t).name: graph.spec(t) for t in (*graph.inputs, *graph.outputs)}
    states = []
    for pair in pairs:
        given, _, output = pair.partition("=")
        if given not in by_name or output not in by_name:
            raise UsageError(f"--state {pair}: wanted INPUT=OUTPUT of {', '.join(by_name)}")
        a, b = by_name[given], by_name[output]
        if (a.shape, a.dtype) != (b.shape, b.dtype):
            raise UsageError(f"--state {pair}: {a.dtype}{list(a.shape)} is fed from"
                             f" {b.dtype}{list(b.shape)}")
        states.append(State(given, output))
    return tuple(states)


def guess_image(graph: Graph) -> ImageInput | None:
    """The first input as a picture, when it has the shape of one: [1, height, width, 1|3]."""
    spec = graph.spec(graph.inputs[0])
    if len(spec.shape) != 4 or spec.shape[0] != 1 or spec.channels not in (1, 3):
        return None
    if spec.dtype not in ("float32", "uint8", "int8"):
        return None
    _, height, width, channels = spec.shape
    if _DETECTION in {op.name for op in graph.ops}:
        # A detector wants the whole scene, and its boxes are relative to what it was given.
        return ImageInput(spec.name, height, width, channels, crop=1.0, keep_aspect=False)
    # Classifiers of photographs are evaluated on the centre 7/8 of the shorter side; tiny
    # inputs are thumbnails that were never cropped.
    crop = 0.875 if min(height, width) >= 96 else 1.0
    return ImageInput(spec.name, height, width, channels, crop=crop)


def guess_answer(graph: Graph, labels: tuple[str, ...]) -> Answer:
    """Detection for the detection post-process, classification for one row of scores."""
    makers = {t: op.name for op in graph.ops for t in op.outputs}
    if makers.get(graph.outputs[0]) == _DETECTION:
        return Answer("detection", labels)
    if len(graph.outputs) == 1:
        shape = graph.spec(graph.outputs[0]).shape
        if len(shape) == 2 and shape[0] == 1 and shape[1] > 1:
            return Answer("classification", labels)
        if len(shape) == 3 and shape[0] == 1 and labels and shape[2] == len(labels):
            return Answer("sequence", labels)
    return Answer("tensors", labels)


def read_labels(path: str | Path) -> tuple[str, ...]:
    """One label a line."""
    try:
        return tuple(Path(path).read_text("utf-8").splitlines())
    except (OSError, UnicodeDecodeError) as e:
        why = getattr(e, "strerror", None) or e
        raise UsageError(f"cannot read labels from {path}: {why}") from None


def packed_labels(source: bytes) -> tuple[str, ...]:
    """Labels that the model carries as an associated file (TFLite Metadata), if any."""
    try:
        with zipfile.ZipFile(io.BytesIO(source)) as archive:
            for name in archive.namelist():
                if name.endswith(".txt") and "label" in name:
                    return tuple(archive.read(name).decode("utf-8").splitlines())
    except (zipfile.BadZipFile, UnicodeDecodeError, NotImplementedError, RuntimeError):
        pass          # no archive at the end of the file: most models have none
    return ()


def checked_labels(graph: Graph, labels: tuple[str, ...], *, wanted: bool) -> tuple[str, ...]:
    """Labels as they fit the model's classes; of labels nobody asked for, none if not."""
    classes = graph.spec(graph.outputs[0]).channels
    shape = graph.spec(graph.outputs[0]).shape
    if labels and len(shape) in (2, 3) and len(labels) != classes:
        if wanted:
            raise BundleError(f"{len(labels)} labels for {classes} classes")
        return ()
    return labels
