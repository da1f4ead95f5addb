"""The clairvoyant choice: for each frame the fastest candidate, the link's future being known.

Greedy, frame by frame, over the same options as the planner. Its step is the finest that is done by
the share of the deadline that a frame's step is meant to need; an agent that codes coarser, because
it does not know, can be faster for that, and only so. What it sends occupies its link as it would
anybody's; what it does not send leaves it free. It needs no fallback, no probe and no margin, so it
is a yardstick, not a rival.
"""

from __future__ import annotations

from edge_agent.belief.beliefs import MESSAGE_BYTES
from edge_agent.control.step import StepRange
from edge_agent.frames import Outcome, Plan
from edge_agent.planner.predict import STEP_SHARE
from split_core.wire.quality import step_index
from split_core.wire.rungs import Rung
from split_lab.field.device import RESULT_BYTES, Setting
from split_lab.field.records import FrameRow
from split_lab.field.virtual import WORKER


def run_oracle(setting: Setting) -> list[FrameRow]:
    """One row a frame."""
    board = setting.board
    up, down = setting.link.uplink(), setting.link.downlink()
    whole_s, free_s, rows = sum(board.segment_s), 0.0, []
    for index in range(setting.frames):
        offered_s = (index + 0.5) * setting.period_s
        begin_s = max(offered_s, free_s)
        best = begin_s + whole_s, None, None
        for option in setting.options[:-1]:
            if _launch_s(setting, option, begin_s) - offered_s >= setting.deadline_s:
                continue                 # past its deadline nothing is sent
            found = _through(setting, option, index, begin_s, offered_s, up, down)
            if found[0] < best[0]:
                best = found
        end_s, sent, option = best
        option = option or setting.options[-1]
        head_s = sum(board.segment_s[:option.segment])
        nbytes, kl = 0, None
        if sent is not None:
            nbytes, kl, sent_s = sent
            down.send(MESSAGE_BYTES, up.arrives_s(up.send(nbytes + MESSAGE_BYTES, sent_s)))
            head_s = sent_s - begin_s
        free_s = begin_s + head_s
        up.send(RESULT_BYTES, end_s)
        total_s = end_s - offered_s
        rows.append(FrameRow(
            "oracle", index, offered_s, (Outcome.REMOTE if sent else Outcome.LOCAL).value, "",
            total_s > setting.deadline_s, 1e3 * total_s, option.cut, option.rung,
            WORKER if sent else None, nbytes, setting.energy.frame_j(head_s, nbytes), kl, 0,
            {"wait": 1e3 * (begin_s - offered_s), "head": 1e3 * head_s,
             "link": 1e3 * (total_s - head_s - begin_s + offered_s) if sent else 0.0}))
    return rows


def _launch_s(setting: Setting, option, begin_s: float) -> float:
    """When a frame begun at ``begin_s`` would leave."""
    return (begin_s + sum(setting.board.segment_s[:option.segment])
            + setting.board.encode_s.get((option.cut, option.rung), 0.0))


def _through(setting: Setting, option, index: int, begin_s: float, offered_s: float, up, down):
    """When a frame would be answered by an option: (end, what is sent, the option)."""
    bundle, board = setting.bundle, setting.board
    sent_s = _launch_s(setting, option, begin_s)

    def end_s(nbytes: int) -> float:
        there_s = up.arrives_s(up.copy().send(nbytes + MESSAGE_BYTES, sent_s))
        left_s = there_s + board.overhead_s + board.worker_s[option.segment]
        return down.arrives_s(down.copy().send(MESSAGE_BYTES, left_s))

    steps = StepRange.of(Plan(0, option.cut, Rung.parse(option.rung),
                              coarsest=option.coarsest and Rung.parse(option.coarsest)), bundle)
    if steps is None:
        asked = (step_index(Rung.parse(option.rung), bundle.rate(option.cut))
                 if option.rung.startswith("kl") else None)
        nbytes = setting.sizes.of(index, option.cut, option.rung, asked)
        return end_s(nbytes), (nbytes, option.kl, sent_s), option
    limit_s = offered_s + STEP_SHARE * setting.deadline_s
    curve = bundle.rate(option.cut) or bundle.picture_rate(Rung.parse(option.rung).kind)
    toward = 1 if steps.coarsest >= steps.best else -1
    for step in range(steps.best, steps.coarsest + toward, toward):
        nbytes = setting.sizes.of(index, option.cut, option.rung, step)
        end = end_s(nbytes)
        if end <= limit_s:
            break
    return end, (nbytes, curve.kl(step), sent_s), option
