"""One frame's trace across a real device and a real worker."""

from __future__ import annotations

from collections import defaultdict

import pytest

pytest.importorskip("opentelemetry.sdk")

from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from cloud_side.observers.tracing import WorkerTracing
from edge_agent.frames import Outcome
from edge_agent.observers.tracing import AgentTracing
from split_core.tracing import FrameIds, TraceConfig, Tracer
from tests.support.observed import observed_device, observed_worker
from tests.support.rig import Rig, wait_until

FRAMES = 40


def took_ms(span) -> float:
    return 1e-6 * (span.end_time - span.start_time)


def traces(*exporters: InMemorySpanExporter) -> dict[int, dict[str, list]]:
    """Spans by trace and name."""
    found = defaultdict(lambda: defaultdict(list))
    for exporter in exporters:
        for span in exporter.get_finished_spans():
            found[span.context.trace_id][span.name].append(span)
    return found


def test_a_frame_is_one_tree_across_both_sides(tmp_path, camera):
    there, here = InMemorySpanExporter(), InMemorySpanExporter()
    config = TraceConfig(0.5, "http://127.0.0.1:9/v1/traces")
    serving = WorkerTracing(Tracer("cloud-worker", "worker-1", config, there))
    with Rig(tmp_path) as rig, observed_worker(tmp_path, rig.url, serving), \
            observed_device(camera.bundle, rig.url, lambda agent: AgentTracing(
                agent, Tracer("edge-agent", "device-1", config, here))) as device:
        answers = [device.agent.infer(device.inputs[i % 8]) for i in range(FRAMES)]
        session = device.agent.node.session_id
        chosen = {FrameIds(session, a.frame_id).trace_id: a for a in answers
                  if FrameIds(session, a.frame_id).is_sampled(0.5)}
        wait_until(lambda: sum(s.name == "serve" for s in there.get_finished_spans())
                   == len(chosen), 10.0, "the worker's last trace")
    assert 5 < len(chosen) < 35
    found = traces(here, there)
    assert set(found) == set(chosen)
    for trace_id, answer in chosen.items():
        spans = found[trace_id]
        ids = {name: [s.context.span_id for s in made] for name, made in spans.items()}
        (frame,), (link,), (worker,), (serve,) = (
            spans[n] for n in ("frame", "link", "worker", "serve"))
        assert frame.parent is None
        assert {n: spans[n][0].parent.span_id for n in ("wait", "head", "encode", "link")} == (
            dict.fromkeys(("wait", "head", "encode", "link"), ids["frame"][0]))
        assert worker.parent.span_id == serve.parent.span_id == ids["link"][0]
        # As told by the worker and drawn by the device, and as exported by the worker.
        for stage in ("queue", "decode", "tail", "reply"):
            (drawn,) = (s for s in spans[stage] if s.parent.span_id == ids["worker"][0])
            (exported,) = (s for s in spans[stage] if s.parent.span_id == ids["serve"][0])
            assert took_ms(drawn) == pytest.approx(answer.stages_ms[stage], abs=1e-3)
            assert took_ms(exported) == pytest.approx(took_ms(drawn), abs=1e-3)
        # Children lie within their parents, and the whole is what the frame took.
        assert took_ms(frame) == pytest.approx(answer.total_ms, abs=1e-3)
        for inner, outer in ((link, frame), (worker, link), (spans["head"][0], frame)):
            assert outer.start_time - 1000 <= inner.start_time
            assert inner.end_time <= outer.end_time + 1000
        assert spans["encode"][0].end_time <= link.start_time + 1000
        assert frame.attributes["split.outcome"] == "remote"
        assert serve.attributes["split.device"] == "device-1"
        assert frame.attributes["split.payload_bytes"] == serve.attributes["split.payload_bytes"]


def test_a_frame_that_ended_on_the_device_has_no_link(tmp_path, camera):
    here = InMemorySpanExporter()
    with Rig(tmp_path) as rig, observed_worker(tmp_path, rig.url), \
            observed_device(camera.bundle, rig.url, lambda agent: AgentTracing(
                agent, Tracer("edge-agent", "device-1", TraceConfig(1.0, "http://x"), here)),
                deadline_ms=300.0) as device:
        rig.kill_broker()
        wait_until(lambda: not device.agent.node.is_up, 10.0, "the link down")
        answer = device.agent.infer(device.inputs[0])
        assert answer.outcome is Outcome.FALLBACK
    (spans,) = traces(here).values()
    assert set(spans) == {"frame", "wait", "fallback"}
    assert spans["frame"][0].attributes["split.reason"] == answer.reason
    assert took_ms(spans["fallback"][0]) == pytest.approx(answer.stages_ms["fallback"], abs=1e-3)
