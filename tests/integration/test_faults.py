"""What breaks while frames keep coming: each is answered by its deadline all the same, each
ends once, and answers come from the worker again soon after what broke is back.

The device can run the whole model in a few milliseconds, so it owes an answer for every frame.
The agent is one process and one object throughout: nothing is restarted on its side.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import pytest

from edge_agent.frames import Outcome
from tests.support.netns import Link
from tests.support.rig import Device, Rig, WorkerProcess, wait_until

DEADLINE_MS = 600.0
RATE_HZ = 16.0
# Frames before a fault, so that the agent has got used to answers that come at once.
SETTLED = 16
RECOVERY_S = 2.0


@pytest.fixture
def rig(tmp_path) -> Iterator[Rig]:
    with Rig(tmp_path, proxied=True) as rig:
        yield rig


@pytest.fixture
def worker(rig) -> WorkerProcess:
    return rig.worker()


@pytest.fixture
def device(rig, worker, camera) -> Device:
    # 98 kB a frame: two chunks, and at 4 MB/s 25 ms on the link, so that a fault finds one.
    rig.proxy.throttle(4_000_000)
    return rig.device(camera.bundle, cut=1, deadline_ms=DEADLINE_MS)


@contextlib.contextmanager
def steady(device: Device) -> Iterator[None]:
    """Frames before, during and after; the history is judged at the end."""
    with device.feeding(RATE_HZ):
        device.wait_for_frames(SETTLED, 20)
        assert Outcome.REMOTE in {e.outcome for e in device.history.ends[-5:]}
        yield
        device.wait_for_frames(SETTLED, 20)
    device.history.check_all_answered_in_time(device.agent)
    print(dict(device.history.outcomes()))


def in_mid_frame(device: Device) -> None:
    """Until the first part of a frame has left and its answer is not here."""
    sender = device.agent.deployment.sender

    def under_way() -> bool:
        with sender.wake:
            return sender.flights.oldest_sent_s() is not None

    wait_until(under_way, 5, "a frame under way")


def recovered(device: Device, since_s: float, record_property) -> float:
    """Seconds from ``since_s`` to the first answer of a frame that began after it."""
    def first() -> float | None:
        return next((e.seen_s for e in device.history.ends if e.outcome == Outcome.REMOTE
                     and e.seen_s - 1e-3 * e.arrived_ms >= since_s), None)

    device.history.wait(lambda: first() is not None, 20, "a remote answer again")
    took_s = first() - since_s
    print(f"remote again after {took_s:.3f} s")
    record_property("recovery_s", round(took_s, 3))
    return took_s


def only_local_for(device: Device, seconds: float) -> None:
    """Let frames end while the fault lasts."""
    device.wait_for_frames(int(seconds * RATE_HZ), seconds + 15)
    last = device.history.ends[-5:]
    assert {e.outcome for e in last} == {Outcome.FALLBACK}, last


def test_a_worker_that_is_killed_and_comes_back(rig, worker, device, record_property):
    with steady(device):
        in_mid_frame(device)
        worker.kill()
        only_local_for(device, 1.2)
        began_s = time.monotonic()
        worker.start()
        ready = rig.wait_for_worker(worker, device.agent.bundle, after_s=began_s)
        assert recovered(device, ready.seen_s, record_property) < RECOVERY_S


def test_a_worker_that_stands_still_and_goes_on(worker, device, record_property):
    with steady(device):
        in_mid_frame(device)
        worker.pause()
        only_local_for(device, 1.6)
        worker.resume()
        assert recovered(device, time.monotonic(), record_property) < RECOVERY_S


def test_a_broker_that_is_killed_and_comes_back(rig, device, record_property):
    with steady(device):
        in_mid_frame(device)
        rig.kill_broker()
        only_local_for(device, 1.6)
        rig.broker.start()
        assert recovered(device, time.monotonic(), record_property) < RECOVERY_S


# The first leaves the connection as it is; the second is long enough for it to be given up,
# while new ones are let in and get no answer.
@pytest.mark.parametrize("seconds", [0.6, 4.0])
def test_a_link_that_swallows_everything_for_a_while(rig, device, record_property, seconds):
    with steady(device):
        in_mid_frame(device)
        rig.proxy.black_hole()
        only_local_for(device, seconds)
        rig.proxy.heal()
        assert recovered(device, time.monotonic(), record_property) < RECOVERY_S


def test_a_link_that_loses_every_packet(tmp_path, camera, record_property):
    """TCP alone would notice the link's return at its next retransmission: waits double, so
    after 4 s of loss up to 4 s later."""
    with Link() as link, Rig(tmp_path, link=link) as rig:
        link.shape(rate_Bps=4_000_000, queue_bytes=200_000)
        rig.worker()
        device = rig.device(camera.bundle, cut=1, deadline_ms=DEADLINE_MS)
        with steady(device):
            in_mid_frame(device)
            link.lose_everything()
            only_local_for(device, 4.0)
            link.shape(rate_Bps=4_000_000, queue_bytes=200_000)
            assert recovered(device, time.monotonic(), record_property) < RECOVERY_S


def test_a_link_that_is_cut(rig, device, record_property):
    with steady(device):
        in_mid_frame(device)
        rig.proxy.cut()
        assert recovered(device, time.monotonic(), record_property) < RECOVERY_S
    assert device.agent.node.session.stats.losses == 1


def test_a_link_that_is_cut_again_and_again(rig, device, record_property):
    with steady(device):
        for _ in range(4):
            in_mid_frame(device)
            rig.proxy.cut()
            device.wait_for_frames(3, 10)
        assert recovered(device, time.monotonic(), record_property) < RECOVERY_S


def test_everything_at_once(rig, worker, device, record_property):
    with steady(device):
        rig.proxy.black_hole()
        device.wait_for_frames(6, 10)
        rig.kill_broker()
        worker.kill()
        only_local_for(device, 1.2)
        rig.broker.start()
        rig.proxy.heal()
        began_s = time.monotonic()
        worker.start()
        ready = rig.wait_for_worker(worker, device.agent.bundle, after_s=began_s)
        assert recovered(device, ready.seen_s, record_property) < RECOVERY_S
