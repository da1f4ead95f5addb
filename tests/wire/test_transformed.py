"""Payloads with codec tables: sizes, ceilings, layers, and nothing that a peer sends trusted."""

from __future__ import annotations

import numpy as np
import pytest

from split_core.errors import MessageError
from split_core.model.coding import TensorCoding, push_halves, push_mean
from split_core.model.manifest import RatePoint
from split_core.model.rate import RateCurve
from split_core.tensors import Quantization, TensorSpec
from split_core.wire.payload import BLOCK_HEADER_BYTES, Coder, Encoding
from split_core.wire.quality import encode, step_index
from split_core.wire.rungs import BASE_OFFSET, MAX_STEP_INDEX, Rung
from split_core.wire.transformed import TensorTransform, step_of

SHAPE = (1, 8, 8, 16)
CURVE = RateCurve([RatePoint(-64, 0.005, 900), RatePoint(0, 0.02, 500), RatePoint(96, 0.5, 100)])


def coding(name="t", blocks=(1, 8, 1, 8, 16), spread=3.0) -> TensorCoding:
    rng = np.random.default_rng(1)
    _, rows, _, columns, channels = blocks
    q, _ = np.linalg.qr(rng.normal(size=(channels, channels)))
    falling = [round(32 * (spread - 0.5 * np.log2(1 + k))) for k in range(max(blocks))]
    return TensorCoding(
        name, blocks, 1.0, push_halves(q), push_halves(np.eye(rows)),
        push_halves(np.eye(columns)), 0.25, push_mean(rng.normal(size=np.prod(blocks)), 0.25),
        tuple(falling[:rows]), tuple(-v // 8 for v in range(columns)),
        tuple(-v for v in range(channels)))


def spec(dtype="float32", name="t", shape=SHAPE) -> TensorSpec:
    quantization = None if dtype == "float32" else Quantization(0.25, 7)
    return TensorSpec(name, shape, dtype, quantization)


def values(dtype="float32", seed=3, scale=6.0) -> np.ndarray:
    x = np.random.default_rng(seed).normal(size=SHAPE) * scale
    if dtype == "float32":
        return x.astype(np.float32)
    info = np.iinfo(dtype)
    return np.clip(np.rint(x / 0.25 + 7), info.min, info.max).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "int8", "uint8"])
def test_the_error_follows_the_step(dtype):
    coder, tensor, x = Coder(codings={"t": coding()}), spec(dtype), values(dtype)
    sizes, errors = [], []
    for index in (-96, -32, 0, 32):
        payload, used = coder.encode_at([x], [tensor], index)
        (back,) = Coder(codings={"t": coding()}).decode(payload, [tensor])
        assert used == index and back.shape == x.shape and back.dtype == x.dtype
        unit = 1.0 if dtype == "float32" else 0.25
        errors.append(unit * np.sqrt(np.mean((back.astype(float) - x.astype(float)) ** 2)))
        sizes.append(len(payload))
    assert sizes == sorted(sizes, reverse=True) and errors == sorted(errors)
    # Orthonormal matrices: the error of a tensor is that of its coefficients, a uniform step's.
    assert errors[-1] == pytest.approx(step_of(32) / np.sqrt(12), rel=0.35)


def test_a_block_has_sixteen_bytes_of_header_and_no_tables():
    coder = Coder(codings={"t": coding()})
    payload, _ = coder.encode_at([values()], [spec()], MAX_STEP_INDEX)
    assert len(payload) == BLOCK_HEADER_BYTES == 16, "all dead: nothing to code"


def test_tensors_without_tables_go_at_eight_bits_and_all_are_as_promised():
    specs = [spec("int8"), TensorSpec("u", (1, 10), "int32"), spec("uint8", "v")]
    arrays = [values("int8"), np.arange(10, dtype=np.int32)[None], values("uint8")]
    coder = Coder(codings={"t": coding()})
    payload, _ = coder.encode_at(arrays, specs, 0)
    back = coder.decode(payload, specs)
    assert np.array_equal(back[1], arrays[1])
    assert np.abs(back[2].astype(int) - arrays[2]).max() <= 1
    assert [payload[0]] == [Encoding.TRANSFORMED]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38])
def test_values_that_are_no_numbers_still_travel(bad):
    x = values()
    x[0, 2, 3, 4] = bad
    coder = Coder(codings={"t": coding()})
    payload, _ = coder.encode_at([x], [spec()], 0)
    (back,) = coder.decode(payload, [spec()])
    assert back.shape == x.shape


def test_a_ceiling_is_kept_and_not_by_much():
    coder, x = Coder(codings={"t": coding()}), values(scale=9)
    free, _ = coder.encode_at([x], [spec()], -64)
    for ceiling in (len(free) // 2, len(free) // 3, 200):
        payload, index = coder.encode_at([x], [spec()], -64, ceiling)
        assert ceiling * 0.4 <= len(payload) <= ceiling and index > -64


def test_what_the_codec_cannot_shrink_goes_at_eight_bits():
    coder, x = Coder(codings={"t": coding(spread=9)}), values("int8", scale=60)
    payload, _ = coder.encode_at([x], [spec("int8")], -800)
    assert payload[0] != Encoding.TRANSFORMED and len(payload) <= x.nbytes + 16


def test_rungs_choose_their_step_from_the_curve():
    assert step_index(Rung.parse("kl0.02"), CURVE) == 0
    assert step_index(Rung.parse("kl0.0001"), CURVE) == -64, "the floor"
    assert step_index(Rung.parse("b500"), CURVE) == 0
    between = step_index(Rung.parse("kl0.011"), CURVE)
    assert -64 < between < 0 and CURVE.kl(between) <= 0.011 < CURVE.kl(between + 1)
    between = step_index(Rung.parse("b300"), CURVE)
    assert CURVE.bytes(between) <= 300 < CURVE.bytes(between - 1)
    encoded = encode(Coder(codings={"t": coding()}), [values()], [spec()],
                     Rung.parse("kl0.02"), CURVE)
    assert encoded.predicted_kl == pytest.approx(0.02)


@pytest.mark.parametrize("index", [-900, -33, -1, 0, 1, 31, 32, 500])
def test_steps_are_the_same_doubles_everywhere(index):
    assert step_of(index) == pytest.approx(2.0 ** (index / 32), rel=1e-7)
    assert step_of(index + 32) == 2 * step_of(index)
    assert float(np.float32(step_of(index))) == step_of(index) or abs(index) > 126 * 32


def test_two_layers_give_exactly_the_fine_step():
    (device, worker), x = (Coder(codings={"t": coding()}) for _ in "dw"), values("int8")
    base, layers = device.encode_base([x], [spec("int8")], 0, 0.25)
    (coarse,), held = worker.decode_layers(base, [spec("int8")])
    assert base[0] == Encoding.BASE and held.margin == 0.25 and held.index == BASE_OFFSET
    refinement = device.encode_refinement(layers)
    (fine,) = worker.refine(held, refinement)
    error = [np.abs(a.astype(int) - x).mean() for a in (coarse, fine)]
    assert error[1] < 0.5 * error[0]
    # The same symbols at once: a third of the base's step is 2**(1/96) from index 0.
    whole, _ = device.encode_at([x], [spec("int8")], 0)
    assert len(base) + len(refinement) < 1.06 * len(whole) + 32
    with pytest.raises(MessageError):
        worker.decode(refinement, [spec("int8")])
    with pytest.raises(MessageError):
        worker.refine(held, base)


def test_every_truncation_and_every_wrong_field_is_refused():
    coder, tensor = Coder(codings={"t": coding()}), spec("int8")
    payload, _ = coder.encode_at([values("int8")], [tensor], 0)
    for n in range(len(payload)):
        with pytest.raises(MessageError):
            coder.decode(payload[:n], [tensor])
    with pytest.raises(MessageError, match="left over"):
        coder.decode(payload + b"x", [tensor])
    for at, value, what in ((1, 1, "reserved"), (4, 1, "margin"), (10, 0x7F, "step index"),
                            (0, 9, "unknown encoding|refinement"), (12, 0xFF, "say|says")):
        broken = bytearray(payload)
        broken[at] = value
        with pytest.raises(MessageError):
            coder.decode(bytes(broken), [tensor])
    with pytest.raises(MessageError, match="no codec tables"):
        Coder().decode(payload, [tensor])


def test_base_layers_of_one_payload_agree_on_step_and_margin():
    specs = [spec("int8"), spec("int8", "v")]
    codings = {"t": coding(), "v": coding("v")}
    coder = Coder(codings=codings)
    arrays = [values("int8"), values("int8", seed=8)]
    first, second = (coder.encode_base([a], [s], 0, margin)[0]
                     for a, s, margin in zip(arrays, specs, (0.25, 0.5)))
    with pytest.raises(MessageError, match="the one before has"):
        coder.decode(first + second, specs)


def test_tables_can_be_unpacked_before_the_first_payload(monkeypatch):
    made = []
    monkeypatch.setattr("split_core.wire.payload.TensorTransform",
                        lambda c, s: made.append(s.name) or TensorTransform(c, s))
    coder = Coder(codings={"t": coding()})
    coder.prepare([spec(), spec(name="u")])
    assert made == ["t"]
    coder.encode_at([values()], [spec()], 0)
    assert made == ["t"], "once"
