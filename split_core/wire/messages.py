"""Messages as bytes: one header a kind, pushed and pulled from one `Struct` each.

docs/wire-format.md is normative. Every pull checks every field, takes no size on trust, and
raises MessageError with the value found and the value wanted.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from split_core.errors import MessageError

U32_MAX = 2**32 - 1


class Kind(IntEnum):
    """What a message is; carried by each of its chunks."""

    FRAME = 1
    RESULT = 2
    REFUSAL = 3
    BLOB_REQUEST = 4
    BLOB_PART = 5
    REFINEMENT_REQUEST = 6
    REFINEMENT = 7


class Codec(IntEnum):
    """Which rung family made a frame's payload."""

    RAW = 0
    QUANTIZED = 1
    IMAGE = 2                        # the input as a picture file
    CALIBRATED = 3                   # transformed with the bundle's tables
    LAYERED = 4                      # the same, its base layer first


class Reason(IntEnum):
    """Why a worker refuses a frame."""

    UNKNOWN_BUNDLE = 1
    SHED = 2
    EXPIRED = 3
    INVALID = 4
    FAILED = 5


_FRAME = struct.Struct("<32sQIIIHBBHHI")
_RESULT = struct.Struct("<QIIIIIIIHHII")
_REFUSAL = struct.Struct("<QIBBHI")
_BLOB_REQUEST = struct.Struct("<32sQI")
_BLOB_PART = struct.Struct("<32sQQ")
_REFINEMENT_REQUEST = struct.Struct("<QIfI")
_REFINEMENT = struct.Struct("<QIII")
_ABOUT = struct.Struct("<QI")
FRAME_HEADER_BYTES = _FRAME.size

# Longest explanation a refusal carries; what matters is the reason code.
MAX_DETAIL_BYTES = 512
# Of a result: it was made with the refinement.
_REFINED = 1


@dataclass(frozen=True, slots=True)
class Frame:
    """Encoded boundary tensors on their way to a worker."""

    bundle_id: bytes                 # SHA-256 of the bundle, 32 bytes
    session: int                     # of the agent; a result of an older one is ignored
    frame_id: int
    plan_id: int
    budget_us: int                   # what is left of the deadline as the first chunk leaves
    cut: int
    codec: Codec
    tensors: int
    payload: bytes | memoryview


@dataclass(frozen=True, slots=True)
class StageTimes:
    """What the worker spent on a frame, by its own clock; both passes of a refined one."""

    receive_us: int = 0              # first chunk to last
    queue_us: int = 0
    decode_us: int = 0
    tail_us: int = 0
    encode_us: int = 0

    def __add__(self, other: StageTimes) -> StageTimes:
        return StageTimes(*(min(getattr(self, f) + getattr(other, f), U32_MAX)
                            for f in self.__slots__))


@dataclass(frozen=True, slots=True)
class Result:
    """Encoded model outputs on their way back; also the frame's acknowledgement."""

    session: int
    frame_id: int
    plan_id: int
    stages: StageTimes
    tensors: int
    payload: bytes | memoryview
    refined: bool = False            # made with the refinement


@dataclass(frozen=True, slots=True)
class RefinementRequest:
    """Asks for the second layer of a frame whose answer by the first is not sure enough."""

    session: int
    frame_id: int
    margin: float                    # found: the best score less the second best, 0 to 1


@dataclass(frozen=True, slots=True)
class Refinement:
    """The second layer of a frame's payload."""

    session: int
    frame_id: int
    budget_us: int                   # what is left of the deadline as the first chunk leaves
    payload: bytes | memoryview


@dataclass(frozen=True, slots=True)
class Refusal:
    session: int
    frame_id: int
    reason: Reason
    retry_after_us: int
    detail: str


@dataclass(frozen=True, slots=True)
class BlobRequest:
    """Asks for up to ``max_bytes`` of a blob from ``offset`` on."""

    digest: bytes
    offset: int
    max_bytes: int


@dataclass(frozen=True, slots=True)
class BlobPart:
    """Some bytes of a blob. A ``total_bytes`` of 0 says: I do not have it."""

    digest: bytes
    offset: int
    total_bytes: int
    data: bytes | memoryview


def clamp_us(seconds: float) -> int:
    """Seconds as a wire duration: whole microseconds, 0 to 71 minutes."""
    return min(max(round(seconds * 1e6), 0), U32_MAX)


def push_frame(m: Frame) -> bytes:
    return _FRAME.pack(m.bundle_id, m.session, m.frame_id, m.plan_id, m.budget_us, m.cut,
                       m.codec, 0, m.tensors, 0, len(m.payload)) + m.payload


def pull_frame(buf: memoryview) -> Frame:
    (bundle_id, session, frame_id, plan_id, budget_us, cut, codec, flags, tensors, reserved,
     payload_bytes), payload = _header(_FRAME, buf, "frame")
    _want_zero("frame", flags=flags, reserved=reserved)
    _want_rest("frame", payload_bytes, payload)
    return Frame(bundle_id, session, frame_id, plan_id, budget_us, cut,
                 _member(Codec, codec, "codec"), tensors, payload)


def push_result(m: Result) -> bytes:
    s = m.stages
    return _RESULT.pack(m.session, m.frame_id, m.plan_id, s.receive_us, s.queue_us, s.decode_us,
                        s.tail_us, s.encode_us, m.tensors, _REFINED if m.refined else 0,
                        len(m.payload), 0) + m.payload


def pull_result(buf: memoryview) -> Result:
    (session, frame_id, plan_id, *stages, tensors, flags, payload_bytes,
     reserved), payload = _header(_RESULT, buf, "result")
    _want_zero("result", flags=flags & ~_REFINED, reserved=reserved)
    _want_rest("result", payload_bytes, payload)
    return Result(session, frame_id, plan_id, StageTimes(*stages), tensors, payload,
                  bool(flags & _REFINED))


def push_refinement_request(m: RefinementRequest) -> bytes:
    return _REFINEMENT_REQUEST.pack(m.session, m.frame_id, m.margin, 0)


def pull_refinement_request(buf: memoryview) -> RefinementRequest:
    (session, frame_id, margin, reserved), rest = _header(_REFINEMENT_REQUEST, buf,
                                                          "refinement request")
    _want_zero("refinement request", reserved=reserved)
    _want_rest("refinement request", 0, rest)
    if not 0 <= margin <= 1:                       # "not": NaN lands here too
        raise MessageError(f"refinement request: margin {margin}, wanted 0 to 1")
    return RefinementRequest(session, frame_id, margin)


def push_refinement(m: Refinement) -> bytes:
    return _REFINEMENT.pack(m.session, m.frame_id, m.budget_us, len(m.payload)) + m.payload


def pull_refinement(buf: memoryview) -> Refinement:
    (session, frame_id, budget_us, payload_bytes), payload = _header(_REFINEMENT, buf,
                                                                     "refinement")
    _want_rest("refinement", payload_bytes, payload)
    return Refinement(session, frame_id, budget_us, payload)


def frame_id_of(buf: memoryview) -> int:
    """The frame that a result, a refusal or a refinement request is about: all of them begin
    with session and frame. Raises MessageError."""
    if len(buf) < _ABOUT.size:
        raise MessageError(f"message of {len(buf)} bytes, session and frame have {_ABOUT.size}")
    return _ABOUT.unpack_from(buf)[1]


def push_refusal(m: Refusal) -> bytes:
    detail = m.detail.encode("utf-8", "replace")[:MAX_DETAIL_BYTES]
    # Cutting may have split the last character; what is sent is valid UTF-8.
    detail = detail.decode("utf-8", "ignore").encode()
    return _REFUSAL.pack(m.session, m.frame_id, m.reason, 0, len(detail),
                         m.retry_after_us) + detail


def pull_refusal(buf: memoryview) -> Refusal:
    (session, frame_id, reason, reserved, size,
     retry_after_us), detail = _header(_REFUSAL, buf, "refusal")
    _want_zero("refusal", reserved=reserved)
    _want_rest("refusal", size, detail)
    if size > MAX_DETAIL_BYTES:
        raise MessageError(f"refusal detail of {size} bytes, at most {MAX_DETAIL_BYTES}")
    try:
        text = bytes(detail).decode()
    except UnicodeDecodeError as e:
        raise MessageError(f"refusal detail is not UTF-8: {e}") from None
    return Refusal(session, frame_id, _member(Reason, reason, "reason"), retry_after_us, text)


def push_blob_request(m: BlobRequest) -> bytes:
    return _BLOB_REQUEST.pack(m.digest, m.offset, m.max_bytes)


def pull_blob_request(buf: memoryview) -> BlobRequest:
    fields, rest = _header(_BLOB_REQUEST, buf, "blob request")
    _want_rest("blob request", 0, rest)
    return BlobRequest(*fields)


def push_blob_part(m: BlobPart) -> bytes:
    return _BLOB_PART.pack(m.digest, m.offset, m.total_bytes) + m.data


def pull_blob_part(buf: memoryview) -> BlobPart:
    (digest, offset, total), data = _header(_BLOB_PART, buf, "blob part")
    if len(data) > total or offset > total - len(data):
        raise MessageError(f"blob part of {len(data)} bytes at {offset} in a blob of {total}")
    return BlobPart(digest, offset, total, data)


def _header(fmt: struct.Struct, buf: memoryview, what: str):
    if len(buf) < fmt.size:
        raise MessageError(f"{what} of {len(buf)} bytes, its header alone has {fmt.size}")
    return fmt.unpack_from(buf), buf[fmt.size:]


def _want_zero(what: str, **fields: int) -> None:
    for name, value in fields.items():
        if value:
            raise MessageError(f"{what}: {name} is {value}, wanted 0 in this version")


def _want_rest(what: str, claimed: int, rest: memoryview) -> None:
    if claimed != len(rest):
        raise MessageError(f"{what} says {claimed} bytes follow, {len(rest)} do")


def _member(enum: type[IntEnum], value: int, what: str):
    try:
        return enum(value)
    except ValueError:
        raise MessageError(f"unknown {what} {value}; known are"
                           f" {', '.join(f'{m.value} ({m.name})' for m in enum)}") from None
