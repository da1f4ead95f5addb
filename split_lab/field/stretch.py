"""This machine as slow as a board: computing takes the time it would take there.

Segments and coders run as always, and what is missing to the board's time is slept. The times are
the profile's medians by one factor, not each run's own, so that the noise of this machine is not
multiplied. Only computing: memory, storage and the network stay as they are.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import msgspec

from edge_agent.agent import EdgeAgent
from edge_agent.encoder import Encoder
from edge_agent.frames import Plan
from split_core.cost.profile import Profile
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


class SlowAgent(EdgeAgent):
    """An agent on the board that is meant. Keeps no profile: that of this machine stays."""

    def __init__(self, config, board: Board, profile: Profile, on_answer=None):
        self._board, self._given = board, profile
        super().__init__(config, on_answer)

    def _new_runner(self) -> Runner:
        runner = SlowRunner(self.bundle, runtime=self.config.model.runtime,
                            threads=self.config.model.threads)
        runner.board = self._board
        return runner

    def _new_encoder(self) -> Encoder:
        return SlowEncoder(self.bundle, self._board)

    def _load_profile(self) -> Profile:
        return stretched(self._given, self._board)

    def _keep_profile(self, profile: Profile) -> None:
        """Not what this machine takes."""


def stretched(profile: Profile, board: Board) -> Profile:
    """A profile as it would be on the board."""
    factor = sum(board.segment_s) / profile.span_s(0, len(profile.segments))
    replace = msgspec.structs.replace
    return replace(
        profile,
        segments=tuple(replace(t, median_s=s, spread_s=min(3600.0, factor * t.spread_s))
                       for t, s in zip(profile.segments, board.segment_s)),
        codings=tuple(replace(c, encode_s=min(3600.0, factor * c.encode_s),
                              decode_s=min(3600.0, factor * c.decode_s))
                      for c in profile.codings),
        whole_s=sum(board.segment_s))


def _sleep_until(when_s: float) -> None:
    left_s = when_s - time.monotonic()
    if left_s > 0:
        time.sleep(left_s)
