"""When a worker's records are published, on a session and a clock that the test moves."""

from __future__ import annotations

import pytest

from cloud_side import reports as module
from cloud_side.load import SAMPLE_S
from cloud_side.reports import Reports
from split_core.cost.profile import Profile, Timing, WorkerProfiles
from split_core.errors import LinkDown, MessageError
from split_core.session import BrokerLimits
from split_core.wire import records
from split_core.wire.records import WorkerLoad
from split_core.wire.topics import Topics


class Desk:
    """Node, session, tail and profiles in one, and what was published."""

    node_id = "w1"

    def __init__(self, monkeypatch):
        self.now_s = 1000.0
        monkeypatch.setattr(module.time, "monotonic", lambda: self.now_s)
        self.topics, self.session = Topics(), self
        self.limits: BrokerLimits | None = BrokerLimits("5")
        self.published, self.told, self.error = [], [], None
        self.wait_s = self.busy_s = 0.0
        self.current: tuple[Profile, ...] = ()
        self._timer = None
        self.reports = Reports(self, self, self)
        self.reports.on_up()
        self.reports.start()

    @property
    def is_up(self) -> bool:
        return self.limits is not None

    def load(self, now_s: float) -> tuple[float, float]:
        return self.wait_s, self.busy_s

    def publish(self, publication, on_done) -> None:
        if self.error is not None:
            raise self.error
        assert publication.retain and publication.qos == 1
        channel = publication.topic.removeprefix("si/v1/_pool/w1/up/")
        kind = {"load": WorkerLoad, "profile": WorkerProfiles}[channel]
        self.published.append((channel, records.load(publication.payload, kind), on_done))

    def tell_once(self, who: str, what: str) -> None:
        self.told.append(what)

    def call_soon(self, fn) -> None:
        fn()

    def call_at(self, when_s: float, fn) -> None:
        self._timer = when_s, fn

    def run(self, seconds: float) -> None:
        until_s = self.now_s + seconds
        while self._timer[0] <= until_s:
            self.now_s, fn = self._timer
            fn()
        self.now_s = until_s

    def take(self, channel: str) -> list:
        found = [record for name, record, _ in self.published if name == channel]
        self.published = [p for p in self.published if p[0] != channel]
        return found


@pytest.fixture
def desk(monkeypatch) -> Desk:
    return Desk(monkeypatch)


def made(number: int) -> Profile:
    return Profile(bundle=f"{number:064x}", machine="m", runtime="r", threads=1,
                   segments=(Timing(0.001, 0.0),), codings=(), whole_s=0.001, made="")


def listed(records_: list[WorkerProfiles]) -> list[list[int]]:
    return [[int(p.bundle, 16) for p in r.profiles] for r in records_]


def test_on_connect_both_are_published_whatever_they_say(desk):
    # An empty record takes the place of what an earlier process left.
    assert desk.take("profile") == [WorkerProfiles(())]
    assert desk.take("load") == [WorkerLoad(0.0, 0.0, 0.0)]
    desk.reports.on_up()
    desk.run(SAMPLE_S)
    assert desk.take("profile") == [WorkerProfiles(())]
    assert desk.take("load") == [WorkerLoad(0.0, 0.0, 0.0)]


def test_the_way_to_the_broker_is_timed_on_what_it_acknowledges(desk):
    (_, _, on_done), = [p for p in desk.published if p[0] == "load"]
    desk.now_s += 0.1
    on_done(True)
    desk.run(3.0)
    assert desk.take("load")[-1].broker_rtt_s == pytest.approx(0.1)
    # Another connection, another way; and what was lost with the old one says nothing.
    desk.reports.on_up()
    desk.now_s += 5.0
    on_done(False)
    desk.run(SAMPLE_S)
    assert desk.take("load")[-1].broker_rtt_s == 0.0


def test_the_load_is_sampled_and_told(desk):
    desk.take("load")
    desk.wait_s = 0.4
    desk.run(2.5)
    (load,) = desk.take("load")
    # Said at 2.17 s, of eight samples; the first was 0.
    assert load.queue_s == pytest.approx(0.4 * 7 / 8)


def test_profiles_are_told_when_they_change_but_not_with_every_frame(desk):
    desk.take("profile")
    desk.current = (made(1),)
    desk.run(SAMPLE_S)
    assert listed(desk.take("profile")) == [[1]]
    # Bundles that take turns: the last word is told, some time later.
    for number in (2, 3, 4):
        desk.current = (made(number),)
        desk.run(2.0)
    assert desk.take("profile") == []
    desk.run(10.0)
    assert listed(desk.take("profile")) == [[4]]
    desk.run(100.0)
    assert desk.take("profile") == []
    desk.current = ()
    desk.run(SAMPLE_S)
    assert listed(desk.take("profile")) == [[]]


def test_without_a_link_nothing_is_published_and_sampling_goes_on(desk):
    desk.published.clear()
    desk.limits, desk.current = None, (made(1),)
    desk.run(60.0)
    assert desk.published == []
    desk.limits = BrokerLimits("5")
    desk.reports.on_up()
    desk.run(SAMPLE_S)
    assert listed(desk.take("profile")) == [[1]] and len(desk.take("load")) == 1


def test_a_small_broker_gets_what_it_takes(desk):
    desk.take("profile")
    desk.limits = BrokerLimits("5", max_packet_bytes=1000)
    desk.current = tuple(made(i) for i in range(1, 9))
    desk.run(SAMPLE_S)
    (record,) = desk.take("profile")
    assert 0 < len(records.dump(record)) <= desk.limits.chunk_bytes
    assert 1 <= len(record.profiles) < 8 and record.profiles == desk.current[:len(record.profiles)]


@pytest.mark.parametrize("error, told", [(LinkDown("gone"), 0), (MessageError("too large"), 1)])
def test_what_cannot_be_published_is_no_end(desk, error, told):
    desk.published.clear()
    desk.error = error
    desk.reports.on_up()
    desk.run(1.0)
    assert bool(desk.told) == bool(told)
    desk.error = None
    desk.reports.on_up()
    desk.run(SAMPLE_S)
    assert len(desk.take("load")) == 1 and len(desk.take("profile")) == 1
