"""Which frames the worker takes: a bounded queue that sheds early and drops what is too late.

Shedding at the door costs the agent one round trip; a frame that waits and then fails costs
it the deadline. Pure: time is an argument.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from split_core.wire.messages import Frame, Reason

# Weight of the newest service time in the running mean; about the last eight frames count.
_NEWEST = 0.2


@dataclass(frozen=True, slots=True)
class Job:
    """A frame that waits. Times are of the worker's monotonic clock."""

    sender: str
    frame: Frame
    first_s: float                   # its first chunk arrived
    complete_s: float                # its last chunk arrived

    @property
    def deadline_s(self) -> float:
        """Moment its budget is used up. Time on the network is not in it: no clock of ours
        knows that, so the agent subtracts it from what it gives."""
        return self.first_s + self.frame.budget_us * 1e-6


@dataclass(frozen=True, slots=True)
class Turned:
    """A frame turned away, and when to try again."""

    job: Job
    reason: Reason
    retry_after_s: float


class Admission:
    """Frames waiting for the one interpreter thread, oldest first."""

    def __init__(self, max_queue: int):
        self.max_queue = max_queue
        self._service_s: dict[tuple[bytes, int], float] = {}
        self._queue: deque[Job] = deque()
        self._under_way: tuple[Job, float] | None = None
        self._busy_s = 0.0

    def __len__(self) -> int:
        return len(self._queue)

    def wait_s(self, now_s: float) -> float:
        """How long a frame that came now would wait: for the rest of the job under way, then
        for the queue."""
        return self._rest_s(now_s) + sum(self.expected_s(job) or 0.0 for job in self._queue)

    def _rest_s(self, now_s: float) -> float:
        if self._under_way is None:
            return 0.0
        job, begin_s = self._under_way
        return max(0.0, (self.expected_s(job) or 0.0) - (now_s - begin_s))

    def busy_s(self, now_s: float) -> float:
        """Time spent on jobs so far, the one under way included."""
        if self._under_way is None:
            return self._busy_s
        return self._busy_s + max(0.0, now_s - self._under_way[1])

    def expected_s(self, job: Job) -> float | None:
        """How long a job will take; None for a bundle and cut not seen yet."""
        return self._service_s.get((job.frame.bundle_id, job.frame.cut))

    def offer(self, job: Job, now_s: float) -> Turned | None:
        """Queue a job, or say why not.

        With an empty queue only a frame that is late already is turned away: a mean from
        slower days must not keep itself alive by refusing what would correct it.
        """
        wait_s = self.wait_s(now_s)
        if now_s > job.deadline_s:
            return Turned(job, Reason.EXPIRED, 0.0)
        crowded = self._queue and now_s + wait_s + (self.expected_s(job) or 0.0) > job.deadline_s
        if crowded or len(self._queue) >= self.max_queue:
            return Turned(job, Reason.SHED, wait_s)
        self._queue.append(job)
        return None

    def take(self, now_s: float) -> tuple[Job | None, list[Turned]]:
        """The next job that is not too late, and those that are. It is under way until
        `on_ended`."""
        late = []
        while self._queue:
            job = self._queue.popleft()
            if now_s <= job.deadline_s:
                self._under_way = job, now_s
                return job, late
            late.append(Turned(job, Reason.EXPIRED, 0.0))
        return None, late

    def on_ended(self, now_s: float) -> None:
        """The job under way is done, or has failed."""
        self._busy_s, self._under_way = self.busy_s(now_s), None

    def on_served(self, job: Job, service_s: float) -> None:
        """A job took this long."""
        key = job.frame.bundle_id, job.frame.cut
        mean = self._service_s.setdefault(key, service_s)
        self._service_s[key] = mean + _NEWEST * (service_s - mean)

    def forget(self, bundle_id: bytes) -> None:
        """A bundle is gone; so is what was known of it."""
        for key in [k for k in self._service_s if k[0] == bundle_id]:
            del self._service_s[key]
