"""More is offered than the link takes: what is delivered is fresh, and nothing piles up.

10 frames of 98 kB a second on a link of 300 kB/s. One such frame needs 333 ms on it, so three
of ten can be sent; the age of what comes back has to stay under twice that.
"""

from __future__ import annotations

import ctypes
import gc
import time
from pathlib import Path

import numpy as np
import pytest

from edge_agent.frames import Outcome
from tests.support.netns import Link
from tests.support.rig import Device, Rig

LINK_BPS = 300_000
FRAME_BYTES = 100_000
RATE_HZ = 10.0
MOST_MS = 2e3 * FRAME_BYTES / LINK_BPS
DEADLINE_MS = 1500.0
SETTLED_S = 60.0
LONG_S = 600.0
# Collecting garbage halts all threads for a tenth of a second in a process as large as pytest's.
SAMPLE_S = 30.0


def resident_mb() -> float:
    """Of this process, less what the allocator keeps of memory that nobody holds any more: in
    25 s of 9000 frames no line of Python held more at the end, and the pages still grew."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)       # glibc's
    if trim is not None:
        trim(0)
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def queued_bytes(device: Device) -> int:
    """Bytes of frames that the agent holds for sending, and what the session holds of them."""
    sender = device.agent.deployment.sender
    with sender.wake:
        held = sum(f.payload_bytes for f in sender.flights)
    return max(held, device.agent.node.backlog_bytes)


def ages_ms(device: Device) -> list[float]:
    return [e.total_ms for e in device.history.ends if e.outcome == Outcome.REMOTE]


def report(device: Device, record_property) -> None:
    ages = ages_ms(device)
    for name, value in (("age_p50_ms", np.percentile(ages, 50)), ("age_max_ms", max(ages)),
                        ("remote", len(ages)), ("frames", len(device.history.ends))):
        record_property(name, round(float(value), 1))
        print(f"{name} {value:.1f}")
    print(dict(device.history.outcomes()))


@pytest.fixture
def slow_rig(tmp_path):
    """A slow link."""
    with Rig(tmp_path, proxied=True) as rig:
        yield rig


@pytest.fixture
def slow(slow_rig, camera):
    """A device whose link was good until it was ready."""
    slow_rig.worker()
    device = slow_rig.device(camera.bundle, cut=1, deadline_ms=DEADLINE_MS)
    slow_rig.proxy.throttle(LINK_BPS)
    return device


def test_what_is_delivered_is_fresh(slow, record_property):
    most_queued = 0
    began_s = time.monotonic()
    with slow.feeding(RATE_HZ):
        while time.monotonic() - began_s < 12.0:
            slow.wait_for_frames(1, 5)
            most_queued = max(most_queued, queued_bytes(slow))
    slow.history.check(slow.agent)
    report(slow, record_property)
    print(f"most queued {most_queued} bytes")
    ages = ages_ms(slow)
    assert max(ages) < MOST_MS
    # The link is used: at least two thirds of what it could carry.
    assert len(ages) > 2 / 3 * 12.0 * LINK_BPS / FRAME_BYTES
    assert most_queued < 3 * FRAME_BYTES


@pytest.mark.check
def test_memory_is_flat_over_ten_minutes(slow_rig, slow, record_property):
    resident = []
    began_s = time.monotonic()
    with slow.feeding(RATE_HZ):
        while (passed_s := time.monotonic() - began_s) < LONG_S:
            slow.wait_for_frames(int(RATE_HZ), 10)
            slow_rig.observer.forget()
            if passed_s > SETTLED_S + SAMPLE_S * len(resident):
                resident.append(resident_mb())
    slow.history.check(slow.agent)
    report(slow, record_property)
    minutes = [round(m, 1) for m in resident[::2]] + [round(resident[-1], 1)]
    print(f"resident MB by the minute {minutes}")
    record_property("resident_mb", minutes)
    # A queue would make all that follow old; a machine busy elsewhere holds up a few of the two
    # thousand. The oldest measured: 462 ms on a calm machine, 739 beside a browser, 1035 beside
    # a process that took a whole core (of two); the median was 382 to 386 throughout.
    assert np.percentile(ages_ms(slow), 99) < MOST_MS
    assert max(ages_ms(slow)) < DEADLINE_MS
    # The history of 6000 frames is 2 MB of it. What leaks does not slow down, what settles does.
    assert max(resident) < resident[0] + 6.0
    half = len(resident) // 2
    assert max(resident) < resident[half] + 3.0


def test_on_a_real_queue(tmp_path, camera, record_property):
    """The same where the kernel is the bottleneck, with a queue that takes two frames."""
    with Link() as link, Rig(tmp_path, link=link) as rig:
        rig.worker()
        device = rig.device(camera.bundle, cut=1, deadline_ms=DEADLINE_MS)
        link.shape(rate_Bps=LINK_BPS, queue_bytes=200_000)
        with device.feeding(RATE_HZ):
            device.wait_for_frames(80, 20)
        device.history.check(device.agent)
        report(device, record_property)
        assert max(ages_ms(device)) < MOST_MS
