"""Codec tables in a bundle: what is written is read, what does not fit is refused."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from split_core.errors import BundleError
from split_core.model.coding import TensorCoding, pull_coding, push_coding, push_halves, push_mean
from split_core.model.manifest import CutEntry, RatePoint, _check_rate
from split_core.tensors import TensorSpec

SPECS = {"t": TensorSpec("t", (1, 4, 4, 3), "float32"), "i": TensorSpec("i", (1, 5), "int32")}


def coding(**changes) -> TensorCoding:
    fields = dict(
        name="t", blocks=(2, 2, 1, 4, 3), channel_scale=2.0, channel=push_halves(np.eye(3)),
        row=push_halves(np.full((2, 2), 0.5)), column=b"", mean_step=0.125,
        mean=push_mean(np.arange(48) / 8, 0.125), row_exponents=(1, 2),
        column_exponents=(0, -1, -2, -3), channel_exponents=(10, 5, 0))
    return TensorCoding(**fields | changes)


def test_tables_survive_the_bundle():
    (found,) = pull_coding(push_coding({"t": coding()}), SPECS).values()
    channel, row, column = found.matrices()
    assert np.array_equal(channel, 2 * np.eye(3)) and column is None and row.shape == (2, 2)
    assert np.array_equal(found.mean_coefficients(), np.arange(48, dtype=np.float32) / 8)
    exponents = found.exponents().reshape(4, 4, 3)
    assert exponents[0, 0].tolist() == [11, 6, 1] and exponents[3, 3].tolist() == [9, 4, -1]


@pytest.mark.parametrize("changes, what", [
    (dict(name="nobody"), "crosses no cut"),
    (dict(name="i", blocks=(1, 1, 1, 1, 5)), "are for"),
    (dict(blocks=(1, 4, 1, 4, 6)), "are for"), (dict(blocks=(0, 4, 1, 4, 3)), "are for"),
    (dict(blocks=(1, 4, 1, 12, 1)), "are for"),
    (dict(channel=push_halves(np.eye(2))), "channel has 4"),
    (dict(row=b"\0" * 6), "row has 3"), (dict(row_exponents=(1,)), "row exponents has 1"),
    (dict(channel_scale=float("nan")), "scale"), (dict(mean_step=0.0), "mean step"),
    (dict(row_exponents=(9000, 0)), "exponent out of range"),
    (dict(mean=push_mean(np.zeros(47), 1)), "mean of 94 bytes"),
    (dict(mean=push_mean(np.zeros(4800), 1)), "mean of 97 bytes"),
    (dict(mean=b"no deflate"), "codec tables of"),
    (dict(channel=np.full(9, np.inf, "<f2").tobytes()), "not finite"),
])
def test_tables_that_do_not_fit_are_refused(changes, what):
    with pytest.raises(BundleError, match=what):
        pull_coding(push_coding({"t": coding(**changes)}), SPECS)


def test_every_truncation_and_other_formats_are_refused():
    data = push_coding({"t": coding()})
    for n in range(len(data)):
        with pytest.raises(BundleError):
            pull_coding(data[:n], SPECS)
    with pytest.raises(BundleError, match="format 7"):
        pull_coding(msgspec.msgpack.encode({"format": 7, "tensors": []}), SPECS)


@pytest.mark.parametrize("rate, margin, what", [
    ([(0, 0.1, 5), (0, 0.2, 4)], 0, "not in order"), ([(0, 0.2, 5), (1, 0.1, 4)], 0, "order"),
    ([(0, 0.1, 4), (1, 0.2, 5)], 0, "order"), ([(9000, 0.1, 4)], 0, "rate"),
    ([(0, 0.0, 4)], 0, "rate"), ([(0, float("nan"), 4)], 0, "rate"), ([], 1.5, "margin"),
])
def test_rates_that_make_no_sense_are_refused(rate, margin, what):
    entry = CutEntry(1, "X", (), 0, 0, 0, tuple(RatePoint(*p) for p in rate), margin)
    with pytest.raises(BundleError, match=what):
        _check_rate(entry)
