"""The cut table in windows of several widths. What stands in it: tests/test_commands.py."""

import pytest

from split_lab.cut_table import render


def report(*ops: str) -> dict:
    tensor = {"name": "t", "shape": [1, 28, 28, 32], "dtype": "int8", "bytes": 25088}
    total = 1000
    cuts = [{"cut": 10 * i, "after_op": op, "boundary": [tensor], "coded_bytes": 8154,
             "macs_before": total * i // (len(ops) - 1),
             "macs_after": total - total * i // (len(ops) - 1)} for i, op in enumerate(ops)]
    cuts[-1]["boundary"] = []
    return {"name": "m", "kind": "bundle", "ops": 20, "sha256": "00" * 32, "cuts": cuts,
            "inputs": [tensor], "outputs": [tensor]}


USUAL = report("INPUT", "CONV_2D", "QUANTIZE")
LONG = report("INPUT", "DEPTHWISE_CONV_2D", "QUANTIZE")


def table(text: str) -> list[str]:
    return text.splitlines()[text.splitlines().index("") + 1:]


@pytest.mark.parametrize("of", [USUAL, LONG])
def test_a_window_of_80_columns_holds_it(of):
    head, *rows = table(render(of, columns=80))
    assert all(len(line) <= 80 for line in (head, *rows))
    assert rows[-1].split()[-2] == "100%" and set(rows[-1].split()[-1]) == {"#"}


def test_where_there_is_room_bars_are_twelve_long_and_half_the_work_six():
    _head, _first, half, whole = table(render(LONG))
    assert half.endswith(" 50% ######") and whole.endswith("100% ############")


def test_columns_stand_under_their_heads_whatever_is_in_them():
    for of in (USUAL, LONG):
        head, *rows = table(render(of))
        for name in ("after op", "boundary"):
            at = head.index(name)
            assert all(row[at - 1] == " " and row[at] != " " for row in rows)
        end = head.index("of input") + len("of input")
        assert [row[:end].split()[-1] for row in rows] == ["100%", "100%", "-"]


def test_a_window_that_is_too_narrow_gets_figures_without_bars():
    *_, last = table(render(LONG, columns=40))
    assert last.endswith("100%")
