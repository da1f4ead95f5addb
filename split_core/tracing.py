"""Traces of single frames, by OpenTelemetry: the one door to it, an extra, off by default.

Both programs choose the same frames and derive the same ids from a frame's session and number,
so a trace that both export parts of comes out as one, and nothing about it goes over the wire.
No clocks are compared: each side says only what it measured itself or was told as a duration.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from split_core.errors import ConfigError
from split_core.version import VERSION

_REMEDY = "install edge-agent[trace]"
# From a frame's sending to its answer; what the worker exports hangs below it.
LINK_SPAN = "link"


class TraceConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Traces of frames. Needs edge-agent[trace]."""

    # The share of frames that is traced, 0 to 1. The same on devices and workers joins them.
    sample: float = 0.0
    # Where spans go: an OTLP/HTTP endpoint such as http://127.0.0.1:4318/v1/traces.
    endpoint: str = ""

    def check(self) -> None:
        """Raises ConfigError."""
        if not 0 <= self.sample <= 1:         # also NaN
            raise ConfigError(f"trace.sample is {self.sample}, wanted 0 to 1")
        if self.sample and not self.endpoint.startswith(("http://", "https://")):
            raise ConfigError(f"trace.endpoint is {self.endpoint!r}, wanted the URL of an"
                              " OTLP/HTTP endpoint, as trace.sample is not 0")


@dataclass(frozen=True, slots=True)
class FrameIds:
    """A frame's place in traces, the same on both sides."""

    session: int
    frame_id: int

    def _digest(self, what: str) -> bytes:
        words = f"{what} {self.session:016x} {self.frame_id}"
        return hashlib.blake2b(words.encode(), digest_size=16).digest()

    @property
    def trace_id(self) -> int:
        return int.from_bytes(self._digest("trace")) or 1

    def span_id(self, name: str) -> int:
        """Of a span that the other side refers to."""
        return int.from_bytes(self._digest(name)[:8]) or 1

    def is_sampled(self, ratio: float) -> bool:
        """Both sides say the same for the same ratio; what a smaller one takes, a larger does."""
        return int.from_bytes(self._digest("sample")[:8]) < ratio * 2**64


@dataclass(frozen=True, slots=True)
class Piece:
    """A span to be: times are seconds of any one clock."""

    name: str
    begin_s: float
    end_s: float
    attributes: dict[str, str | int | float | bool] = field(default_factory=dict)
    pieces: Sequence[Piece] = ()


def in_a_row(begin_s: float, stages: Sequence[tuple[str, float]]) -> list[Piece]:
    """Spans of these names and durations, one after another."""
    pieces = []
    for name, seconds in stages:
        pieces.append(Piece(name, begin_s, begin_s + seconds))
        begin_s += seconds
    return pieces


class Tracer:
    """Turns frames into spans. ``exporter`` is OpenTelemetry's; by default OTLP over HTTP."""

    def __init__(self, service: str, instance: str, config: TraceConfig, exporter=None):
        """Raises ConfigError where the packages are missing."""
        try:
            from opentelemetry import trace
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
            from opentelemetry.sdk.trace.sampling import ALWAYS_ON
        except ImportError:
            raise ConfigError(f"traces need the package opentelemetry-sdk: {_REMEDY}") from None
        self._api, self.sample = trace, config.sample
        self._ids, self._lock = _Ids(), threading.Lock()
        self._provider = TracerProvider(
            sampler=ALWAYS_ON, id_generator=self._ids, shutdown_on_exit=False,
            resource=Resource({"service.name": service, "service.instance.id": instance,
                               "service.version": VERSION}))
        # Spans wait for the network on a thread of theirs, at most 2048; more are dropped there.
        self._provider.add_span_processor(
            SimpleSpanProcessor(exporter) if exporter is not None
            else BatchSpanProcessor(_otlp(config.endpoint)))
        self._tracer = self._provider.get_tracer("split", VERSION)

    def close(self) -> None:
        """Send what waits; a few seconds at most."""
        self._provider.force_flush(3000)
        self._provider.shutdown()

    def trace(self, ids: FrameIds, root: Piece, now_s: float, *, named: Sequence[str] = (),
              parent: str | None = None) -> None:
        """Export a tree. ``now_s`` is this moment by the pieces' clock. Spans in ``named`` get
        the ids that the other side knows them by; ``parent`` is one of the other side's."""
        offset_s = time.time() - now_s
        context = None
        if parent is not None:
            context = self._context(ids, ids.span_id(parent))
        with self._lock:
            self._ids.trace_id = ids.trace_id
            self._emit(ids, root, context, offset_s, frozenset(named))

    def _context(self, ids: FrameIds, span_id: int):
        trace = self._api
        return trace.set_span_in_context(trace.NonRecordingSpan(trace.SpanContext(
            ids.trace_id, span_id, is_remote=True,
            trace_flags=trace.TraceFlags(trace.TraceFlags.SAMPLED))))

    def _emit(self, ids: FrameIds, piece: Piece, context, offset_s: float,
              named: frozenset[str]) -> None:
        self._ids.span_id = ids.span_id(piece.name) if piece.name in named else None
        # An empty context, where there is no parent: never whatever the thread is within.
        span = self._tracer.start_span(
            piece.name, context=context or {}, attributes=piece.attributes,
            start_time=_ns(piece.begin_s + offset_s))
        inner = self._api.set_span_in_context(span, {})
        for one in piece.pieces:
            self._emit(ids, one, inner, offset_s, named)
        span.end(end_time=_ns(piece.end_s + offset_s))


def open_tracer(service: str, instance: str, config: TraceConfig) -> Tracer | None:
    """A tracer as configured; None when it is off, and then nothing is even imported."""
    return Tracer(service, instance, config) if config.sample > 0 else None


def _ns(at_s: float) -> int:
    return int(at_s * 1e9)


def _otlp(endpoint: str):
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError:
        raise ConfigError("traces need the package opentelemetry-exporter-otlp-proto-http:"
                          f" {_REMEDY}") from None
    return OTLPSpanExporter(endpoint=endpoint, timeout=5)


class _Ids:
    """Gives out the ids it was told, else chance's. Used under the tracer's lock."""

    def __init__(self):
        self.trace_id = 1
        self.span_id: int | None = None

    def generate_trace_id(self) -> int:
        return self.trace_id

    def generate_span_id(self) -> int:
        given, self.span_id = self.span_id, None
        if given is not None:
            return given
        return secrets.randbits(64) or 1

    def is_trace_id_random(self) -> bool:
        return True
