"""This machine as slow as a board: computing takes the time it would take there.

Segments and coders run as always, and what is missing to the board's time is slept. The times are
the profile's medians by one factor, not each run's own, so that the noise of this machine is not
multiplied. Only computing: memory, storage and the network stay as they are.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from edge_agent.config import AgentConfig
from edge_agent.frames import Plan
from edge_agent.inference.encoder import Encoder
from edge_agent.inference.segment_times import SegmentTimes
from edge_agent.machine import Machine
from split_core.cost.profile import Profile
from split_core.model.bundle import Bundle
from split_core.model.runner import Runner
from split_lab.field.virtual import Board


class SlowRunner(Runner):
    """Runs segments, each no faster than on the board."""

    board: Board

    def run_segment(self, index: int, live, keep=None):
        begin_s = time.monotonic()
        made = super().run_segment(index, live, keep)
        _sleep_until(begin_s + self.board.segment_s[index])
        return made


class SlowEncoder(Encoder):
    """Codes boundaries, no faster than on the board."""

    def __init__(self, bundle, board: Board):
        super().__init__(bundle)
        self._encode_s: Mapping[tuple[int, str], float] = board.encode_s

    def encode(self, live, plan: Plan, index: int | None):
        begin_s = time.monotonic()
        encoded = super().encode(live, plan, index)
        _sleep_until(begin_s + self._encode_s.get((plan.cut, plan.rung.name), 0.0))
        return encoded


class SlowMachine(Machine):
    """The board that is meant. Keeps no profile: that of this machine stays."""

    def __init__(self, board: Board, profile: Profile):
        """``profile``: the board's."""
        self._board, self._profile = board, profile

    def runner(self, bundle: Bundle, config: AgentConfig) -> Runner:
        runner = SlowRunner(bundle, runtime=config.model.runtime, threads=config.model.threads)
        runner.board = self._board
        return runner

    def encoder(self, bundle: Bundle) -> Encoder:
        return SlowEncoder(bundle, self._board)

    def load_profile(self, bundle: Bundle, config: AgentConfig) -> Profile:
        return self._profile

    def keep_profile(self, profile: Profile, times: SegmentTimes, config: AgentConfig) -> None:
        """Not what this machine takes."""


def _sleep_until(when_s: float) -> None:
    left_s = when_s - time.monotonic()
    if left_s > 0:
        time.sleep(left_s)
