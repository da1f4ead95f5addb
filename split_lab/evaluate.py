"""What coding at a cut costs and does, measured without a broker.

The head runs once on every view of every input; what crosses the cut and what the whole model
answers are kept, so that many methods are judged on the same frames: `collect`, then
`judge_method` for each. A method is charged for the bytes it makes, and the tail answers from
what it decodes, through the real runtime.

Intervals are bootstrap intervals of 95 % that resample inputs, not frames: the views of one
photograph are no independent witnesses. Every evaluation of as many inputs draws the same
resamples, so that two methods on the same frames are compared pair by pair.
"""

from __future__ import annotations

import tempfile
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from split_core.errors import UsageError
from split_core.model.bundle import Bundle, open_bundle, source_model
from split_core.model.cuts import find_cuts
from split_core.model.graph import read_graph
from split_core.tensors import TensorSpec
from split_lab.intervals import Interval, mean_interval, p95_interval
from split_lab.judge import Judge
from split_lab.methods import Live, Method, make_method, need_picture
from split_lab.progress import Progress
from split_lab.views import CROPS, list_inputs, views as views_of

VIEWS = {"hard": 8, "centre": 1}      # of one photograph, unless asked otherwise
_CALIBRATION_FILES, _CALIBRATION_VIEWS = 100, 2

OnProgress = Callable[[int, int], None]


# -- frames


@dataclass(frozen=True)
class Frames:
    """Views of inputs, as far as all methods at one cut share them."""

    bundle: Bundle
    cut: int
    crops: str
    seed: int
    judge: Judge
    files: list[Path]
    groups: np.ndarray               # [frames], index of the file
    boundary: Live                   # [frames, *shape]: what crosses
    outputs: list[Live]              # a frame's judged outputs that the head has made already
    reference: list[list[np.ndarray]]

    def __len__(self) -> int:
        return len(self.groups)

    @property
    def specs(self) -> tuple[TensorSpec, ...]:
        return self.bundle.boundary(self.cut)

    @property
    def classes(self) -> int:
        """Of a model that answers with a best class; 0 for others."""
        kinds = ("classification", "sequence")
        ranked = self.bundle.manifest.answer.kind in kinds and len(self.judge.names) == 1
        return self.reference[0][0].shape[-1] if ranked else 0

    def live(self, index: int) -> Live:
        """What crosses, of one frame."""
        return {name: array[index] for name, array in self.boundary.items()}


def collect(bundle: Bundle, files: Sequence[Path], cut: int, *, crops: str = "hard",
            views: int | None = None, seed: int = 0, runtime: str | None = None,
            on_progress: OnProgress = lambda done, total: None) -> Frames:
    """Run the head on ``views`` views of each file and the whole model on what it gives.

    A photograph's crops depend on ``seed`` and its name alone. Raises UsageError for a cut
    without a tail, InputError for a file that is no input.
    """
    _check_cut(bundle, cut)
    count = _view_count(crops, views)
    source = source_model(bundle.path.read_bytes())
    graph = read_graph(source)
    judge = Judge(source, graph, [c for c in find_cuts(graph) if c.cut == cut],
                  states=bundle.manifest.states, runtime=runtime)
    if cut > judge.heads.cut:
        raise UsageError(f"cut {cut} is behind what the model is judged by (cut"
                         f" {judge.heads.cut}): choose an earlier one")
    boundary = {s.name: _spilled(s, len(files) * count) for s in bundle.boundary(cut)}
    outputs, groups, reference = [], [], []
    for number, file in enumerate(files):
        rng = np.random.default_rng((seed, zlib.crc32(file.name.encode())))
        wanted = {"centre": 0, "hard": 0} | {crops: count}
        for view in views_of(bundle, file, **wanted, rng=rng):
            tensors = judge.run(view.arrays, 0, cut)
            for name, array in boundary.items():
                array[len(groups)] = tensors[name]
            outputs.append({n: tensors[n] for n in judge.names
                            if n in tensors and n not in boundary})
            groups.append(number)
            reference.append(judge.answer(tensors, cut))
        on_progress(number + 1, len(files))
    judge.learn(reference)
    return Frames(bundle, cut, crops, seed, judge, list(files), np.array(groups),
                  {n: a[:len(groups)] for n, a in boundary.items()}, outputs, reference)


def _spilled(spec: TensorSpec, frames: int) -> np.ndarray:
    """A tensor of many frames in a nameless file, mapped: at cut 0 of a float model they
    would not fit into memory."""
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, spec.np_dtype, "w+", shape=(frames, *spec.shape)).view(np.ndarray)


def _check_cut(bundle: Bundle, cut: int) -> None:
    cuts = [c.cut for c in bundle.manifest.cuts if c.cut < bundle.last_cut]
    if cut not in cuts:
        raise UsageError(f"no cut {cut} with a tail in {bundle.manifest.name}; there are"
                         f" {', '.join(map(str, cuts))}")


def _view_count(crops: str, views: int | None) -> int:
    if crops not in CROPS:
        raise UsageError(f"crops {crops!r}: wanted {' or '.join(CROPS)}")
    count = VIEWS[crops] if views is None else views
    if count < 1 or (crops == "centre" and count > 1):
        raise UsageError(f"{count} {crops} views of a photograph: wanted"
                         f" {'1 (they are all alike)' if crops == 'centre' else '1 or more'}")
    return count


# -- judging


@dataclass(frozen=True)
class Evaluation:
    """One method on some frames. Arrays are [frames]; what is not known is NaN."""

    frames: Frames
    method: str
    bytes: np.ndarray
    divergence: np.ndarray           # as Judge measures it: nats for classifiers
    agree: np.ndarray                # 1.0 where the best class is the whole model's
    correct: np.ndarray
    whole_correct: np.ndarray        # of the whole model
    encode_s: np.ndarray
    decode_s: np.ndarray

    def mean(self, figure: str) -> Interval | None:
        """Mean of one of the arrays, by name; None where nothing is known."""
        return mean_interval(getattr(self, figure), self.frames.groups)

    def report(self) -> dict:
        """What `evaluate --json` prints."""
        def shown(interval: Interval | None) -> dict | None:
            return interval and asdict(interval)

        frames, manifest = self.frames, self.frames.bundle.manifest
        return {
            "bundle": frames.bundle.id_hex, "model": manifest.name, "cut": frames.cut,
            "method": self.method, "crops": frames.crops, "seed": frames.seed,
            "runtime": frames.judge.runtime,
            "inputs": len(frames.files), "frames": len(frames),
            "raw_bytes": sum(s.nbytes for s in frames.specs),
            "elements": sum(s.elements for s in frames.specs),
            "divergence_kind": "kl_nats" if frames.judge.heads.softmax else "squared_error",
            "mean_bytes": shown(self.mean("bytes")),
            "p95_bytes": shown(p95_interval(self.bytes, frames.groups)),
            "mean_divergence": shown(self.mean("divergence")),
            "agreement": shown(self.mean("agree")),
            "accuracy": shown(self.mean("correct")),
            "whole_accuracy": shown(self.mean("whole_correct")),
            "labelled": int(np.isfinite(self.correct).sum()),
            "median_encode_us": round(1e6 * float(np.median(self.encode_s)), 1),
            "median_decode_us": round(1e6 * float(np.median(self.decode_s)), 1),
        }


def judge_method(frames: Frames, method: Method, labels: np.ndarray | None = None,
                 on_progress: OnProgress = lambda done, total: None) -> Evaluation:
    """Carry every frame across the cut by ``method`` and let the tail answer; ``labels`` is
    the class of each file, -1 where it is not known."""
    arrays = np.full((7, len(frames)), np.nan)
    nbytes, divergence, agree, correct, whole_correct, encode_s, decode_s = arrays
    for i, group in enumerate(frames.groups):
        live = frames.live(i)
        begin_s = time.perf_counter()
        nbytes[i], coded = method.encode(live)
        middle_s = time.perf_counter()
        decoded = method.decode(coded)
        encode_s[i], decode_s[i] = middle_s - begin_s, time.perf_counter() - middle_s
        answer = frames.judge.answer({**frames.outputs[i], **decoded}, frames.cut)
        divergence[i] = frames.judge.divergence(frames.reference[i], answer)
        if frames.classes:
            best, wanted = (a[0].argmax(-1).ravel() for a in (answer, frames.reference[i]))
            agree[i] = np.mean(best == wanted)
            if labels is not None and labels[group] >= 0:
                correct[i] = np.mean(best == labels[group])
                whole_correct[i] = np.mean(wanted == labels[group])
        on_progress(i + 1, len(frames))
    return Evaluation(frames, method.name, *arrays)


def evaluate(bundle: Bundle, files: Sequence[Path], method: str, cut: int,
             **options) -> Evaluation:
    """One method ("q4", "clip8", "avif80": see `make_method`) on files; options as `collect`."""
    frames = collect(bundle, files, cut, **options)
    return judge_method(frames, make_method(frames, method))


# -- labels


def read_labels(labels: str, frames: Frames, inputs: str | Path,
                offset: int | None = None) -> np.ndarray:
    """The class of each file of ``frames``, -1 where none is known.

    ``labels`` is a file of lines "PREFIX INDEX", whose prefix begins the file's name or its
    path below ``inputs`` (the longest counts), or the word "folders": the place of the folder
    below ``inputs`` among its sorted neighbours. ``offset`` is added to the indices; without
    it 1 where the model has a background class in front (1001 outputs, the largest index
    999), else 0. Raises UsageError.
    """
    if frames.bundle.manifest.answer.kind != "classification" or not frames.classes:
        raise UsageError("labels are for models that answer with one class")
    root = Path(inputs) if Path(inputs).is_dir() else Path(inputs).parent
    paths = [f.relative_to(root) for f in frames.files]
    table = (_folder_labels(root, frames.classes) if labels == "folders"
             else _label_table(labels))
    if offset is None:
        offset = int(frames.classes == 1001 and max(table.values()) == 999)
    lengths = sorted({len(prefix) for prefix in table}, reverse=True)

    def label(path: Path) -> int:
        for length in lengths:
            for name in (path.name, path.as_posix()):
                if name[:length] in table:
                    return table[name[:length]] + offset
        return -1

    found = np.array([label(p) for p in paths])
    if (found < 0).all():
        raise UsageError(f"{labels}: no label for any of {len(paths)} inputs, {paths[0]} first")
    if found.max() >= frames.classes:
        raise UsageError(f"{labels}: label {found.max()} (offset {offset}), the model has"
                         f" {frames.classes} classes")
    return found


def _label_table(file: str) -> dict[str, int]:
    table = {}
    try:
        lines = Path(file).read_text("utf-8").strip().splitlines()
    except (OSError, UnicodeDecodeError) as e:
        raise UsageError(f"cannot read labels {file}: {e}") from None
    for number, line in enumerate(lines, 1):
        parts = line.rsplit(None, 1)
        if len(parts) != 2 or not parts[1].isdecimal():
            raise UsageError(f"{file}, line {number}: {line!r}, wanted a prefix of file names"
                             " and a class index")
        table[parts[0].strip()] = int(parts[1])
    if not table:
        raise UsageError(f"{file}: no labels")
    return table


def _folder_labels(root: Path, classes: int) -> dict[str, int]:
    folders = sorted(p.name for p in root.iterdir() if p.is_dir())
    if len(folders) != classes:
        raise UsageError(f"{len(folders)} folders in {root}, the model has {classes} classes:"
                         " give a file of lines 'FOLDER INDEX'")
    return {f"{folder}/": index for index, folder in enumerate(folders)}


# -- the command


def run_evaluate(path: str, inputs: str, *, method: str, cut: int, samples: int | None = None,
                 crops: str = "hard", views: int | None = None, labels: str | None = None,
                 label_offset: int | None = None, calibration: str | None = None,
                 seed: int = 0, runtime: str | None = None) -> dict:
    """The report of `edge-agent evaluate`. Raises SplitError."""
    if samples is not None and samples < 1:
        raise UsageError(f"--samples {samples}: wanted 1 or more")
    bundle = open_bundle(path)
    if method.startswith(("jpeg", "webp", "avif")):
        need_picture(bundle, cut, method)
    options = {"crops": crops, "seed": seed, "runtime": runtime}
    calibrating = None
    if calibration and method.startswith("clip"):
        calibrating = collect(bundle, list_inputs(calibration, _CALIBRATION_FILES), cut,
                              views=min(_view_count(crops, views), _CALIBRATION_VIEWS),
                              on_progress=Progress("calibration"), **options)
    frames = collect(bundle, list_inputs(inputs, samples), cut, views=views,
                     on_progress=Progress("whole model"), **options)
    known = None if labels is None else read_labels(labels, frames, inputs, label_offset)
    return judge_method(frames, make_method(frames, method, calibrating), known,
                        Progress(method)).report()


def render(report: Mapping[str, Any]) -> str:
    """The report for people."""
    rows = [f"{report['model']}, cut {report['cut']}, {report['method']}: {report['frames']}"
            f" frames of {report['inputs']} inputs, {report['crops']} crops",
            f"{'':<24}{'':>10}   95 % interval"]
    for title, field, form in (
            ("bytes, mean", "mean_bytes", ".0f"), ("bytes, 95 % are below", "p95_bytes", ".0f"),
            ("divergence", "mean_divergence", ".5f"), ("agreement", "agreement", ".2%"),
            ("accuracy", "accuracy", ".2%"),
            ("accuracy, whole model", "whole_accuracy", ".2%")):
        figure = report[field]
        if figure is not None:
            rows.append(f"{title:<24}{figure['value']:>10{form}}   {figure['low']:{form}} to"
                        f" {figure['high']:{form}}")
    rows.append(f"{'encode, decode':<24}{report['median_encode_us']:>10.0f} us,"
                f" {report['median_decode_us']:.0f} us (medians)")
    return "\n".join(rows)
