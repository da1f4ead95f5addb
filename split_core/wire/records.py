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

    plan_id: int
    cut: int
    rung: str
    worker: str | None
    reason: str
    coarsest: str | None = None
    race: bool = False
    predicted: dict[str, float | None] | None = None


def dump(record: msgspec.Struct) -> bytes:
    return msgspec.json.encode(record)


def load(data: bytes, kind: type[T]) -> T:
    """Raises MessageError with the path of what is wrong."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as e:
        raise MessageError(f"{kind.__name__}: {e}") from None
