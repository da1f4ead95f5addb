"""Control records: small JSON documents with a fixed set of fields, retained on the broker.

Unknown fields are ignored, so that an older reader understands a newer writer.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

import msgspec

from split_core.errors import MessageError

T = TypeVar("T", bound=msgspec.Struct)
# Beyond an hour a time is a mistake, or an attempt to be preferred.
Seconds = Annotated[float, msgspec.Meta(ge=0, le=3600)]
NotNegative = Annotated[float, msgspec.Meta(ge=0, le=1e15)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
Ratio = Annotated[float, msgspec.Meta(ge=0, le=1)]
# An id, a name of a stage or outcome, 64 hexadecimal digits.
Word = Annotated[str, msgspec.Meta(max_length=96)]


class DeviceStatus(msgspec.Struct, frozen=True):
    """Retained on ``up/status``; the last will is the same with state "lost"."""

    state: Literal["ready", "stopped", "lost"]
    session: str                     # hex; a "lost" of another session is an old one's death


class WorkerStatus(msgspec.Struct, frozen=True):
    """Retained on a worker's ``up/status``. ``bundles``: ids (hex) it can run at once."""

    state: Literal["ready", "stopped", "lost"]
    session: str
    bundles: tuple[str, ...] = ()


class DeviceInfo(msgspec.Struct, frozen=True):
    """Retained on ``up/info``: what this device runs."""

    version: str
    wire_versions: tuple[int, ...]
    bundle: str
    model: str
    cuts: tuple[int, ...]
    runtime: str
    deadline_ms: float


class WorkerInfo(msgspec.Struct, frozen=True):
    version: str
    wire_versions: tuple[int, ...]
    runtime: str


class WorkerLoad(msgspec.Struct, frozen=True):
    """Retained on a worker's ``up/load``, renewed when it changes and every few seconds."""

    queue_s: Seconds                 # how long a frame that came now would wait
    busy_ratio: Annotated[float, msgspec.Meta(ge=0, le=1)]       # of the last few seconds
    broker_rtt_s: Seconds = 0.0      # its own way to the broker and back; 0: not measured


class PlanRecord(msgspec.Struct, frozen=True):
    """Retained on ``up/plan``: where the device cuts now and why."""

    plan_id: Count
    cut: Count
    rung: str
    worker: str | None
    reason: str
    coarsest: str | None = None
    race: bool = False
    predicted: dict[str, float | None] | None = None


class LinkHealth(msgspec.Struct, frozen=True):
    """A device's connection to the broker."""

    up: bool
    reconnects: Count                # since the start; the first connection is none
    rtt_ms: NotNegative | None = None
    rate_bps: NotNegative | None = None      # bits a second, believed of the uplink
    signal_dbm: Annotated[float, msgspec.Meta(ge=-200, le=100)] | None = None    # by Wi-Fi


class DeviceHealth(msgspec.Struct, frozen=True, kw_only=True):
    """Published on ``up/health`` every few seconds, not retained: how the device fares. Numbers
    without another word are of the last ``window_s``; null is unknown."""

    at: Annotated[str, msgspec.Meta(max_length=40)]      # RFC 3339, by the device's clock
    uptime_s: NotNegative
    window_s: NotNegative
    state: Literal["ready", "stopped", "lost"]
    frames: Annotated[dict[Word, Count], msgspec.Meta(max_length=16)]    # by outcome
    totals: Annotated[dict[Word, Count], msgspec.Meta(max_length=16)]    # since the start
    late: Count
    fps: NotNegative                 # frames that ended with an answer, a second
    p50_ms: NotNegative | None       # capture to answer
    p95_ms: NotNegative | None
    stages_ms: Annotated[dict[Word, NotNegative], msgspec.Meta(max_length=32)]   # medians
    cut: Count
    rung: Word
    plan_id: Count
    worker: Word | None
    payload_bytes: NotNegative | None        # mean of the frames that were sent
    sent_bytes: Count                # of frames, since the start
    link: LinkHealth
    battery_ratio: Ratio | None
    mains: bool | None
    temperature_c: Annotated[float, msgspec.Meta(ge=-273, le=1000)] | None
    throttled: bool | None
    cpu_busy_ratio: Ratio | None
    memory_bytes: Count
    memory_max_bytes: Count | None   # the ceiling, where there is one
    results_waiting: Count
    results_lost: Count              # since the start
    bundle: Word                     # its id, hex
    model: Annotated[str, msgspec.Meta(max_length=256)]
    aim: Word                        # of the policy in force


def dump(record: msgspec.Struct) -> bytes:
    return msgspec.json.encode(record)


def load(data: bytes, kind: type[T]) -> T:
    """Raises MessageError with the path of what is wrong."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as e:
        raise MessageError(f"{kind.__name__}: {e}") from None
