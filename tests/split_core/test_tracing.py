"""Traces: the same ids and the same choice on both sides, and trees that say how long."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("opentelemetry.sdk")

from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from split_core.config import convert
from split_core.errors import ConfigError
from split_core.tracing import (
    LINK_SPAN, FrameIds, Piece, TraceConfig, Tracer, in_a_row, open_tracer,
)

ALL = TraceConfig(1.0, "http://127.0.0.1:4318/v1/traces")


def test_both_sides_choose_the_same_frames():
    chosen = [i for i in range(4000) if FrameIds(7, i).is_sampled(0.1)]
    assert 330 < len(chosen) < 470                         # 400, and four standard deviations
    assert all(FrameIds(7, i).is_sampled(0.2) for i in chosen)
    assert chosen != [i for i in range(4000) if FrameIds(8, i).is_sampled(0.1)]
    assert not any(FrameIds(7, i).is_sampled(0.0) for i in range(1000))
    assert all(FrameIds(7, i).is_sampled(1.0) for i in range(1000))


def test_ids_are_the_frames_own():
    ids = FrameIds(2**64 - 1, 5)
    # Worked out once with hashlib.blake2b(b"trace ffffffffffffffff 5", digest_size=16): ids that
    # change with a release would tear traces of mixed fleets apart.
    assert f"{ids.trace_id:032x}" == "ef6d071545d8c6e72eedfd5668bac8e1"
    assert f"{ids.span_id(LINK_SPAN):016x}" == "a48def9ec51f9ad9"
    assert ids.trace_id != FrameIds(2**64 - 1, 6).trace_id != 0


def test_a_tree_becomes_spans():
    exporter = InMemorySpanExporter()
    tracer = Tracer("a-service", "pi", ALL, exporter)
    ids = FrameIds(1, 2)
    tracer.trace(ids, Piece("frame", 10.0, 10.5, {"split.cut": 3}, [
        *in_a_row(10.0, [("wait", 0.1), ("head", 0.2)]),
        Piece(LINK_SPAN, 10.3, 10.5, {}, in_a_row(10.35, [("tail", 0.1)]))]), 11.0,
        named=(LINK_SPAN,))
    tracer.trace(ids, Piece("serve", 3.0, 4.0), 4.0, parent=LINK_SPAN)
    spans = {s.name: s for s in exporter.get_finished_spans()}
    assert set(spans) == {"frame", "wait", "head", "link", "tail", "serve"}
    assert {s.context.trace_id for s in spans.values()} == {ids.trace_id}
    assert len({s.context.span_id for s in spans.values()}) == 6
    parent = {name: s.parent and s.parent.span_id for name, s in spans.items()}
    span_id = {name: s.context.span_id for name, s in spans.items()}
    assert parent == {"frame": None, "wait": span_id["frame"], "head": span_id["frame"],
                      "link": span_id["frame"], "tail": span_id["link"],
                      "serve": span_id["link"]}
    assert span_id["link"] == ids.span_id(LINK_SPAN)
    took_s = {name: 1e-9 * (s.end_time - s.start_time) for name, s in spans.items()}
    assert took_s == pytest.approx({"frame": 0.5, "wait": 0.1, "head": 0.2, "link": 0.2,
                                    "tail": 0.1, "serve": 1.0}, abs=1e-6)
    begin_s = 1e-9 * (spans["head"].start_time - spans["frame"].start_time)
    assert begin_s == pytest.approx(0.1, abs=1e-6)
    assert spans["frame"].attributes == {"split.cut": 3}
    assert spans["frame"].resource.attributes["service.name"] == "a-service"
    tracer.close()


@pytest.mark.parametrize("trace, words", [
    ({"sample": 2.0, "endpoint": "http://x"}, "trace.sample is 2.0"),
    ({"sample": -0.1}, "trace.sample"), ({"sample": float("nan")}, "trace.sample"),
    ({"sample": 0.1}, "trace.endpoint is ''"), ({"sample": 0.1, "endpoint": "x"}, "OTLP")])
def test_settings_that_cannot_work(trace, words):
    with pytest.raises(ConfigError, match=words):
        convert(trace, TraceConfig, "x").check()


def test_off_costs_nothing():
    assert open_tracer("x", "y", TraceConfig()) is None
    code = ("import sys, cloud_side.daemon, edge_agent.daemon;"
            "from split_core.tracing import TraceConfig, open_tracer;"
            "open_tracer('x', 'y', TraceConfig());"
            "print([m for m in sys.modules if m.startswith('opentelemetry')],"
            " 'edge_agent.observers.metrics' in sys.modules)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60,
                          check=True)
    assert done.stdout.strip() == "[] False"
