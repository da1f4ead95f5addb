"""Small files: bounds, and what counts as a number."""

from __future__ import annotations

import pytest

from edge_agent.sensors.tree import MAX_BYTES, Tree, number, read_bounded


@pytest.mark.parametrize(("text", "value"), [
    ("0", 0.0), ("48686", 48686.0), ("-12", -12.0), ("+3", 3.0), ("12.50", 12.5), ("54.", 54.0),
    ("", None), (None, None), ("nan", None), ("inf", None), ("1e3", None), ("1_0", None),
    ("0x10", None), ("\u0663", None), ("1 2", None), ("--1", None), (".5", None), ("9" * 25, None),
])
def test_a_number_is_what_the_kernel_prints(text, value):
    assert number(text) == value


def test_a_file_up_to_the_bound_is_read_and_not_beyond(tmp_path):
    (tmp_path / "most").write_bytes(b"x" * MAX_BYTES)
    (tmp_path / "more").write_bytes(b"x" * (MAX_BYTES + 1))
    tree = Tree(str(tmp_path))
    assert tree.text("most") == "x" * MAX_BYTES and tree.text("more") is None


def test_devices_and_impossible_paths_are_not_read(tmp_path):
    assert read_bounded("/dev/zero", 10) is None
    assert read_bounded("a\0b", 10) is None
    assert Tree(str(tmp_path)).text("x" * 5000) is None


def test_what_is_found_is_in_order_below_a_root_with_any_name(tmp_path):
    root = tmp_path / "[a]*?"
    for name in ("hwmon2", "hwmon0", "other"):
        (root / "sys" / name).mkdir(parents=True)
    assert Tree(str(root)).find("sys/hwmon*") == ["sys/hwmon0", "sys/hwmon2"]
