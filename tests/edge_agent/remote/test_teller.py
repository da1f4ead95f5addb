"""Events on their way out: one at a time, in their order, and seldom to who refuses them."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from edge_agent.remote.teller import Teller
from split_core.errors import LinkDown, MessageError
from split_core.wire.topics import Topics


class Session:
    """A session whose broker answers when the test says so. Its clock is its own."""

    def __init__(self):
        self.now_s, self.is_up = 0.0, True
        self.sent: list[tuple[float, dict]] = []
        self.open: list = []                 # what the broker has not answered yet
        self.timers: list[SimpleNamespace] = []
        self.raises: Exception | None = None

    def publish(self, publication, done) -> None:
        if self.raises is not None:
            raise self.raises
        self.sent.append((self.now_s, json.loads(publication.payload)))
        self.open.append(done)

    def call_soon(self, fn) -> None:
        fn()

    def call_at(self, when_s, fn):
        timer = SimpleNamespace(when_s=when_s, fn=fn)
        timer.cancel = lambda: self.timers.remove(timer)
        self.timers.append(timer)
        return timer

    def answer(self, acknowledged: bool) -> None:
        done, = self.open
        self.open.clear()
        done(acknowledged)

    def pass_time(self, until_s: float, step=lambda: None) -> None:
        while self.timers and min(t.when_s for t in self.timers) <= until_s:
            timer = min(self.timers, key=lambda t: t.when_s)
            self.timers.remove(timer)
            self.now_s = timer.when_s
            timer.fn()
            step()
        self.now_s = until_s

    def texts(self) -> list[str]:
        return [record["text"] for _, record in self.sent]


@pytest.fixture
def session() -> Session:
    return Session()


@pytest.fixture
def teller(session) -> Teller:
    """One whose first event, its start, has arrived."""
    manifest = SimpleNamespace(name="m")
    agent = SimpleNamespace(node=SimpleNamespace(session=session), topics=Topics(),
                            config=SimpleNamespace(id="pi"),
                            bundle=SimpleNamespace(manifest=manifest, id_hex="ab"))
    teller = Teller(agent, clock=lambda: session.now_s)
    session.answer(True)
    session.sent.clear()
    return teller


def tell(teller: Teller, text: str) -> None:
    teller.tell("worker", text, worker="w", was=None)


def test_they_go_one_by_one_in_their_order(session, teller):
    for text in "abc":
        tell(teller, text)
    assert session.texts() == ["a"], "the next goes once it has arrived"
    session.answer(True)
    session.answer(True)
    session.answer(True)
    assert session.texts() == ["a", "b", "c"] and not session.timers


def test_a_broker_that_refuses_them_all_is_asked_less_and_less(session, teller):
    """One without the topic in its access rules, on a link that somebody pays for."""
    def refuse() -> None:
        while session.open:
            session.answer(False)

    for minute in range(60):
        tell(teller, f"minute {minute}")
        refuse()
        session.pass_time(60.0 * (minute + 1), refuse)
    assert len(session.sent) < 20
    assert len(session.timers) == 1
    # Once it takes them again, those that had room come in their order.
    session.pass_time(session.timers[0].when_s)
    taken = []
    while session.open:
        taken.append(session.sent[-1][1]["text"])
        session.answer(True)
    assert taken == [f"minute {n}" for n in range(60 - len(taken), 60)] and len(taken) > 5
    tell(teller, "again")
    assert session.texts()[-1] == "again" and not session.timers


def test_a_new_connection_waits_for_nothing(session, teller):
    tell(teller, "a")
    session.is_up = False
    session.answer(False)                    # it went with the link
    tell(teller, "b")
    assert session.texts() == ["a"]
    session.is_up = True
    teller.on_up()
    assert session.texts() == ["a", "a"] and not session.timers
    session.answer(True)
    assert session.texts() == ["a", "a", "b"]


def test_a_word_that_the_last_connection_took_with_it_holds_up_nothing(session, teller):
    tell(teller, "a")
    session.open.clear()                     # what became of it is never said
    teller.on_up()
    tell(teller, "b")
    assert session.texts() == ["a", "b"]


def test_a_link_that_takes_no_more_is_tried_again_soon(session, teller):
    session.raises = LinkDown("much already waits")
    tell(teller, "a")
    session.pass_time(58.0)
    session.raises = None
    assert not session.sent
    session.pass_time(60.0)
    assert session.texts() == ["a"]


def test_one_that_never_can_go_holds_up_no_other(session, teller, caplog):
    session.raises = MessageError("larger than the broker takes")
    tell(teller, "a")
    session.raises = None
    tell(teller, "b")
    assert session.texts() == ["b"] and "event=event-not-sent" in caplog.text
