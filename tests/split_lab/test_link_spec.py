"""Links as people write them, and what is said about those written wrongly."""

from __future__ import annotations

import numpy as np
import pytest

from split_core.errors import InputError, UsageError
from split_lab.field.link_spec import LinkSpec, load_trace, parse_rate
from split_lab.field.uplink import Constant, Opportunities, Steps
from tests.support.shared_data import FOLDER


@pytest.mark.parametrize("text, bps", [
    ("1Mbit", 1e6), ("500kbit", 5e5), ("10Mbit/s", 1e7), ("20000", 2e4), ("0.8Mbit", 8e5),
    (".5mbit", 5e5), ("2 Mbps", 2e6), ("1Gbit", 1e9), ("300bit", 300.0), (" 1e6 ", 1e6),
])
def test_rates(text, bps):
    assert parse_rate(text) == bps
    assert LinkSpec.parse(text).rate == Constant(bps)


@pytest.mark.parametrize("text", ["", "fast", "1MB", "-1Mbit", "0", "0Mbit", "1Mbit/h", "nan",
                                  "2Gbit", "1e400", "1 000"])
def test_wrong_rates_are_named(text):
    with pytest.raises(UsageError, match="wanted") as error:
        parse_rate(text)
    assert repr(text) in str(error.value)


def test_steps():
    rate = LinkSpec.parse("step:10Mbit@30,0.5Mbit@15,0@5").rate
    assert isinstance(rate, Steps)
    assert rate.steps == ((1e7, 30.0), (5e5, 15.0), (0.0, 5.0))


@pytest.mark.parametrize("text", ["step:", "step:1Mbit", "step:1Mbit@", "step:1Mbit@0", "step:@3",
                                  "step:1Mbit@-3", "step:1Mbit@x", "step:1Mbit@inf", "step:0@3",
                                  "step:1Mbit@3,", "step:2Gbit@3", "synthetic:", "synthetic:7",
                                  "synthetic:x,1Mbit", "synthetic:7,0", "synthetic:7,0.5Gbit",
                                  "no/such.up", "1Mbits"])
def test_wrong_links_are_named(text):
    with pytest.raises(UsageError, match="found .*wanted"):
        LinkSpec.parse(text)


def test_synthetic_is_the_same_for_the_same_seed():
    first, again, other = (LinkSpec.parse(f"synthetic:{seed},0.8Mbit").rate for seed in (7, 7, 8))
    assert np.array_equal(first.times_ms, again.times_ms)
    assert not np.array_equal(first.times_ms, other.times_ms)
    assert first.mean_bps(0, first.period_s) == pytest.approx(8e5, rel=0.001)


@pytest.mark.parametrize("field, value", [
    ("rtt_s", -0.1), ("rtt_s", float("nan")), ("jitter_s", -1), ("offset_s", float("inf")),
    ("downlink_bps", 0), ("outages", ((1.0,),)), ("outages", ((-1.0, 2.0),)),
    ("black_holes", ((1.0, float("inf")),)), ("seed", -1), ("seed", 0.5),
])
def test_wrong_fields_are_named(field, value):
    with pytest.raises(UsageError, match=f"{field}: found"):
        LinkSpec.parse("1Mbit", **{field: value})


def test_a_trace_is_read(tmp_path):
    path = tmp_path / "a.up"
    path.write_bytes(b"0\n5\r\n5\n20\n\n")
    assert load_trace(path).times_ms.tolist() == [0, 5, 5, 20]
    assert isinstance(LinkSpec.parse(str(path)).rate, Opportunities)


@pytest.mark.parametrize("damaged, complaint", [
    (b"", "empty"), (b"\n \n", "empty"), (b"1\nx\n", "line 2: found 'x'"),
    (b"1\n2.5\n", "line 2: found '2.5'"), (b"-1\n2\n", "line 1: found '-1'"),
    (b"1\n\n2\n", "line 2: found ''"), (b"1\n1_0\n", "line 2: found '1_0'"),
    (b"1\n9\n8\n", "line 3: found 8 after 9"), (b"0\n0\n", "found 0 as its last"),
    (b"1\n1600000000000\n", "line 2: found '1600000000000'"), (b"9" * 5000, "line 1: found '9999"),
    (b"\xff\xfe1\n", "line 1"),
])
def test_damaged_traces_are_refused(tmp_path, damaged, complaint):
    path = tmp_path / "damaged.up"
    path.write_bytes(damaged)
    with pytest.raises(InputError) as error:
        load_trace(path)
    assert complaint in str(error.value) and "wanted" in str(error.value)


def test_an_absurdly_large_file_is_refused_unread(tmp_path):
    path = tmp_path / "large.up"
    with path.open("wb") as f:
        f.truncate(1 << 40)  # sparse
    with pytest.raises(InputError, match="wanted a trace of at most"):
        load_trace(path)


def test_a_missing_trace_or_a_folder_is_refused(tmp_path):
    for path in (tmp_path / "none.up", tmp_path):
        with pytest.raises(InputError, match="cannot read|found"):
            load_trace(path)


def test_a_spec_makes_both_directions():
    spec = LinkSpec.parse("1Mbit", rtt_s=0.08, black_holes=((1.0, 2.0),), outages=((5.0, 1.0),),
                          downlink_bps=2e6)
    up, down = spec.uplink(), spec.downlink()
    # 12500 bytes are 0.1 s up, 0.05 s down.
    assert up.send(12_500, 0.0) == pytest.approx(0.1)
    assert up.arrives_s(0.1) == pytest.approx(0.14)
    assert down.send(12_500, 0.0) == pytest.approx(0.05)
    assert down.arrives_s(0.99) == pytest.approx(3.0)  # would arrive in the black hole
    assert up.send(12_500, 0.95) == pytest.approx(3.05)  # half before it, half after
    assert up.send(12_500, 5.5) == pytest.approx(6.1)
    assert down.send(12_500, 5.5) == pytest.approx(5.55)  # an outage is the uplink's alone


def test_offset_moves_the_trace_and_not_the_faults():
    spec = LinkSpec.parse("step:1Mbit@10,2Mbit@10", offset_s=10.0, outages=((0.0, 1.0),))
    up = spec.uplink()
    assert up.send(25_000, 0.0) == pytest.approx(1.1)


@pytest.mark.parametrize("name, mbit", [("ATT-LTE-driving", 0.84), ("TMobile-UMTS-driving", 0.95),
                                        ("Verizon-LTE-short", 5.96)])
def test_recorded_traces_have_their_mean_rates(name, mbit):
    path = FOLDER / "traces" / f"{name}.up"
    if not path.exists():
        pytest.skip(f"no {path}")
    trace = load_trace(path)
    # Within 1 %: those figures count mahimahi's 1504 bytes to an opportunity.
    assert trace.mean_bps(0.0, trace.period_s) / 1e6 == pytest.approx(mbit, rel=0.01)
