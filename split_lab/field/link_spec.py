"""What an emulated link is like, in a value, and how people write it.

A link is a rate (a recorded trace, a constant, steps, or a synthetic trace), a round trip, and
what goes wrong. From one spec come the virtual link of a simulator and the emulator's, which
is why the two agree.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path as FilePath

import numpy as np

from split_core.errors import InputError, UsageError
from split_core.quantities import MAX_BPS, RATE_FORMS, parse_rate, rate_or_none
from split_lab.field.uplink import (
    UNLIMITED_BPS,
    Constant,
    Faulty,
    Opportunities,
    Path,
    Rate,
    Steps,
    Uplink,
    synthetic,
)

# Over ten times the longest of mahimahi's own (5 MB); 16 minutes at 100 Mbit/s are 56 MB.
MAX_TRACE_BYTES = 64 * 1024 * 1024
# Longer than any drive; in another unit (microseconds, dates) times are over it.
MAX_TRACE_S = 7 * 86_400
# Long enough that a field test does not see its loop.
SYNTHETIC_S = 600.0
# Five million opportunities; more would only cost memory.
MAX_SYNTHETIC_BPS = 1e8


@dataclass(frozen=True)
class LinkSpec:
    """A link between a device and a broker. Spans are (start_s, length_s) since time zero."""

    rate: Rate
    rtt_s: float = 0.05
    """The shortest round trip, half of it each way; queueing and jitter come on top."""
    jitter_s: float = 0.0
    """Each way is up to so much longer, following a seeded line; nothing overtakes."""
    outages: tuple[tuple[float, float], ...] = ()
    """When the uplink delivers nothing."""
    black_holes: tuple[tuple[float, float], ...] = ()
    """When nothing moves either way and nobody new gets in; connections stay open."""
    downlink_bps: float | None = None
    """A constant rate, or no limit."""
    seed: int = 0
    """Of the jitter."""
    offset_s: float = 0.0
    """Where in the rate's own time the link begins; outages and black holes are not moved."""

    def __post_init__(self) -> None:
        for name in ("rtt_s", "jitter_s", "offset_s"):
            _check(name, getattr(self, name), "seconds, zero or more", lambda v: v >= 0)
        _check("seed", self.seed, "a whole number, zero or more",
               lambda v: isinstance(v, int) and v >= 0)
        if self.downlink_bps is not None:
            _check("downlink_bps", self.downlink_bps, "a rate over zero", lambda v: v > 0)
        for name in ("outages", "black_holes"):
            for span in getattr(self, name):
                if len(span) != 2 or not all(map(math.isfinite, span)) or min(span) < 0:
                    raise UsageError(f"{name}: found {span!r}, wanted (start_s, length_s), "
                                     "both zero or more")

    @classmethod
    def parse(cls, text: str, **fields) -> LinkSpec:
        """From a trace's path, a rate, `step:10Mbit@30,0.5Mbit@30` (rate for so many seconds,
        then the next, looping) or `synthetic:SEED,0.8Mbit`; the other fields as given."""
        return cls(parse_link_rate(text), **fields)

    def uplink(self) -> Uplink:
        """The way from the device, empty."""
        rate = Faulty(self.rate, self.offset_s, (*self.outages, *self.black_holes))
        return Uplink(rate, self._path(0))

    def downlink(self) -> Uplink:
        """The way to the device, empty."""
        rate = Constant(self.downlink_bps or UNLIMITED_BPS)
        return Uplink(Faulty(rate, 0.0, self.black_holes), self._path(1))

    def _path(self, direction: int) -> Path:
        return Path(self.rtt_s / 2, self.jitter_s, (self.seed, direction), self.black_holes)


def parse_link_rate(text: str) -> Rate:
    """The rate that `LinkSpec.parse` takes."""
    kind, colon, rest = text.partition(":")
    if colon and kind == "step":
        return Steps(_steps(rest))
    if colon and kind == "synthetic":
        return _synthetic(rest)
    if rate_or_none(text) is not None:
        return Constant(parse_rate(text))
    if not FilePath(text).is_file():
        raise UsageError(f"link: found {text!r}, wanted the path of a trace (no such file), a rate "
                         f"({RATE_FORMS}), 'step:RATE@SECONDS,...' or 'synthetic:SEED,RATE'")
    return load_trace(text)


def load_trace(path: str | FilePath) -> Opportunities:
    """A mahimahi trace: one line a 1500-byte opportunity, in milliseconds, sorted."""
    path = FilePath(path)
    try:
        size = path.stat().st_size
        if size > MAX_TRACE_BYTES:
            raise InputError(f"{path}: found {size} bytes, wanted a trace of at most "
                             f"{MAX_TRACE_BYTES}")
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise InputError(f"{path}: cannot read this trace: {error}") from error
    while lines and not lines[-1].strip():
        lines.pop()
    if not lines:
        raise InputError(f"{path}: found an empty file, wanted one time in ms on each line")
    times_ms = np.empty(len(lines), dtype=np.int64)
    for i, line in enumerate(lines):
        times_ms[i] = _time_ms(path, i, line)
    falls = np.flatnonzero(np.diff(times_ms) < 0)
    if len(falls):
        i = int(falls[0])
        raise InputError(f"{path}, line {i + 2}: found {times_ms[i + 1]} after {times_ms[i]}, "
                         "wanted times in order")
    if times_ms[-1] == 0:
        raise InputError(f"{path}: found 0 as its last time, wanted a period to loop with")
    return Opportunities(times_ms)


def _time_ms(path: FilePath, i: int, line: bytes) -> int:
    word = line.strip()
    # isdigit keeps out signs, underscores and blanks, which int() takes; and the length comes
    # first, for int() refuses thousands of digits with an error of its own.
    if len(word) <= 18 and word.isdigit() and int(word) <= MAX_TRACE_S * 1000:
        return int(word)
    found = word[:40].decode("utf-8", "replace")
    raise InputError(f"{path}, line {i + 1}: found {found!r}, wanted a time in ms, a whole number "
                     f"from 0 to {MAX_TRACE_S * 1000}")


def _steps(text: str) -> list[tuple[float, float]]:
    steps = []
    for part in text.split(","):
        rate, at, length = part.partition("@")
        bps, length_s = rate_or_none(rate), _number(length)
        if bps is None or not at or not bps <= MAX_BPS or not 0 < length_s <= MAX_TRACE_S:
            raise UsageError(f"step: found {part!r}, wanted RATE@SECONDS such as '0.5Mbit@30'; "
                             f"a rate is {RATE_FORMS}, or 0")
        steps.append((bps, length_s))
    if not any(bps for bps, _ in steps):
        raise UsageError(f"step: found {text!r}, wanted at least one rate over zero")
    return steps


def _synthetic(text: str) -> Opportunities:
    seed, comma, rate = text.partition(",")
    if not comma or not seed.strip().isdecimal():
        raise UsageError(f"synthetic: found {text!r}, wanted SEED,RATE such as '7,0.8Mbit'")
    bps = parse_rate(rate)
    if bps > MAX_SYNTHETIC_BPS:
        raise UsageError(f"synthetic: found {rate!r}, wanted at most 100Mbit")
    return synthetic(int(seed), bps, SYNTHETIC_S)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _check(name: str, value: float, wanted: str, right) -> None:
    if not math.isfinite(value) or not right(value):
        raise UsageError(f"{name}: found {value!r}, wanted {wanted}")
