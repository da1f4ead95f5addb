"""A result as others read it: one JSON document a frame, on ``up/result`` and in the journal. Pure.

docs/mqtt-topics.md, "Results", says the same in words; a test compares the two.
"""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType


class FoundClass(msgspec.Struct, frozen=True):
    """One of the best classes."""

    index: int
    label: str | None                # null: the bundle has no label for it
    score: float                     # as the model gives it


class FoundObject(msgspec.Struct, frozen=True):
    """One detected object."""

    label: str | None                # null: the bundle has no label for it
    index: int                       # of its class
    score: float                     # as the model gives it
    box: tuple[float, ...]           # top, left, bottom, right in 0..1 of the model's input


class RawTensor(msgspec.Struct, frozen=True):
    """One output of the model, if asked for."""

    name: str
    dtype: str                       # as NumPy calls it, such as float32
    shape: tuple[int, ...]
    data: str                        # base64 of its bytes, little-endian, row by row


class ResultRecord(msgspec.Struct, frozen=True, kw_only=True):
    """How one frame ended, and what came out. Fields without a value are left out."""

    frame_id: int                    # counts up from 1 with each start of the agent
    source: str                      # as the source names its frames
    at: str                          # when it ended: RFC 3339, by the device's clock
    outcome: Literal["remote", "local", "fallback", "failed", "dropped"]
    reason: str                      # why, for all but remote
    late: bool                       # the answer came after the deadline
    cut: int                         # ops on the device
    rung: str                        # the quality it was coded with
    plan_id: int
    worker: str | None               # who was asked; null: nobody
    payload_bytes: int               # sent to the worker for this frame
    predicted_kl: float | None       # nats, of the code, predicted by calibration
    refined: bool | None             # the second layer was asked for; null: there was none
    raced: bool                      # the device went on while the worker was asked
    stages_ms: dict[str, float]      # only stages that the frame went through
    total_ms: float                  # capture to answer, on the device's monotonic clock
    top: list[FoundClass] | UnsetType = UNSET            # classification: best first
    text: str | UnsetType = UNSET    # sequence: one label a position
    score: float | UnsetType = UNSET         # sequence: of the least sure position
    objects: list[FoundObject] | UnsetType = UNSET       # detection
    tensors: list[RawTensor] | UnsetType = UNSET         # result.raw_tensors
    age_ms: float | UnsetType = UNSET        # the broker was away: from answer to publication
