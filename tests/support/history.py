"""What became of every frame handed in, and whether that is what the agent promises.

`History` is an `on_answer` callback; `ends_of_journal` reads the same from a journal. `problems`
judges either: pure, and it names every broken promise instead of stopping at the first.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_agent.frames import Answer, Outcome

# Milliseconds are written with three decimals.
_ROUNDING_MS = 0.001
# From the agent's "this is on time" to its caller's hands; a thread may wait for the
# interpreter lock on a busy machine.
HANDED_ON_MS = 100.0


@dataclass(frozen=True, slots=True)
class End:
    """The end of one frame. ``arrived_ms``: in its caller's hands, since capture."""

    frame_id: int
    outcome: str
    reason: str
    late: bool
    total_ms: float
    worker: str | None
    seen_s: float | None = None
    arrived_ms: float | None = None


def ends_of_journal(path: str | Path) -> list[End]:
    """The ends that a journal tells of, in the order in which they were written."""
    records = [json.loads(line) for line in Path(path).read_text().splitlines()]
    return [End(r["frame_id"], r["outcome"], r["reason"], r["late"], r["total_ms"], r["worker"])
            for r in records]


def problems(offered: Sequence[int], ends: Iterable[End], *, deadline_ms: float,
             counts: Mapping[str, int] | None = None) -> list[str]:
    """Every promise that is broken, as a sentence; empty if all were kept.

    ``offered`` are the ids in the order in which frames were handed in; ``counts`` is what
    the agent counted.
    """
    ends = list(ends)
    found = []
    for before, after in zip(offered, offered[1:]):
        if after <= before:
            found.append(f"frame id {after} was given out after {before}")
    times = Counter(e.frame_id for e in ends)
    found += [f"frame {i} has no end" for i in offered if i not in times]
    found += [f"frame {i} ended {n} times" for i, n in times.items() if n > 1]
    found += [f"frame {i} ended but was never handed in" for i in times.keys() - set(offered)]
    for end in ends:
        found += _problems_of(end, deadline_ms)
    if counts is not None:
        found += _miscounted(offered, ends, counts)
    return found


def _problems_of(end: End, deadline_ms: float) -> list[str]:
    found = []
    name = f"frame {end.frame_id} ({end.outcome})"
    if end.outcome not in set(Outcome):
        return [f"{name}: no such outcome"]
    if end.total_ms > deadline_ms + _ROUNDING_MS and not end.late:
        found.append(f"{name}: late by {end.total_ms - deadline_ms:.1f} ms and not marked")
    elif end.arrived_ms is not None and not end.late and (
            end.arrived_ms > deadline_ms + HANDED_ON_MS):
        found.append(f"{name}: on time at {end.total_ms:.1f} ms by its own account, handed on"
                     f" at {end.arrived_ms:.1f} ms")
    if end.late and end.total_ms < deadline_ms - _ROUNDING_MS:
        found.append(f"{name}: marked late at {end.total_ms:.1f} ms of {deadline_ms:.0f} ms")
    if (end.outcome == Outcome.REMOTE) != bool(end.worker):
        found.append(f"{name}: worker is {end.worker!r}")
    if end.outcome != Outcome.REMOTE and end.outcome != Outcome.LOCAL and not end.reason:
        found.append(f"{name}: no reason given")
    return found


def _miscounted(offered: Sequence[int], ends: list[End], counts: Mapping[str, int]) -> list[str]:
    seen = Counter(str(e.outcome) for e in ends)
    found = [f"{n} frames ended {outcome}, counted were {counts.get(outcome, 0)}"
             for outcome, n in seen.items() if counts.get(outcome, 0) != n]
    found += [f"no frame ended {outcome}, counted were {n}"
              for outcome, n in counts.items() if n and outcome not in seen]
    if sum(counts.values()) != len(offered):
        found.append(f"counts add up to {sum(counts.values())}, handed in were {len(offered)}")
    return found


class History:
    """Records what is offered to an agent and what comes of it. Thread-safe.

    Answers' arrays are kept only with ``keep_outputs``, so that a long run stays small.
    """

    def __init__(self, *, keep_outputs: bool = False):
        self._keep_outputs = keep_outputs
        self._changed = threading.Condition()
        self.offered: list[int] = []
        self.ends: list[End] = []
        self.answers: dict[int, Answer] = {}

    def on_offer(self, frame_id: int) -> None:
        """A frame was handed in."""
        with self._changed:
            self.offered.append(frame_id)

    def on_answer(self, answer: Answer) -> None:
        """The agent's callback."""
        now_s = time.monotonic()
        end = End(answer.frame_id, str(answer.outcome), answer.reason, answer.late,
                  answer.total_ms, answer.worker, now_s, 1e3 * (now_s - answer.captured_s))
        with self._changed:
            self.ends.append(end)
            if self._keep_outputs:
                self.answers[answer.frame_id] = answer
            self._changed.notify_all()

    def wait(self, condition: Callable[[], bool], timeout_s: float, what: str) -> None:
        """Until ``condition()`` holds, looked at on every answer; fails saying ``what``."""
        with self._changed:
            if not self._changed.wait_for(condition, timeout_s):
                raise AssertionError(f"{what}: not within {timeout_s} s; last answers:"
                                     f" {self.ends[-3:]}")

    def wait_for_remote(self, after_s: float, timeout_s: float) -> float:
        """When the first remote answer after a moment came."""
        def first() -> float | None:
            return next((e.seen_s for e in self.ends
                         if e.outcome == Outcome.REMOTE and e.seen_s >= after_s), None)

        self.wait(lambda: first() is not None, timeout_s, "a remote answer")
        return first()

    def outcomes(self) -> Counter:
        """How many frames ended how."""
        return Counter(e.outcome for e in self.ends)

    def check(self, agent) -> None:
        """Wait until every frame handed in has ended; fail with all that is wrong."""
        deadline_ms = agent.config.frame.deadline_ms
        self.wait(lambda: len({e.frame_id for e in self.ends}) >= len(self.offered),
                  5.0 + 1e-3 * deadline_ms, "an end for every frame")
        counts = {str(k): n for k, n in agent.ledger.counts.items()}
        found = problems(self.offered, self.ends, deadline_ms=deadline_ms, counts=counts)
        assert not found, "\n".join(found)

    def check_all_answered_in_time(self, agent) -> None:
        """Beyond `check`: no frame was dropped or failed, and none was late."""
        self.check(agent)
        bad = [e for e in self.ends
               if e.late or e.outcome in (Outcome.DROPPED, Outcome.FAILED)]
        assert not bad, "\n".join(map(str, bad))
