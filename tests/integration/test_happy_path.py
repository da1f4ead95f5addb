"""Agent and worker on a real broker: what comes back, and how it is told."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator

import numpy as np
import pytest

from edge_agent.frames import Outcome
from edge_agent.results.answers import to_real
from split_core.errors import InputError
from split_core.model.bundle import open_bundle
from split_core.model.runner import WholeModel
from split_core.wire import messages as m
from split_core.wire.chunks import push_chunks
from tests.support.history import ends_of_journal, problems
from tests.support.rig import Device, Rig, wait_until

CAMERA_OPS = 8


@pytest.fixture
def rig(tmp_path) -> Iterator[Rig]:
    with Rig(tmp_path) as rig:
        yield rig


def equal_to_whole_model(device: Device, model, frames: int = 8) -> None:
    """Every output bit of remote answers, against the model as its author made it."""
    whole = WholeModel(model)
    for i in range(frames):
        arrays = device.inputs[i % len(device.inputs)]
        answer = device.agent.infer(arrays)
        assert answer.outcome == Outcome.REMOTE, answer.reason
        wanted = whole.run(arrays.values())
        for name, array in zip(device.agent.bundle.manifest.outputs, wanted, strict=True):
            assert answer.outputs[name].tobytes() == array.tobytes()


@pytest.mark.parametrize("broker", ["mosquitto", "amqtt"])
def test_remote_answers_are_those_of_the_whole_model(tmp_path, camera, broker):
    with Rig(tmp_path, broker=broker) as rig:
        rig.worker()
        device = rig.device(camera.bundle, cut=1, deadline_ms=5000)
        assert device.agent.node.session.limits.protocol == (
            "5" if broker == "mosquitto" else "3.1.1")
        answer = device.agent.infer(device.inputs[0])
        # More than a chunk of 64 000 bytes, and so more than one publish.
        assert answer.payload_bytes > 64_000 and answer.worker == "worker-1"
        equal_to_whole_model(device, camera.model)


def test_every_cut_and_a_planned_local(rig, camera):
    rig.worker()
    whole = WholeModel(camera.model)
    for cut in (0, 1, 5, CAMERA_OPS):
        device = rig.device(camera.bundle, device_id=f"device-{cut}", cut=cut, deadline_ms=5000)
        answer = device.agent.infer(device.inputs[0])
        local = cut == CAMERA_OPS
        assert answer.outcome == (Outcome.LOCAL if local else Outcome.REMOTE), answer
        assert (answer.payload_bytes == 0) == local
        wanted = whole.run(device.inputs[0].values())
        assert answer.outputs["scores"].tobytes() == wanted[0].tobytes()


def test_a_bundle_travels_to_an_empty_store_and_is_there_the_next_time(rig, camera):
    worker = rig.worker()
    device = rig.device(camera.bundle, cut=5, deadline_ms=5000, ready=False)
    device.wait_until_ready()
    bundle = device.agent.bundle
    stored = worker.store / f"{bundle.id_hex}.split.tflite"
    assert hashlib.sha256(stored.read_bytes()).hexdigest() == bundle.id_hex
    # More than the parts asked for at once: there was a second request.
    assert stored.stat().st_size > 4 * 61_440
    assert [p.name for p in worker.store.iterdir()] == [stored.name], "nothing half done is left"
    assert worker.log().count("event=bundle-fetch") == 1

    assert worker.stop() == 0
    rig.wait_for_worker(worker, state="stopped")
    began_s = time.monotonic()
    worker.start()
    # Its first status names the bundle: nothing has to be sent.
    rig.wait_for_worker(worker, bundle, after_s=began_s)
    device.wait_until_ready()
    assert device.agent.infer(device.inputs[0]).outcome == Outcome.REMOTE
    assert worker.log().count("event=bundle-fetch") == 1


def test_a_bundle_comes_from_another_device_when_the_first_is_gone(rig, camera):
    worker = rig.worker()
    rig.wait_for_worker(worker)
    # A device that offers the bundle, and never answers.
    bundle = open_bundle(camera.bundle)
    offer = m.push_blob_part(m.BlobPart(bundle.sha256, 0, camera.bundle.stat().st_size, b""))
    (chunk,) = push_chunks(m.Kind.BLOB_PART, 1, offer, 60_000)
    rig.observer.publish(rig.topics.worker_inbox(worker.id, "ghost"), chunk)
    wait_until(lambda: "from=ghost" in worker.log(), 5, "a request to the ghost")
    rig.device(camera.bundle, cut=5).wait_until_ready(15)


def test_what_is_handed_in_after_the_end_has_an_end_too(rig, camera, tmp_path):
    device = rig.device(camera.bundle, cut=5, ready=False, journal=str(tmp_path / "journal"))
    with device.feeding(50):
        device.wait_for_frames(5, 10)
        device.agent.stop()
        wanted = len(device.history.offered) + 5
        wait_until(lambda: len(device.history.offered) >= wanted, 5, "frames after the end")
    device.history.check(device.agent)
    assert device.history.ends[-1].reason == "agent stopped"


def test_an_input_that_does_not_fit(rig, camera):
    rig.worker()
    device = rig.device(camera.bundle, cut=5)
    with pytest.raises(InputError, match="float32"):
        device.agent.infer({"image": np.zeros((1, 64, 64, 3), np.uint8)})
    frame_id = device.agent.offer({"image": np.zeros((1, 2), np.float32)})
    device.history.on_offer(frame_id)
    device.history.check(device.agent)
    (end,) = device.history.ends
    assert end.outcome == Outcome.FAILED and "wanted float32[1, 64, 64, 3]" in end.reason
    device.offer()
    device.history.check(device.agent)
    assert device.history.ends[-1].outcome == Outcome.REMOTE


def test_two_devices_share_a_worker(rig, camera, counter):
    rig.worker()
    one = rig.device(camera.bundle, device_id="one", cut=1, deadline_ms=2000, keep_outputs=True)
    two = rig.device(counter.bundle, device_id="two", cut=1, deadline_ms=2000, seed=21)
    with one.feeding(15), two.feeding(25):
        one.wait_for_frames(30, 30)
    for device in (one, two):
        device.history.check_all_answered_in_time(device.agent)
        assert set(device.history.outcomes()) == {"remote"}
    whole = WholeModel(camera.model)
    for position, (_, answer) in enumerate(sorted(one.history.answers.items())):
        wanted = whole.run(one.inputs[position % len(one.inputs)].values())
        assert answer.outputs["scores"].tobytes() == wanted[0].tobytes()


@pytest.mark.parametrize("cut", [0, 1, 2])
def test_explicit_state_stays_on_the_device(rig, counter, cut):
    rig.worker()
    device = rig.device(counter.bundle, cut=cut, deadline_ms=5000)
    whole, state = WholeModel(counter.model), np.zeros((1, 4), np.float32)
    for i in range(20):
        x = device.inputs[i % len(device.inputs)]["in/x"]
        answer = device.agent.infer({"in/x": x})
        assert answer.outcome == Outcome.REMOTE, answer.reason
        wanted, state = whole.run([x, state])
        assert answer.outputs["z"].tobytes() == wanted.tobytes(), f"frame {i}"
        assert answer.outputs["raw_outputs/sum"].tobytes() == state.tobytes(), f"frame {i}"


def test_on_a_healthy_link_nearly_all_are_remote_and_none_is_late(tmp_path, rig, camera):
    rig.worker()
    journal = tmp_path / "journal.jsonl"
    device = rig.device(camera.bundle, cut=1, deadline_ms=1000, journal=str(journal))
    with device.feeding(50):
        device.wait_for_frames(300, 60)
    device.history.check(device.agent)
    outcomes = device.history.outcomes()
    ages = sorted(e.total_ms for e in device.history.ends)
    print(dict(outcomes), f"p50 {ages[len(ages) // 2]:.1f} ms, max {ages[-1]:.1f} ms")
    assert outcomes["remote"] >= 0.99 * outcomes.total()
    assert not any(e.late for e in device.history.ends)
    # The journal tells the same story.
    assert problems(device.history.offered, ends_of_journal(journal), deadline_ms=1000,
                    counts=outcomes) == []


def test_results_are_published_as_json(rig, camera):
    rig.worker()
    device = rig.device(camera.bundle, cut=5, top_k=3)
    answer = device.agent.infer(device.inputs[0], source="door")
    topic = f"si/v1/{device.agent.config.id}/up/result"
    seen = rig.observer.wait(lambda s: s.topic == topic, 5, "the result")
    record = seen.record
    assert (record["frame_id"], record["source"], record["outcome"]) == (1, "door", "remote")
    assert (record["cut"], record["rung"], record["late"]) == (5, "raw", False)
    assert record["worker"] == "worker-1" and record["payload_bytes"] == answer.payload_bytes
    assert {"head", "encode", "link", "queue", "decode", "tail"} <= set(record["stages_ms"])
    assert "age_ms" not in record and not seen.retain
    scores = to_real(answer.outputs["scores"], device.agent.bundle.output_specs[0]).ravel()
    best = np.argsort(-scores)[:3]
    assert [t["index"] for t in record["top"]] == best.tolist()
    assert [t["score"] for t in record["top"]] == pytest.approx(scores[best], abs=1e-6)


def test_results_made_without_a_broker_are_published_later_with_their_age(tmp_path, camera):
    with Rig(tmp_path, proxied=True) as rig:
        rig.worker()
        device = rig.device(camera.bundle, cut=5)
        rig.proxy.black_hole()
        rig.proxy.cut()
        wait_until(lambda: not device.agent.node.is_up, 5, "the loss of the connection")
        # More than a session holds for sending at QoS 1.
        for _ in range(200):
            assert device.agent.infer(device.inputs[0]).outcome == Outcome.FALLBACK
        assert not rig.results_of(device)
        assert device.agent.results.waiting == 200
        rig.proxy.heal()
        device.wait_until_ready()
        # The first ones may still find the link busy with the old results.
        answers = []
        while not answers or answers[-1].outcome is not Outcome.REMOTE:
            answers.append(device.agent.infer(device.inputs[0]))
            assert answers[-1].reason in ("", "link busy") and len(answers) < 100, answers
        count = 200 + len(answers)
        rig.observer.wait(lambda _: len(rig.results_of(device)) >= count, 10, f"{count} results")
        wait_until(lambda: not device.agent.results.waiting, 5, "the broker's acknowledgements")
        records = [s.record for s in rig.results_of(device)]
        assert [r["frame_id"] for r in records] == list(range(1, count + 1)), "once, in order"
        assert all(0 < r["age_ms"] < 1e4 for r in records[:200])
        assert records[0]["age_ms"] > records[199]["age_ms"]
        assert not any("age_ms" in r for r in records[200:])
