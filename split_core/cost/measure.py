"""Measures a profile: every segment in turn, round by round, then the codings at every cut.

In rounds, so that a machine that throttles or is busy for a while slows all segments alike.
What flows matters: of zeros all entropy coders are unrealistically fast (on MobileNetV2's
input WebP takes a quarter and 4 bits take half of the time), as are kernels that skip them. So
inputs are given, or are picture-like noise. Segments run as the device runs them, with a copy
of what they make.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timezone

import numpy as np

from split_core.cost.machine import machine_id
from split_core.cost.profile import CodingTime, Profile, Timing
from split_core.model.bundle import Bundle
from split_core.model.manifest import ImageInput
from split_core.model.runner import Runner, zeros
from split_core.tensors import TensorSpec
from split_core.wire.payload import Coder
from split_core.wire.quality import encode
from split_core.wire.rungs import Rung

_CALIBRATED = ("kl0.02", "kl0.08")
_PLAIN = ("q4", "raw")
_PICTURES = ("jpeg85", "webp85")
# The first run of a segment allocates it and packs its weights, the second still warms caches.
_WARM_ROUNDS = 2
_LEAST_ROUNDS, _LEAST_CODINGS = 5, 3
# Of the budget; codings vary less from run to run.
_SEGMENTS_SHARE = 0.6
# Boundaries that are held for the codings: of so many inputs, while they are no larger.
_HELD_INPUTS, _HELD_BYTES = 4, 64 << 20
_NOISE_INPUTS = 2
_SEED = 20060216          # any; fixed so that two profiles ran on the same
# Fine noise over smooth colours, of 255: MobileNetV2's input is then 16.1 kB as JPEG at 85 (8
# photographs: 15.1) and 7.0 as WebP (8.1), its cuts at kl0.02 code to 0.92 to 1.12 of theirs up
# to the 40th op and to 0.7 to 0.8 near the end, where a picture of nothing has little to say.
_GRAIN = 4.0

Tensors = dict[str, np.ndarray]
Clock = Callable[[], float]


def measure(bundle: Bundle, *, runtime: str | None = None, threads: int = 1,
            budget_s: float = 3.0, samples: Sequence[Mapping[str, np.ndarray]] | None = None,
            progress: Callable[[int, int], None] | None = None, machine: str | None = None,
            made: str | None = None, clock: Clock = time.perf_counter) -> Profile:
    """The profile of a bundle on this machine, in about ``budget_s`` or the fewest rounds.

    ``samples`` are model inputs by name; without any, seeded noise. ``progress`` is told
    percents; ``made`` is the date and time to write down. Raises BundleError, ConfigError.
    """
    progress = progress or (lambda done, total: None)
    inputs = list(samples or plausible_inputs(bundle))
    runner = Runner(bundle, runtime=runtime, threads=threads)
    for _ in range(_WARM_ROUNDS):
        _round(runner, inputs[0], clock)
        progress(0, 100)
    begin_s = clock()

    def report() -> None:
        progress(min(99, int(100 * (clock() - begin_s) / max(budget_s, 1e-3))), 100)

    rounds, held = [], _Held(bundle)
    while len(rounds) < _LEAST_ROUNDS or clock() - begin_s < _SEGMENTS_SHARE * budget_s:
        sample = inputs[len(rounds) % len(inputs)]
        keep = held if len(rounds) < min(len(inputs), _HELD_INPUTS) else None
        rounds.append(_round(runner, sample, clock, keep))
        report()
    codings = _Codings(bundle, held, clock)
    done = 0
    while done < _LEAST_CODINGS or clock() - begin_s < budget_s:
        for _ in codings.round():
            report()
        done += 1
    progress(100, 100)
    taken = np.array(rounds)
    return Profile(
        bundle=bundle.id_hex, machine=machine or machine_id(), runtime=runner.runtime,
        threads=threads, segments=tuple(_timing(column) for column in taken.T),
        codings=codings.times(), whole_s=_round_s(np.median(taken.sum(axis=1))),
        made=made or datetime.now(timezone.utc).isoformat(timespec="seconds"))


def _round(runner: Runner, sample: Mapping[str, np.ndarray], clock: Clock,
           held: _Held | None = None) -> list[float]:
    """Run every segment once; how long each took."""
    live, taken = dict(sample), []
    if held is not None:
        held.add(0, live)
    for index in range(len(runner.bundle.manifest.segments)):
        begin_s = clock()
        made = runner.run_segment(index, live)
        taken.append(clock() - begin_s)
        live.update(made)
        runner.forget_used(live, index)
        if held is not None:
            held.add(index + 1, live)
    return taken


def _timing(taken: np.ndarray) -> Timing:
    low, middle, high = np.percentile(taken, (10, 50, 90))
    return Timing(_round_s(middle), _round_s((high - low) / 2))


def _round_s(seconds: float) -> float:
    """To a tenth of a microsecond: the clock has no more, and the record stays short."""
    return round(float(seconds), 7)


class _Held:
    """The tensors at every cut, of a few inputs."""

    def __init__(self, bundle: Bundle):
        self._bundle, self._bytes = bundle, 0
        self.at: dict[int, list[Tensors]] = {c.cut: [] for c in bundle.manifest.cuts}

    def add(self, index: int, live: Tensors) -> None:
        entry = self._bundle.manifest.cuts[index]
        if self.at[entry.cut] and self._bytes > _HELD_BYTES:
            return
        tensors = {n: live[n] for n in entry.boundary}
        self._bytes += sum(a.nbytes for a in tensors.values())
        self.at[entry.cut].append(tensors)


class _Codings:
    """Every cut's rungs, encoded as the device does and decoded as the worker does."""

    def __init__(self, bundle: Bundle, held: _Held, clock: Clock):
        self._bundle, self._held, self._clock = bundle, held, clock
        options = {"clips": bundle.clips, "image": bundle.manifest.image,
                   "codings": bundle.codings}
        states = {s.input for s in bundle.manifest.states}
        self._agent, self._worker = Coder(**options, lossless=states), Coder(**options)
        self._turn = 0
        # Each is run once unmeasured, which unpacks the tables and finds out what works here.
        self._taken: dict[tuple[int, str], list[tuple[float, float, int]]] = {
            (cut, rung): [] for cut, rung in rungs_that_matter(bundle) if self._works(cut, rung)}

    def _works(self, cut: int, rung: str) -> bool:
        try:
            self._once(cut, rung)
        except (ImportError, KeyError, OSError):
            if rung not in _PICTURES:
                raise
            return False              # no Pillow here, or one without this format
        return True

    def round(self) -> Iterator[None]:
        """Each coding once, of the next input that is held."""
        for (cut, rung), taken in self._taken.items():
            taken.append(self._once(cut, rung))
            yield
        self._turn += 1

    def _once(self, cut: int, rung: str) -> tuple[float, float, int]:
        held, specs = self._held.at[cut], self._bundle.boundary(cut)
        tensors = held[self._turn % len(held)]
        arrays = [tensors[s.name] for s in specs]
        parsed, rate = Rung.parse(rung), self._bundle.rate(cut)
        begin_s = self._clock()
        payload = encode(self._agent, arrays, specs, parsed, rate).payload
        coded_s = self._clock()
        self._worker.decode(memoryview(payload), specs)
        return coded_s - begin_s, self._clock() - coded_s, len(payload)

    def times(self) -> tuple[CodingTime, ...]:
        """Medians of the times, the mean of the bytes."""
        return tuple(
            CodingTime(cut, rung, *(_round_s(np.median(t)) for t in (encoded, decoded)),
                       round(float(np.mean(nbytes)), 1))
            for (cut, rung), taken in self._taken.items()
            for encoded, decoded, nbytes in [zip(*taken)])


def rungs_that_matter(bundle: Bundle) -> Iterator[tuple[int, str]]:
    """Cuts and rungs to measure: of the input pictures first; where there are tables two
    qualities of these, else 4 bits and no loss."""
    image = bundle.manifest.image
    for entry in bundle.manifest.cuts:
        if not entry.boundary or entry.cut == bundle.last_cut:
            continue
        if entry.cut == 0 and image is not None and image.tensor in entry.boundary:
            yield from ((0, rung) for rung in _PICTURES)
        yield from ((entry.cut, rung) for rung in (_CALIBRATED if entry.rate else _PLAIN))


def plausible_inputs(bundle: Bundle) -> list[Tensors]:
    """Model inputs where none are given: picture-like noise for an image, noise for numbers,
    zeros for indices and for state before the first frame."""
    rng, image = np.random.default_rng(_SEED), bundle.manifest.image
    states = {s.input for s in bundle.manifest.states}

    def one(spec: TensorSpec) -> np.ndarray:
        if spec.name in states:
            return zeros(spec)
        if image is not None and image.tensor == spec.name:
            return _picture(image, spec, rng)
        return _numbers(spec, rng)

    return [{n: one(bundle.specs[n]) for n in bundle.manifest.inputs}
            for _ in range(_NOISE_INPUTS)]


def _picture(image: ImageInput, spec: TensorSpec, rng: np.random.Generator) -> np.ndarray:
    """Smooth colours, a new one every 16 pixels, under fine noise."""
    shape = (image.height, image.width, image.channels)
    coarse = rng.uniform(0, 255, (shape[0] // 16 + 2, shape[1] // 16 + 2, shape[2]))
    for axis in (0, 1):
        at = np.arange(shape[axis]) / 16
        low = at.astype(int)
        share = (at - low).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        coarse = coarse.take(low, axis) * (1 - share) + coarse.take(low + 1, axis) * share
    noisy = coarse + rng.normal(0, _GRAIN, shape)
    samples = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
    return _from_samples(samples, image, spec).reshape(spec.shape)


def _from_samples(samples: np.ndarray, image: ImageInput, spec: TensorSpec) -> np.ndarray:
    # As `pictures.from_samples`, which a device without Pillow has not.
    if spec.dtype == "uint8":
        return samples
    if spec.dtype == "int8":
        return (samples ^ 0x80).view(np.int8)
    return (samples * np.float32(image.scale) + np.float32(image.offset)).astype(spec.np_dtype)


def _numbers(spec: TensorSpec, rng: np.random.Generator) -> np.ndarray:
    kind, size = spec.np_dtype.kind, spec.np_dtype.itemsize
    if kind == "f":
        return rng.standard_normal(spec.shape).astype(spec.np_dtype)
    if kind == "b":
        return rng.random(spec.shape) < 0.5
    if size > 2:
        return zeros(spec)            # most likely an index: 0 is in range
    info = np.iinfo(spec.np_dtype)
    return rng.integers(info.min, info.max + 1, spec.shape, spec.np_dtype)
