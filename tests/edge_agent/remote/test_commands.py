"""Commands as text: what is refused says why, and privacy cannot be loosened."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.config import AgentConfig, ModelConfig, PlanConfig
from edge_agent.policies.config import PolicyConfig
from edge_agent.remote import commands
from edge_agent.remote.commands import Address, Floor, Replies
from split_core.errors import ConfigError, MessageError
from split_core.wire.topics import Topics

TOPICS = Topics()


def config(fixed: bool = False, **policy) -> AgentConfig:
    return AgentConfig(model=ModelConfig("m"), plan=PlanConfig(cut=1 if fixed else None),
                       policy=PolicyConfig(**policy))


def carry_out(name: str, before: AgentConfig, floor: Floor | None = None, **fields) -> AgentConfig:
    command = commands.read(name, json.dumps(fields).encode())
    return commands.changed(before, command, floor or Floor.of(before.policy))


# -- reading


def test_a_command_is_read_with_its_id():
    command = commands.read("policy", b'{"id": "a1", "aim": "deadline"}')
    assert (command.name, command.id, command.body.aim) == ("policy", "a1", "deadline")
    assert commands.read("health", b"").id is None
    assert commands.read("reload", b'{"id": 7}').id == 7
    assert commands.read("model", b'{"id": 7, "sha256": "ab"}').body == {"sha256": "ab"}


@pytest.mark.parametrize("name, payload, words", [
    ("policy", b"{", "not JSON"),
    ("policy", b"\xff\xfe", "not JSON"),
    ("policy", b"[" * 5000, "not JSON"),
    ("policy", b"[1]", "a JSON list, wanted an object"),
    ("policy", b'{"aimm": "deadline"}', "unknown key aimm; did you mean aim?"),
    ("policy", b'{"aim": "cheap"}', "Invalid enum value 'cheap'"),
    ("bounds", b'{"deadline": 4}', "unknown key deadline; did you mean deadline_ms?"),
    ("bounds", b'{"min_cut": "3"}', "Expected `int`, got `str`"),
    ("health", b'{"now": true}', "unknown key now"),
    ("policy", b'{"id": {}}', "Expected"),
    ("policy", b'{"id": "' + b"x" * 129 + b'"}', "length"),
    ("model", b'"' + b"x" * 20_000 + b'"', "wanted at most 16384"),
])
def test_what_cannot_be_read_is_refused_with_words(name, payload, words):
    with pytest.raises(MessageError) as error:
        commands.read(name, payload)
    assert words in str(error.value)


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode)
       | st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=9),
                      lambda c: st.lists(c, max_size=3) | st.dictionaries(
                          st.sampled_from(["id", "aim", "min_cut", "kl", "trusted_workers", "x"]),
                          c, max_size=4)).map(lambda v: json.dumps(v).encode()),
       st.sampled_from(commands.NAMES))
def test_whatever_comes_is_a_command_or_a_message_error(payload, name):
    commands.id_of(payload)
    try:
        command = commands.read(name, payload)
        if name in ("policy", "bounds"):
            commands.changed(config(), command, Floor(0, None))
    except (MessageError, ConfigError):
        pass


def test_unknown_names_are_told_what_there_is():
    with pytest.raises(MessageError, match="unknown command 'polcy'; did you mean policy?"):
        commands.check_name("polcy", commands.NAMES)
    with pytest.raises(MessageError, match="there are policy, bounds"):
        commands.check_name("quux", commands.NAMES)
    with pytest.raises(MessageError, match="does not accept model"):
        commands.check_name("model", ("policy",))


# -- settings


def test_policy_and_bounds_change_what_they_name_and_nothing_else():
    before = config(min_cut=3, kl=0.01)
    after = carry_out("policy", before, aim="deadline")
    assert after == msgspec.structs.replace(
        before, policy=msgspec.structs.replace(before.policy, aim="deadline"))
    after = carry_out("bounds", before, deadline_ms=250, max_kl=0.1, mb_per_day=20)
    assert (after.frame.deadline_ms, after.policy.max_kl, after.policy.mb_per_day) == (250, 0.1,
                                                                                      20)
    assert (after.policy.kl, after.policy.min_cut, after.policy.aim) == (0.01, 3, "latency")
    assert carry_out("bounds", after, mb_per_day=None).policy.mb_per_day is None


@pytest.mark.parametrize("name, fields, words", [
    ("bounds", {"deadline_ms": 0}, "frame.deadline_ms is 0"),
    ("bounds", {"kl": 1, "max_kl": 0.5}, "policy.kl is 1"),
    ("bounds", {"soft_c": 90}, "policy.soft_c is 90"),
    ("bounds", {"trusted_workers": ["a/b"]}, "id 'a/b'"),
    ("bounds", {}, "nothing to change, wanted at least one of deadline_ms, kl"),
    ("policy", {"id": "1"}, "nothing to change, wanted at least one of aim"),
])
def test_values_that_cannot_work_are_refused(name, fields, words):
    with pytest.raises(ConfigError, match=words):
        carry_out(name, config(), **fields)


def test_a_fixed_plan_has_no_policy_but_has_bounds():
    with pytest.raises(ConfigError, match="does not plan for itself"):
        carry_out("policy", config(fixed=True), aim="deadline")
    assert carry_out("bounds", config(fixed=True), deadline_ms=90).frame.deadline_ms == 90


def test_min_cut_goes_up_and_back_to_the_file_but_not_below():
    file = config(min_cut=3)
    floor = Floor.of(file.policy)
    stricter = carry_out("bounds", file, floor, min_cut=5)
    assert stricter.policy.min_cut == 5
    assert carry_out("bounds", stricter, floor, min_cut=3).policy.min_cut == 3
    with pytest.raises(ConfigError, match="min_cut is 2, the device's file demands 3 or more"):
        carry_out("bounds", stricter, floor, min_cut=2)


@pytest.mark.parametrize("trusted", [None, ["w1", "w2", "w3"], ["w9"]])
def test_trust_is_taken_away_and_never_added(trusted):
    file = config(trusted_workers=("w1", "w2"))
    floor = Floor.of(file.policy)
    fewer = carry_out("bounds", file, floor, trusted_workers=["w1"])
    assert fewer.policy.trusted_workers == ("w1",)
    assert carry_out("bounds", fewer, floor, trusted_workers=["w2", "w1"]) is not None
    assert carry_out("bounds", fewer, floor, trusted_workers=[]).policy.trusted_workers == ()
    with pytest.raises(ConfigError, match="the device's file trusts w1, w2 only"):
        carry_out("bounds", fewer, floor, trusted_workers=trusted)


def test_a_floor_is_raised_by_stricter_settings_and_not_lowered_by_laxer_ones():
    floor = Floor(3, ("a", "b"))
    assert floor.raised(PolicyConfig(min_cut=1)) == floor
    assert floor.raised(PolicyConfig(min_cut=9, trusted_workers=("b", "c"))) == Floor(9, ("b",))
    assert Floor(0, None).raised(PolicyConfig(trusted_workers=("a",))) == Floor(0, ("a",))


policies = st.builds(PolicyConfig, min_cut=st.integers(0, 6), trusted_workers=st.none() | st.lists(
    st.sampled_from("abc"), unique=True).map(tuple))


@given(policies, st.lists(policies, max_size=6))
def test_no_row_of_commands_ends_laxer_than_the_file(file, asked):
    now = AgentConfig(model=ModelConfig("m"), policy=file)
    floor = Floor.of(file)
    for policy in asked:
        try:
            now = carry_out("bounds", now, floor, min_cut=policy.min_cut,
                            trusted_workers=policy.trusted_workers)
        except ConfigError:
            continue
    assert now.policy.min_cut >= file.min_cut
    if file.trusted_workers is not None:
        assert set(now.policy.trusted_workers) <= set(file.trusted_workers)


# -- replies


def test_a_command_that_comes_again_is_answered_and_not_carried_out():
    replies, to, also = Replies(), Address("t"), Address("u")
    assert replies.begin("policy", "1", b"x", to) == "new"
    assert replies.begin("policy", "1", b"x", also) is None
    assert replies.begin("bounds", "1", b"x", to) == "new"
    assert replies.addresses("policy", "1", to) == [to, also]
    assert replies.end("policy", "1", b"reply", to) == [to, also]
    assert replies.begin("policy", "1", b"x", to) == b"reply"
    with pytest.raises(MessageError, match="id '1' was another command's"):
        replies.begin("policy", "1", b"y", to)


def test_without_an_id_a_command_is_carried_out_each_time():
    replies, to = Replies(), Address("t")
    assert [replies.begin("health", None, b"", to) for _ in range(3)] == ["new"] * 3
    assert replies.end("health", None, b"reply", to) == [to]


def test_the_last_replies_are_kept_and_those_under_way_in_any_case():
    replies, to = Replies(kept=4), Address("t")
    replies.begin("policy", "open", b"", to)
    for i in range(9):
        replies.begin("policy", i, b"", to)
        replies.end("policy", i, b"%d" % i, to)
    assert replies.begin("policy", "open", b"", to) is None
    assert replies.begin("policy", 8, b"", to) == b"8"
    assert replies.begin("policy", 0, b"", to) == "new"


@pytest.mark.parametrize("topic", [
    "si/v1/pi/up/reply/policy", "si/v1/pi/up/reply/mine/7", "si/v1/_reply/anna/pi",
    "si/v1/_reply/anna/pi/7"])
def test_replies_go_where_they_are_asked_for(topic):
    assert commands.address(TOPICS, "pi", "policy", topic, b"c") == Address(topic, b"c")


def test_without_a_response_topic_there_is_one():
    assert commands.address(TOPICS, "pi", "policy", None, None) == Address(
        "si/v1/pi/up/reply/policy")


@pytest.mark.parametrize("topic", [
    "si/v1/pi/up/status", "si/v1/other/up/reply/policy", "si/v1/_reply/anna/other", "home/door",
    "si/v1/_reply/pi", "si/v1/pi/up/reply", "si/v1/pi/up/reply/#", "si/v1/_reply/+/pi", "",
    "si/v1/pi/dn/cmd/model", "si/v1/_reply/a/pi/" + "x" * 600])
def test_replies_go_nowhere_else(topic):
    with pytest.raises(MessageError, match="response topic"):
        commands.address(TOPICS, "pi", "policy", topic, None)
