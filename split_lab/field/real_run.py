"""A field test in real time: every arm an agent of its own, on the same link, at the same time.

Each arm's frames have their own places within the period, and with an emulated link each arm has
one of its own that follows the same trace by the same clock: what the machine and the link do,
they do to all arms alike. Without one the arms take turns on the link there is.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge_agent.deployment import default_cut, default_rung
from edge_agent.control.controller import JournalEntry
from edge_agent.control.decisions import read_journal, state_of
from edge_agent.planner.candidates import Option
from split_core.errors import LinkDown, SplitError
from split_core.session.options import BrokerOptions
from split_lab.field.oracle import run_oracle
from split_lab.field.real_arm import journal_path, run_arm, tasks
from split_lab.field.records import DecisionRow, FieldRun, FrameRow, LinkRow
from split_lab.field.stack import LocalStack
from split_lab.field.trial import Trial, jpeg_option, local_option, raw_option
from split_lab.field.virtual_run import best_static

_START_S = 90.0
# Between "all are ready" and the first frame.
_LEAD_S = 1.0


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is done to broker or worker; in shares of the test's duration."""

    at: float
    what: str
    do: str                          # "pause", "kill"
    whom: str                        # "worker", "broker"
    for_s: float


FAULTS = (
    Fault(0.2, "the worker stops for 5 s", "pause", "worker", 5.0),
    Fault(0.45, "the worker is killed, another starts after 5 s", "kill", "worker", 5.0),
    Fault(0.7, "the broker is killed, another starts after 5 s", "kill", "broker", 5.0),
)


def run_real(trial: Trial, folder: Path, *, stack: LocalStack | None, faults: bool,
             inputs: str | None, progress: Callable[[int, int], None]) -> FieldRun:
    """Drive all arms for the trial's duration. Raises LinkDown when broker or worker do not
    come up, SplitError when an arm fails."""
    notes = trial.notes()
    options, oracle = _options(trial, notes)
    journal_path(folder).unlink(missing_ok=True)
    todo = tasks(trial, options, _broker_port(trial, stack), folder, inputs)
    context = multiprocessing.get_context("spawn")
    children = []
    try:
        for task in todo:
            ours, theirs = context.Pipe()
            child = context.Process(target=run_arm, args=(task, theirs), daemon=True)
            child.start()
            theirs.close()
            children.append((task.arm, child, ours))
        for arm, _, pipe in children:
            _expect(arm, pipe, "ready", _START_S)
        t0_s = time.monotonic() + _LEAD_S
        for _, _, pipe in children:
            pipe.send(t0_s)
        done = _wait(trial, t0_s, stack if faults else None, progress)
        frames: list[FrameRow] = []
        for arm, _, pipe in children:
            frames += _expect(arm, pipe, "rows", 60.0)
    except BaseException:
        for _, child, _ in children:
            child.terminate()
        raise
    finally:
        for _, child, _ in children:
            child.join(10.0)
    if oracle:
        frames += run_oracle(trial.setting())
        notes.append("The oracle was computed for the same trace, not run.")
    decisions, link = _decisions(trial, folder, t0_s)
    switches = {"adaptive": sum(d.switched for d in decisions)}
    if trial.device_s is not None:
        notes.append(f"Computing on the device was stretched to {1e3 * trial.device_s:.0f} ms for"
                     " the whole model; memory, storage and network were this machine's.")
    notes.append("Energy is modelled, not measured.")
    return FieldRun(trial.settings() | {"virtual": False}, tuple(frames), tuple(decisions),
                    tuple(link), tuple(done), tuple(notes), switches)


def _options(trial: Trial, notes: list[str]) -> tuple[dict[str, Option | None], bool]:
    """What each arm fixes; and whether there is an oracle."""
    found: dict[str, Option | None] = {}
    oracle = False
    for arm in trial.arms:
        match arm:
            case "adaptive":
                found[arm] = None
            case "local" | "peer":
                found[arm] = local_option(trial)
            case "raw":
                found[arm] = raw_option(trial)
            case "jpeg" if (option := jpeg_option(trial)) is not None:
                found[arm] = option
            case "static" if trial.link is not None:
                found[arm], _ = best_static(trial, trial.setting())
                notes.append(f"The best static choice on this trace is {found[arm].name}; it"
                             " was found in virtual time beforehand.")
            case "static":
                cut = max(default_cut(trial.bundle).cut, trial.options[0].cut)
                found[arm] = Option(cut, trial.bundle.segment_index(cut),
                                    default_rung(trial.bundle, cut).name, None, None, None)
                notes.append(f"The static choice is the one without planning,"
                             f" {found[arm].name}: the link is not known beforehand.")
            case "oracle" if trial.link is not None:
                oracle = True
            case _:
                notes.append(f"There is no arm {arm} in this test.")
    return found, oracle


def _broker_port(trial: Trial, stack: LocalStack | None) -> int | None:
    """Where emulated links lead; None without one."""
    if trial.link is None:
        return None
    if stack is not None:
        return stack.port
    options: BrokerOptions = trial.config.broker.options()
    if options.host not in ("127.0.0.1", "localhost", "::1") or options.tls is not None:
        raise SplitError("--link leads to a plain broker on this machine; the configured one is"
                         f" {trial.config.broker.url}")
    return options.port


def _expect(arm: str, pipe, what: str, timeout_s: float):
    if not pipe.poll(timeout_s):
        raise LinkDown(f"arm {arm} was not {what} after {timeout_s:.0f} s")
    try:
        said, value = pipe.recv()
    except EOFError:
        raise SplitError(f"arm {arm}: its process ended before it was {what}") from None
    if said == "failed":
        raise SplitError(f"arm {arm}: {value}")
    return value


def _wait(trial: Trial, t0_s: float, broken: LocalStack | None,
          progress: Callable[[int, int], None]) -> list[tuple[float, str]]:
    """Until the last frame was offered, doing what is to be done meanwhile."""
    due = sorted((fault.at * trial.duration_s, fault) for fault in FAULTS) if broken else []
    repairs: list[tuple[float, Fault]] = []
    done: list[tuple[float, str]] = []
    while (at_s := time.monotonic() - t0_s) < trial.duration_s:
        progress(max(0, int(at_s)), int(trial.duration_s))
        if due and at_s >= due[0][0]:
            fault = due.pop(0)[1]
            child = getattr(broken, fault.whom)
            getattr(child, fault.do)()
            done.append((at_s, fault.what))
            repairs.append((at_s + fault.for_s, fault))
        if repairs and at_s >= repairs[0][0]:
            fault = repairs.pop(0)[1]
            if fault.do == "pause":
                getattr(broken, fault.whom).resume()
            elif fault.whom == "broker":
                broken.start_broker()
            else:
                broken.worker.start()
        time.sleep(0.1)
    progress(int(trial.duration_s), int(trial.duration_s))
    return done


def _decisions(trial: Trial, folder: Path,
               t0_s: float) -> tuple[list[DecisionRow], list[LinkRow]]:
    """From the adaptive arm's journal; what was decided before the first frame is left out."""
    import msgspec

    from edge_agent.belief.transfers import quantile_of
    from edge_agent.planner.decide import Decision
    from edge_agent.planner.explore import Probe

    decisions, link, linked_s = [], [], -1.0
    if "adaptive" not in trial.arms:
        return decisions, link
    rate = trial.link and trial.link.uplink().rate
    for _, entry in read_journal(journal_path(folder)):
        if not isinstance(entry, JournalEntry):
            continue
        state = state_of(entry)
        at_s = state.now_s - t0_s
        decision = msgspec.json.decode(entry.decision, type=Decision)
        probe = msgspec.json.decode(entry.probe, type=Probe | None)
        if at_s < 0:
            continue
        rows = [(decision.reason, True)] if decision.switched else []
        rows += [(probe.reason, False)] if probe is not None else []
        decisions += [DecisionRow(
            at_s, decision.chosen.what, reason, switched, decision.chosen.cut,
            decision.chosen.costs["mean_ms"], state.battery.left_wh if trial.battery else None)
            for reason, switched in rows]
        if at_s - linked_s >= 1.0:
            linked_s = at_s
            believed = 8 / quantile_of(state.scenarios, 0.5)
            link.append(LinkRow(at_s, believed, rate and rate.mean_bps(at_s, at_s + 1.0)))
    return decisions, link
