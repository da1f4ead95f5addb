"""The second layer of a flight: asked for by its worker, sent once, and only while it flies."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from edge_agent.frames import FrameInput, Ledger, Plan
from edge_agent.inference.flights import Flight
from edge_agent.inference.gate import Gate
from edge_agent.inference.sender import Sender
from edge_agent.inference.state import ExplicitState
from edge_agent.inference.workers import Workers
from split_core.errors import MessageError
from split_core.model.bundle import open_bundle
from split_core.model.runner import Runner
from split_core.wire import messages as m
from split_core.wire.chunks import Message
from split_core.wire.payload import Coder
from split_core.wire.quality import encode
from split_core.wire.records import WorkerStatus, dump
from split_core.wire.rungs import Rung
from split_core.wire.topics import Topics
from tests.support import tiny_models
from tests.support.calibrated import calibrate_roughly
from tests.support.tiny_models import input_like

CUT = 3
SESSION = 77


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("skip")
    (folder / "skip.tflite").write_bytes(tiny_models.skip_model())
    return calibrate_roughly(folder / "skip.tflite", folder / "skip.split.tflite", CUT, margin=0.5)


class Bench:
    """A sender whose node keeps what it is given, and frames to send."""

    def __init__(self, bundle):
        self.bundle, self.queued, self.results = bundle, [], []
        self.sender = Sender(
            bundle, Workers("device", None), Gate(1.0), Ledger(), ExplicitState(bundle),
            threading.Condition(threading.RLock()),
            lambda flight, tensors, result, trip_s: self.results.append((flight, result, trip_s)))
        self.sender.node = SimpleNamespace(
            session_id=SESSION, node_id="device", topics=Topics(),
            send=lambda outgoing, bulk=False: self.queued.append((outgoing, bulk)))
        self.coder = Coder(codings=bundle.codings)

    def launch(self, frame_id: int = 1, rung: str = "kl0.02+refine") -> Flight:
        """A frame that has left."""
        boundary, runner = self.bundle.boundary(CUT), Runner(self.bundle)
        live = runner.run({"image": input_like(self.bundle.specs["image"],
                                               np.random.default_rng(frame_id))}, 0, CUT)
        encoded = encode(self.coder, [live[s.name] for s in boundary], boundary,
                         Rung.parse(rung), self.bundle.rate(CUT), 0.5)
        now_s = time.monotonic()
        flight = Flight(FrameInput(frame_id, {}, "", now_s, now_s + 60.0),
                        Plan(1, CUT, Rung.parse(rung)), "w", live, 0.1, len(encoded.payload), {})
        self.sender.launch(flight, encoded)
        self.frame = m.pull_frame(memoryview(self.leave()))
        return flight

    def leave(self, now_s: float | None = None) -> bytes | None:
        """The next message's first chunk leaves."""
        outgoing, bulk = self.queued.pop(0)
        assert not bulk
        return outgoing.make_body(time.monotonic() if now_s is None else now_s)

    def ask(self, frame_id: int = 1, worker: str = "w", session: int = SESSION) -> None:
        self.give(worker, m.Kind.REFINEMENT_REQUEST, m.push_refinement_request(
            m.RefinementRequest(session, frame_id, 0.125)))

    def answer(self, *, refined: bool, frame_id: int = 1) -> None:
        scores = self.bundle.specs["scores"]
        payload = self.coder.encode([np.full(scores.shape, 0.2, np.float32)], [scores],
                                    Rung.parse("raw"))
        self.give("w", m.Kind.RESULT, m.push_result(m.Result(
            SESSION, frame_id, 1, m.StageTimes(), 1, payload, refined)))

    def give(self, worker: str, kind: m.Kind, body: bytes) -> None:
        self.sender.on_message(worker, Message(kind, memoryview(body), time.monotonic()))


@pytest.fixture
def bench(bundle) -> Bench:
    return Bench(bundle)


def test_the_second_layer_makes_the_first_whole(bench):
    flight = bench.launch()
    symbols = {n: s.copy() for n, s in flight.layers.symbols.items()}
    assert bench.frame.codec is m.Codec.LAYERED and flight.predicted_kl <= 0.02
    base_bytes = flight.payload_bytes
    bench.ask()
    outgoing, _ = bench.queued[0]
    assert (outgoing.kind, outgoing.topic) == (m.Kind.REFINEMENT, Topics().worker_inbox(
        "w", "device"))
    assert flight.payload_bytes == base_bytes, "it has not left"
    sent = m.pull_refinement(memoryview(bench.leave(flight.frame.deadline_s - 0.25)))
    assert (sent.session, sent.frame_id, sent.budget_us) == (SESSION, 1, 250_000)
    assert flight.payload_bytes == base_bytes + len(sent.payload)
    assert flight.stages_ms["refine"] > 0
    coder, boundary = Coder(codings=bench.bundle.codings), bench.bundle.boundary(CUT)
    _, layers = coder.decode_layers(bench.frame.payload, boundary)
    (array,) = coder.refine(layers, sent.payload)
    transform = coder._transform(boundary[0])
    # 2**(index / 32) is the base's step; the fine one is a third of it.
    wanted = transform._reconstruct(symbols[boundary[0].name], 2.0 ** (layers.index / 32) / 3)
    np.testing.assert_allclose(array, wanted, rtol=1e-6)


def test_a_flight_is_asked_about_once(bench):
    bench.launch()
    bench.ask()
    bench.ask()
    assert len(bench.queued) == 1 and bench.sender.ledger.idle_requests == 1


def test_only_its_worker_may_ask_and_only_while_it_flies(bench):
    flight = bench.launch()
    bench.ask(worker="other")
    bench.ask(session=SESSION + 1)
    bench.ask(frame_id=2)
    flight.due = "worker: shed"
    bench.ask()
    flight.due = None
    bench.sender.flights.pop(1)
    bench.ask()
    assert not bench.queued and bench.sender.ledger.idle_requests == 5
    assert flight.layers is None, "what has ended holds no layers"


@pytest.mark.parametrize("rung", ["raw", "q4", "kl0.02"])
def test_a_frame_in_one_layer_has_nothing_to_refine(bench, rung):
    flight = bench.launch(rung=rung)
    assert flight.layers is None
    bench.ask()
    assert not bench.queued


def test_what_ended_before_it_left_is_not_sent(bench):
    flight = bench.launch()
    nbytes = flight.payload_bytes
    bench.ask()
    bench.sender.flights.pop(1)
    assert bench.leave() is None and flight.payload_bytes == nbytes


def test_what_is_past_its_deadline_is_not_sent(bench):
    flight = bench.launch()
    bench.ask()
    assert bench.leave(flight.frame.deadline_s) is None


def test_the_link_is_judged_by_each_way_there_and_back(bench, monkeypatch):
    trips = []
    monkeypatch.setattr(bench.sender.gate, "on_answer", lambda s, n: trips.append((s, n)))
    flight = bench.launch()
    base_bytes, flight.sent_s = flight.payload_bytes, time.monotonic() - 10.0
    bench.ask()
    bench.leave()
    flight.refining_s = time.monotonic() - 5.0
    assert bench.sender.flights.oldest_sent_s() == flight.refining_s
    bench.answer(refined=True)
    assert trips == [(pytest.approx(10.0, abs=1.0), base_bytes),
                     (pytest.approx(5.0, abs=1.0), flight.payload_bytes - base_bytes)]
    ((_, result, trip_s),) = bench.results
    assert result.refined and trip_s == pytest.approx(10.0, abs=1.0), "the whole of it is told"


def test_an_answer_that_did_not_wait_for_the_refinement_ends_the_flight(bench, monkeypatch):
    bench.launch()
    bench.ask()
    trips = []
    monkeypatch.setattr(bench.sender.gate, "on_answer", lambda s, n: trips.append(s))
    bench.answer(refined=False)
    assert len(bench.results) == 1 and not trips, "it waited there, not on the link"
    assert bench.queued[0][0].cancelled and bench.leave() is None
    bench.answer(refined=True)
    assert len(bench.results) == 1 and bench.sender.ledger.late_results == 1


def test_a_refined_result_that_nobody_asked_for_is_refused(bench):
    flight = bench.launch()
    with pytest.raises(MessageError, match="not asked for"):
        bench.answer(refined=True)
    assert flight.due == "result refused" and not bench.results


def test_a_device_takes_no_refinement(bench):
    with pytest.raises(MessageError, match="a device takes no REFINEMENT"):
        bench.give("w", m.Kind.REFINEMENT, b"")


def test_what_a_plan_sent_to_another_worker_is_due_when_that_goes(bench):
    digest = bench.bundle.id_hex
    for worker in ("v", "w"):
        bench.sender.on_worker_status(worker, dump(WorkerStatus("ready", "01", (digest,))))
    bench.sender.worker = "v"
    flight = bench.launch()
    assert flight.worker == "w"
    bench.sender.on_worker_status("v", dump(WorkerStatus("lost", "00", ())))
    assert flight.due is None, "an older connection's end"
    bench.sender.on_worker_status("w", dump(WorkerStatus("lost", "01", ())))
    assert flight.due == "worker gone" and bench.sender.worker == "v"


def test_nothing_is_believed_of_a_request_from_another_session(bench):
    seen = []
    bench.sender.beliefs = SimpleNamespace(on_sent=lambda *args: None, worker_of=lambda i: "w",
                                           on_turned_away=seen.append)
    bench.launch()
    bench.ask(session=SESSION + 1)
    assert seen == []
    bench.ask()
    assert seen == [1]


def test_nobody_but_a_frames_worker_teaches(bench):
    taught = []
    bench.sender.beliefs = SimpleNamespace(
        on_sent=lambda *args: None, worker_of=lambda i: {1: "w"}.get(i),
        on_turned_away=lambda i: taught.append(("turned away", i)),
        on_answer=lambda i, *times: taught.append(("answered", i)))
    bench.sender.node.tell_once = lambda *words, **how: None
    bench.launch()
    stages = m.StageTimes(tail_us=1)
    answer = m.push_result(m.Result(SESSION, 1, 1, stages, 1, b""))
    refusal = m.push_refusal(m.Refusal(SESSION, 1, m.Reason.SHED, 0, ""))
    request = m.push_refinement_request(m.RefinementRequest(SESSION, 1, 0.1))
    for kind, body in ((m.Kind.RESULT, answer), (m.Kind.REFUSAL, refusal),
                       (m.Kind.REFINEMENT_REQUEST, request)):
        bench.give("stranger", kind, body)
    assert taught == []
    bench.give("w", m.Kind.REFUSAL, refusal)
    bench.sender.flights.pop(1)                   # ended here; what comes late tells all the same
    bench.give("w", m.Kind.RESULT, answer)
    assert taught == [("turned away", 1), ("answered", 1)]


def test_whether_a_flight_has_ended_and_that_it_leaves_is_one_step(bench):
    owned = []
    bench.sender.has_ended = lambda flight: owned.append(bench.sender.wake._is_owned())
    bench.sender.beliefs = SimpleNamespace(
        on_sent=lambda *args: owned.append(bench.sender.wake._is_owned()))
    bench.launch()
    assert owned == [True, True], "or a fallback that ends now gives up what was not yet sent"


def changed(bundle, path):
    """A bundle in a file of its own, and the same as it is known to who opened it there."""
    path.write_bytes(bundle.path.read_bytes())
    return open_bundle(path)


def offered(bench) -> list[m.BlobPart]:
    parts = [m.pull_blob_part(memoryview(o.make_body(0.0))) for o, bulk in bench.queued if bulk]
    bench.queued.clear()
    return parts


def with_worker(bundle) -> Bench:
    bench = Bench(bundle)
    bench.sender.node.session = SimpleNamespace(
        call_at=lambda when_s, fn: SimpleNamespace(cancel=lambda: None))
    bench.sender.on_worker_status("w", dump(WorkerStatus("ready", "s")))
    return bench


def ask(bench: Bench) -> None:
    request = m.push_blob_request(m.BlobRequest(bench.bundle.sha256, 0, 1 << 20))
    bench.sender.on_message("w", Message(m.Kind.BLOB_REQUEST, memoryview(request), 0.0))


def test_a_worker_is_offered_the_bundle_and_gets_it(bundle, tmp_path):
    bench = with_worker(changed(bundle, tmp_path / "b"))
    (offer,) = offered(bench)
    assert (offer.digest, offer.data, offer.total_bytes) == (
        bundle.sha256, b"", bundle.path.stat().st_size)
    ask(bench)
    assert b"".join(p.data for p in offered(bench)) == bundle.path.read_bytes()


@pytest.mark.parametrize("become", ["another file", "nothing"])
def test_a_file_that_was_replaced_is_no_longer_offered_nor_sent(bundle, tmp_path, become):
    """The worker would find out by its digest alone, after all of it, and be offered it again."""
    path = tmp_path / "b"
    bench = with_worker(changed(bundle, path))
    offered(bench)
    path.unlink()
    if become == "another file":
        path.write_bytes(bytes(len(bundle.path.read_bytes())))
    ask(bench)
    assert [(p.total_bytes, bytes(p.data)) for p in offered(bench)] == [(0, b"")], "not held"
    bench.sender._offered_s = -1e9
    bench.sender.offer_bundle()
    assert offered(bench) == []


def test_parts_that_could_not_be_sent_do_not_keep_others_from_leaving(bundle, tmp_path):
    bench = with_worker(changed(bundle, tmp_path / "b"))
    bench.queued.clear()
    ask(bench)
    for outgoing, _ in list(bench.queued):
        outgoing.on_refused()
    bench.queued.clear()
    ask(bench)
    assert bench.queued, "the worker asks again"
