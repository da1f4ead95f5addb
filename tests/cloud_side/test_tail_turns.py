"""What a watchdog sees of the tail thread: it turns with each job, and when it is woken."""

from __future__ import annotations

from cloud_side.admission import Admission
from cloud_side.tail import TailThread
from tests.support.rig import wait_until


class NoProfiles:
    """Nothing is to be measured."""

    missing = 0

    def measure_one(self, is_wanted) -> None:
        raise AssertionError("nothing to measure")


class Busy:
    """An admission with a job at any time."""

    def __len__(self) -> int:
        return 1

    def take(self, now_s: float) -> tuple[object, list]:
        return object(), []


def make() -> TailThread:
    def unused(*_args) -> None:
        raise AssertionError

    return TailThread(None, Admission(4), NoProfiles(), runtime=None, threads=1, max_loaded=2,
                      on_result=unused, on_turned=unused, on_unsure=unused, on_loaded=unused,
                      on_fatal=unused)


def test_it_turns_with_each_job_though_it_never_waits():
    tail, served = make(), []
    tail._admission, tail._serve = Busy(), served.append
    for turns in (1, 2, 3):
        assert tail._step()
        tail._done()
        assert tail.turns == turns == len(served)


def test_an_idle_one_turns_when_it_is_poked():
    tail = make()
    tail.start()
    wait_until(lambda: tail.turns >= 1, 5, "its first turn")
    before = tail.turns
    for more in (1, 2, 3):
        tail.poke()
        wait_until(lambda: tail.turns >= before + more, 5, "a turn")
    tail.stop()
    assert not tail.is_alive
