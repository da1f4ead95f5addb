"""Profiles and names of machines: what is written is read, and nothing a stranger writes is
believed."""

from __future__ import annotations

import json
import re

import msgspec
import pytest

from split_core.cost.machine import machine_id
from split_core.cost.profile import MAX_PROFILE_BYTES, CodingTime, Profile, Timing, dump, load
from split_core.errors import ConfigError, UsageError
from split_core.model.bundle import open_bundle
from split_lab.split import split_model
from tests.support import tiny_models

PROFILE = Profile(
    bundle="0a" * 32, machine="Raspberry-Pi-4-4x-aarch64", runtime="litert", threads=1,
    segments=(Timing(0.001, 0.0001), Timing(0.02, 0.002), Timing(0.3, 0.0)),
    codings=(CodingTime(0, "jpeg85", 0.004, 0.005, 9000.5), CodingTime(2, "q4", 0.001, 0.0, 70)),
    whole_s=0.33, made="2026-05-01T12:00:00+00:00")


def changed(**fields) -> bytes:
    return json.dumps(json.loads(dump(PROFILE)) | fields).encode()


def test_what_is_written_is_read():
    assert load(dump(PROFILE)) == PROFILE
    assert load(changed(of_a_newer_version=[1, 2])) == PROFILE


def test_a_span_is_the_sum_of_its_medians():
    assert PROFILE.span_s(0, 3) == pytest.approx(0.321)
    assert PROFILE.span_s(1, 3) == pytest.approx(0.32)
    assert PROFILE.span_s(2, 2) == 0


def test_a_slower_machine_is_so_by_one_factor_in_all_it_does():
    found = PROFILE.scaled_to(0.963)                             # three times
    assert [t.median_s for t in found.segments] == pytest.approx([0.003, 0.06, 0.9])
    assert [t.spread_s for t in found.segments] == pytest.approx([0.0003, 0.006, 0.0])
    assert [(c.encode_s, c.decode_s) for c in found.codings] == [
        pytest.approx((0.012, 0.015)), pytest.approx((0.003, 0.0))]
    assert found.whole_s == pytest.approx(0.99)
    for field in ("bundle", "machine", "runtime", "threads", "made"):
        assert getattr(found, field) == getattr(PROFILE, field)
    assert [(c.cut, c.rung, c.bytes) for c in found.codings] == [
        (c.cut, c.rung, c.bytes) for c in PROFILE.codings]


def test_a_scaled_profile_stays_one_that_can_be_kept():
    much = msgspec.structs.replace(PROFILE, segments=(Timing(0.001, 0.02),), whole_s=0.002)
    found = much.scaled_to(3600.0)
    assert load(dump(found)) == found
    # 3,600,000 times 1 ms is an hour; beyond that nothing is believed.
    assert found.segments == (Timing(3600.0, 3600.0),) and found.whole_s == 3600.0
    assert {c.encode_s for c in found.codings} == {3600.0}


def test_nothing_is_no_measure():
    empty = msgspec.structs.replace(PROFILE, segments=(Timing(0.0, 0.0),))
    with pytest.raises(UsageError, match="takes no time"):
        empty.scaled_to(1.0)


@pytest.mark.parametrize("n", range(len(dump(PROFILE))))
def test_every_truncation_is_refused(n):
    with pytest.raises(ConfigError):
        load(dump(PROFILE)[:n])


_CODING = {"cut": 0, "rung": "q4", "encode_s": 0.0, "decode_s": 0.0, "bytes": 1.0}


@pytest.mark.parametrize("fields", [
    {"bundle": "0a" * 31}, {"bundle": "0A" * 32}, {"bundle": "0a" * 32 + "\n"},
    {"machine": "../../etc"}, {"machine": ""}, {"machine": "x" * 97}, {"machine": "pi\n"},
    {"runtime": "a/b"}, {"threads": 0}, {"threads": 1.5}, {"threads": 10_000},
    {"segments": []}, {"segments": [{"median_s": -1e-9, "spread_s": 0}]},
    {"segments": [{"median_s": 3601, "spread_s": 0}]},
    {"segments": [{"median_s": 0, "spread_s": None}]},
    {"segments": [{"median_s": 0, "spread_s": 0}] * 10_001},
    {"codings": [_CODING] * 10_001}, {"codings": [_CODING | {"cut": -1}]},
    {"codings": [_CODING | {"rung": "q9"}]}, {"codings": [_CODING | {"rung": "q" * 33}]},
    {"codings": [_CODING | {"bytes": 2e12}]}, {"whole_s": -1}, {"made": "x" * 41},
])
def test_what_is_out_of_bounds_is_refused(fields):
    with pytest.raises(ConfigError, match="damaged profile"):
        load(changed(**fields))


@pytest.mark.parametrize("data, what", [
    (b"", "damaged"), (b"\xff\xfe", "damaged"), (b"[]", "damaged"),
    (b'{"threads": NaN}', "damaged"), (b'{"whole_s": 1e999}', "damaged"),
    (b'{"unknown":' + b"[" * (MAX_PROFILE_BYTES - 11), "damaged"),
    (b" " * (MAX_PROFILE_BYTES + 1), "at most"),
])
def test_what_is_no_profile_is_refused(data, what):
    with pytest.raises(ConfigError, match=what):
        load(data)


def test_it_speaks_of_one_bundle(tmp_path):
    (tmp_path / "m.tflite").write_bytes(tiny_models.skip_model())
    path = tmp_path / "m.split.tflite"
    path.write_bytes(split_model(tmp_path / "m.tflite", cuts=[2, 3]))
    bundle = open_bundle(path)                     # segments 0-2, 2-3 and 3-6
    right = {"bundle": bundle.id_hex}
    assert load(changed(**right)).matches(bundle)
    assert not PROFILE.matches(bundle)
    short = json.loads(dump(PROFILE))["segments"][:2]
    assert not load(changed(**right, segments=short)).matches(bundle)
    assert not load(changed(**right, codings=[_CODING | {"cut": 1}])).matches(bundle)


# -- machines

PI = "".join(f"processor\t: {n}\nBogoMIPS\t: 108.00\n\n" for n in range(4)) + (
    "Revision\t: c03114\nModel\t\t: Raspberry Pi 4 Model B Rev 1.4\n")
DESK = "".join(f"processor\t: {n}\nmodel\t\t: 85\nmodel name\t: Intel(R) Core(TM) i5-8250U CPU"
               " @ 1.60GHz\n\n" for n in range(2))


@pytest.mark.parametrize("cpuinfo, board, architecture, wanted", [
    (PI, "Raspberry Pi 4 Model B Rev 1.4\0", "aarch64",
     "Raspberry-Pi-4-Model-B-Rev-1.4-4x-aarch64"),
    (PI, None, "armv7l", "Raspberry-Pi-4-Model-B-Rev-1.4-4x-armv7l"),
    (PI, "Some/Board, Inc.\0", "aarch64", "Some-Board-Inc.-4x-aarch64"),
    (DESK, None, "x86_64", "Intel-Core-i5-8250U-CPU-1.60GHz-2x-x86_64"),
    (None, None, "riscv64", "unknown-1x-riscv64"),
    ("processor : 0\n", "\0\n ", "arm", "unknown-1x-arm"),
])
def test_a_machine_is_named_after_its_board_or_processor(tmp_path, cpuinfo, board, architecture,
                                                         wanted):
    (tmp_path / "proc/device-tree").mkdir(parents=True)
    if cpuinfo is not None:
        (tmp_path / "proc/cpuinfo").write_text(cpuinfo)
    if board is not None:
        (tmp_path / "proc/device-tree/model").write_text(board)
    assert machine_id(tmp_path, architecture) == wanted


def test_every_name_of_a_machine_fits_a_profile(tmp_path):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_bytes(
        b"model name: \xff\xc3\xbc" + b"../ " * 99 + b"x" * 999 + b"\nprocessor : 0\n" * 4096)
    for name in (machine_id(tmp_path, "../" + "y" * 99), machine_id()):
        assert re.fullmatch(r"[A-Za-z0-9._-]{1,96}", name)
        assert load(changed(machine=name)).machine == name
