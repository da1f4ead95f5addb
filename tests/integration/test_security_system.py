"""All of it under the shipped ACL and with certificates: answered remotely, seen by nobody."""

from __future__ import annotations

import pytest

from split_core.wire import messages as m
from split_core.wire.chunks import pull_chunk
from tests.support.rig import wait_until
from tests.support.secured import answered_as_by_the_whole_model, fence, is_inbox

NAMES = "device door\ndevice gate\nworker w1\nworker w2\noperator anna\nviewer wall\nhome-assistant ha"
FRAMES = 6
# What somebody would subscribe to who wants to see pictures.
CURIOUS = ("#", "si/v1/#", "si/v1/+/dn/in/+", "si/v1/_pool/+/in/+", "si/v1/_pool/w1/in/door",
           "$share/g/si/v1/_pool/+/in/+", "$share/g/si/v1/#")


@pytest.fixture
def names() -> str:
    return NAMES


def inbox_kinds(seen) -> set[m.Kind]:
    return {pull_chunk(s.payload).kind for s in seen if is_inbox(s.topic)}


def test_frames_are_answered_remotely_and_none_is_seen_by_operators(pool, broker, camera):
    with (broker.user("auditor", "#") as auditor, broker.user("anna", *CURIOUS) as operator,
          broker.user("wall", *CURIOUS) as viewer, broker.user("ha", *CURIOUS) as home,
          broker.user("gate", *CURIOUS) as gate, broker.user("w2", *CURIOUS) as other):
        pool.worker("w1")
        agent = pool.device("door", camera.bundle)
        answered_as_by_the_whole_model(agent, camera.model, FRAMES)
        wait_until(lambda: sum(s.topic == "si/v1/door/up/result" for s in auditor.seen) == FRAMES,
                   10, "the results on their topic")
        fence(auditor, auditor, operator, viewer, home, gate, other)
        # The bundle went over this broker as blobs, and frames of 98 kB: there was much to see.
        kinds = {m.Kind.FRAME, m.Kind.RESULT, m.Kind.BLOB_REQUEST, m.Kind.BLOB_PART}
        assert inbox_kinds(auditor.seen) >= kinds
        sent = sum(len(s.payload) for s in auditor.seen if is_inbox(s.topic))
        assert sent > FRAMES * 64_000 + camera.bundle.stat().st_size
        for user in (operator, viewer, home, gate, other):
            assert not any(map(is_inbox, user.topics))
            assert all(len(s.payload) < 10_000 for s in user.seen)
        # They are not blind: what they are to see came.
        for user in (operator, viewer, home):
            assert {"si/v1/door/up/status", "si/v1/door/up/result"} <= user.topics
        assert "si/v1/door/up/status" in other.topics
        assert "si/v1/door/up/result" not in other.topics | gate.topics
        assert not any(t.startswith("si/v1/door/") for t in gate.topics)


def test_a_command_of_an_operator_is_carried_out_and_one_of_a_worker_never_comes(
        pool, broker, camera):
    pool.worker("w1")
    agent = pool.device("door", camera.bundle)
    heard = []
    agent.subscribe(agent.topics.device_commands_filter("door"),
                    lambda topic, payload, received: heard.append(payload))
    with (broker.user("anna") as operator, broker.user("w2") as worker,
          broker.user("auditor") as auditor):
        command = agent.topics.device_command("door", "health")
        # Both at once is what a broker could mix up; the operator's comes last.
        assert not worker.may_write(command, b'{"id": "from a worker"}')
        assert operator.may_write(command, b'{"id": "from anna"}')
        fence(auditor, auditor)
        wait_until(lambda: heard, 10, "the operator's command")
    assert heard == [b'{"id": "from anna"}']


def test_a_device_that_poses_as_a_worker_is_chosen_by_nobody(pool, broker, camera):
    """It may write neither the status that would make it one nor into another's inbox."""
    with broker.user("gate") as gate, broker.user("auditor", "#") as auditor:
        status = b'{"state": "ready", "session": "00000000000000aa", "bundles": []}'
        for worker in ("gate", "w1", "w9"):
            assert not gate.may_write(f"si/v1/_pool/{worker}/up/status", status, retain=True)
            assert not gate.may_write(f"si/v1/door/dn/in/{worker}", b"SPLT")
        agent = pool.device("door", camera.bundle, ready=False)
        wait_until(lambda: agent.node.is_up, 10, "the connection")
        fence(auditor, auditor)
        assert agent.missing() == "no worker on this broker"
        pool.worker("w1")
        wait_until(lambda: agent.missing() is None, 30, "the real worker")
        answered_as_by_the_whole_model(agent, camera.model, 2)
