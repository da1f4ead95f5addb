"""The decision journal: what it keeps, and what of it may be missing."""

from __future__ import annotations

import json

import msgspec
import pytest

from edge_agent.control.controller import JournalEntry
from edge_agent.control.decisions import (
    JournalError,
    Settings,
    read_journal,
    read_moments,
    state_of,
)
from edge_agent.journal import predecessor
from edge_agent.planner.candidates import candidates_of, options_of
from edge_agent.planner.decide import decide
from edge_agent.planner.state import DeviceState
from edge_agent.policies.config import PolicyConfig, rules_of
from edge_agent.whatif.replay import check
from split_core.errors import InputError
from split_core.version import VERSION
from tests.edge_agent.decision_journals import WORKERS, make_bundle, write_journal


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("journal"))


@pytest.fixture
def journal(bundle, tmp_path):
    path = tmp_path / "decisions.jsonl"
    write_journal(path, bundle, decisions=12)
    return path


def test_the_first_line_says_by_what_rules_and_between_what(journal, bundle):
    (_, settings), *rest = read_journal(journal)
    assert isinstance(settings, Settings) and (settings.format, settings.version) == (2, VERSION)
    assert settings.bundle == bundle.id_hex and settings.policy.max_kl == 0.01
    assert settings.options == options_of(bundle, 0.001, 0.01)
    assert [number for number, _ in rest] == list(range(2, 14))
    assert all(isinstance(line, JournalEntry) for _, line in rest)


def test_a_state_comes_back_exactly_and_so_does_its_decision(journal):
    lines = [line for _, line in read_journal(journal)]
    settings, first = lines[0], lines[1]
    state = state_of(first)
    assert msgspec.json.decode(msgspec.json.encode(state), type=DeviceState) == state
    # The same numbers; an empty sum is written as 0, and read as 0.0.
    assert msgspec.json.decode(msgspec.json.encode(state)) == msgspec.json.decode(first.state)
    # Floats that have no short decimal are among them.
    assert any(len(repr(s)) > 15 for s in state.segment_s + (state.rtt_s,) + tuple(
        v for line in lines[2:] for v in state_of(line).segment_s))
    decision = decide(state, candidates_of(settings.options, WORKERS), None,
                      rules_of(settings.policy, settings.cost))
    assert decision.to_json() == bytes(first.decision)


def test_a_last_line_that_was_cut_off_is_left_out(journal):
    data = journal.read_bytes()
    last = data.rstrip(b"\n").rfind(b"\n") + 1
    for end in range(last + 1, len(data) - 1, 37):
        journal.write_bytes(data[:end])
        assert len(list(read_journal(journal))) == 12          # settings and eleven
    journal.write_bytes(data[:-1])                             # only its end is missing
    assert len(list(read_journal(journal))) == 13


def test_an_agent_that_starts_after_a_cut_goes_on_in_that_line(journal, bundle):
    data = journal.read_bytes()
    journal.write_bytes(data[:-100])
    write_journal(journal, bundle, decisions=3, seed=2)
    moments = list(read_moments(journal))
    assert [m.start for m in moments] == [0] * 11 + [1] * 3
    assert [m.line for m in moments][-3:] == [14, 15, 16]


@pytest.mark.parametrize("line, words", [
    (b"not json\n", "malformed"), (b'{"kind":"other"}\n', "Invalid value 'other'"),
    (b"\xff\xfe\n", "line 4"), (b"[" * 100_000 + b"\n", "line 4"),
    (b" " * (1 << 20) + b"{}\n", "1048579 bytes")])
def test_a_line_that_is_none_is_named(journal, line, words):
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:3], line, *lines[3:]]))
    with pytest.raises(JournalError, match="line 4: ") as caught:
        list(read_journal(journal))
    assert words in str(caught.value) and caught.value.exit_code == 65


def rewritten(journal, number, change):
    """The journal with one line changed, as an object."""
    lines = journal.read_bytes().splitlines()
    entry = json.loads(lines[number - 1])
    change(entry)
    lines[number - 1] = json.dumps(entry).encode()
    journal.write_bytes(b"\n".join(lines) + b"\n")


@pytest.mark.parametrize("number, change, words", [
    (1, lambda e: e.update(format=9), "line 1: format 9, wanted 1 or 2; "),
    (1, lambda e: e["options"].pop(), "line 2: 12 codings, wanted one for each of 11"),
    (3, lambda e: e["state"].pop("rtt_s"), "line 3: state: .*rtt_s"),
    (3, lambda e: e["state"].update(scenarios=[]), "line 3: no scenario"),
    (3, lambda e: e["state"]["segment_s"].pop(), "line 3: 5 segment times, wanted 6"),
    (3, lambda e: e["state"]["workers"][0].update(service_s=[]), "line 3: workers"),
])
def test_what_a_planner_could_not_work_with_is_named(journal, number, change, words):
    rewritten(journal, number, change)
    with pytest.raises(JournalError, match=words):
        list(read_moments(journal))


def test_a_journal_of_format_1_is_replayed(journal):
    """As agents wrote them: their states have one field more."""
    data = journal.read_bytes().replace(b'"format":2,', b'"format":1,')
    assert data.count(b'"wait_s":') == 12
    journal.write_bytes(data.replace(b'"wait_s":', b'"loss_ratio":0.1,"wait_s":'))
    found = check(str(journal))
    assert (found.decisions, found.difference) == (12, None)


def test_each_of_two_files_is_replayed_by_itself(bundle, tmp_path):
    """Its first line says what the planner remembered when the file before was full."""
    path = tmp_path / "decisions.jsonl"
    write_journal(path, bundle, decisions=80, policy=PolicyConfig(
        kl=0.001, max_kl=0.01, journal_mb=0.2))
    total = 0
    for file in (predecessor(path), path):
        assert 0.1e6 < file.stat().st_size <= 0.2e6
        found = check(str(file))
        assert (found.difference, found.starts) == (None, 1)
        total += found.decisions
    assert total == 80
    (_, settings), *_ = read_journal(path)
    last = [line for _, line in read_journal(predecessor(path))][-1]
    assert msgspec.to_builtins(settings.memory.current) == json.loads(
        bytes(last.decision))["current"]
    assert settings.memory.exploration.probed is not None
    # It matters: without it the first decision is another one.
    rewritten(path, 1, lambda e: e.update(memory=None))
    assert check(str(path)).difference.line == 2


def test_decisions_that_the_disk_did_not_take_leave_a_gap_that_can_be_replayed(bundle, tmp_path):
    path = tmp_path / "decisions.jsonl"
    write_journal(path, bundle, decisions=60, full=range(20, 30))
    kinds = [line for _, line in read_journal(path)]
    assert [i for i, line in enumerate(kinds) if isinstance(line, Settings)] == [0, 21]
    found = check(str(path))
    assert (found.decisions, found.difference) == (50, None)


def test_decisions_need_settings_before_them(journal):
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[1:]))
    with pytest.raises(JournalError, match="line 1: a decision without settings"):
        list(read_moments(journal))


def test_a_journal_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="No such file") as caught:
        list(read_journal(tmp_path / "none"))
    assert caught.value.exit_code == 66
