"""Payloads: what each rung keeps, every truncation, and nothing allocated on a peer's word."""

from __future__ import annotations

import struct
import tracemalloc

import numpy as np
import pytest
import zstandard

from split_core.errors import MessageError
from split_core.model.manifest import ImageInput
from split_core.tensors import Quantization, TensorSpec
from split_core.wire.messages import Codec
from split_core.wire.payload import BLOCK_HEADER_BYTES, Coder, Encoding
from split_core.wire.rungs import RAW, Rung

RNG = np.random.default_rng(3)
SHAPE = (1, 6, 5, 16)


def spec(dtype, shape=SHAPE, name="t", scale=None):
    return TensorSpec(name, shape, dtype, Quantization(scale, 3) if scale else None)


def smooth(dtype, shape=SHAPE):
    """Values a codec can do something with: few levels, zeros, slow change."""
    values = np.maximum(np.cumsum(RNG.standard_normal(shape), axis=-1), 0)
    if np.dtype(dtype).kind == "f":
        return values.astype(dtype)
    if np.dtype(dtype).kind == "b":
        return values > 1
    return np.clip(values * 20, 0, 100).astype(dtype)


def round_trip(array, tensor, rung, **options):
    coder = Coder(**options)
    payload = coder.encode([array], [tensor], rung)
    return payload, coder.decode(payload, [tensor])[0]


def q(bits):
    return Rung(Codec.QUANTIZED, bits)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "uint8", "int16", "int32",
                                   "int64", "bool"])
@pytest.mark.parametrize("shape", [SHAPE, (1, 3, 3, 1), (7,), (), (0, 4)])
def test_raw_is_lossless_for_every_type_and_shape(dtype, shape):
    array = smooth(dtype, shape) if shape else np.array(1, dtype)
    _, back = round_trip(array, spec(dtype, shape), RAW)
    assert back.dtype == array.dtype and back.shape == array.shape
    assert back.tobytes() == array.tobytes()


def test_raw_keeps_nan_and_infinities():
    array = np.array([np.nan, np.inf, -np.inf, -0.0, 1e-45], np.float32)
    _, back = round_trip(array, spec("float32", (5,)), RAW)
    assert back.tobytes() == array.tobytes()


@pytest.mark.parametrize("bits", range(1, 9))
def test_floats_are_at_most_half_a_step_off(bits):
    array = smooth("float32")
    _, back = round_trip(array, spec("float32"), q(bits))
    step = (array.max() - array.min()) / (2**bits - 1)
    assert np.abs(back - array).max() <= step / 2 * (1 + 1e-5)


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("bits", range(1, 9))
def test_integers_are_at_most_half_a_step_off(dtype, bits):
    array = RNG.integers(np.iinfo(dtype).min, np.iinfo(dtype).max + 1, SHAPE, dtype)
    _, back = round_trip(array, spec(dtype), q(bits))
    step = (int(array.max()) - int(array.min())) / (2**bits - 1)
    error = np.abs(back.astype(int) - array.astype(int)).max()
    # Rounding to a stored integer adds half of one.
    assert error <= step / 2 + 0.5
    if bits == 8:
        assert error == 0


def test_a_narrow_integer_tensor_loses_nothing():
    array = RNG.integers(-3, 12, SHAPE, np.int8)       # 15 values in 4 bits
    _, back = round_trip(array, spec("int8"), q(4))
    assert np.array_equal(back, array)


def test_values_worked_out_by_hand():
    # lo 0, hi 3, 2 bits: step 1. 1.4 -> 1, 1.5 -> 2 (half to even), 2.5 -> 2.
    array = np.array([0, 1.4, 1.5, 2.5, 3], np.float32)
    payload, back = round_trip(array, spec("float32", (5,)), q(2))
    assert back.tolist() == [0, 1, 2, 2, 3]
    head = struct.unpack_from("<BBBBffI", payload)
    assert head == (Encoding.PACKED, 2, 0, 0, 0.0, 1.0, 2)
    # Least significant bits first: 0 1 2 2 -> 0b10_10_01_00, then 3.
    assert payload[16:] == bytes([0b10100100, 3])


def test_a_clip_from_the_bundle_is_kept_to():
    array = np.array([-5, 0, 1, 2, 99], np.float32)
    _, back = round_trip(array, spec("float32", (5,)), q(8), clips={"t": (0.0, 2.0)})
    assert np.allclose(back, [0, 0, 1, 2, 2], atol=2 / 255)


def test_a_tensor_without_range_or_with_only_nan_survives():
    for value in (2.5, np.nan):
        array = np.full((1, 9), value, np.float32)
        _, back = round_trip(array, spec("float32", (1, 9)), q(4))
        assert back.tolist() == [[2.5 if value == 2.5 else 0.0] * 9]
    tiny = np.full((1, 4), 1e-42, np.float32)
    assert round_trip(tiny, spec("float32", (1, 4)), q(4))[1].shape == (1, 4)


def test_extreme_floats_do_not_overflow_the_step():
    array = np.array([-3e38, 0, 3e38], np.float32)
    _, back = round_trip(array, spec("float32", (3,)), q(8))
    assert np.isfinite(back).all()


def test_other_types_travel_losslessly_on_a_quantized_rung():
    arrays = [smooth("float32"), smooth("int64")]
    specs = [spec("float32"), spec("int64", name="u")]
    coder = Coder()
    back = coder.decode(coder.encode(arrays, specs, q(4)), specs)
    assert np.array_equal(back[1], arrays[1])


def test_coding_never_makes_a_tensor_larger_than_its_symbols():
    noise = RNG.integers(0, 256, (1, 500), np.uint8)
    for rung, most in ((RAW, 500), (q(8), 500), (q(5), 313), (q(4), 250), (q(1), 63)):
        payload, _ = round_trip(noise, spec("uint8", (1, 500)), rung)
        assert len(payload) <= BLOCK_HEADER_BYTES + most


def test_what_zstd_does_not_shrink_is_left_alone_for_a_while():
    coder, tensor = Coder(), spec("uint8", (500,))
    noise = RNG.integers(0, 256, 500, np.uint8)
    assert coder.encode([noise], [tensor], RAW)[0] == Encoding.STORED
    zeros = np.zeros(500, np.uint8)
    found = [coder.encode([zeros], [tensor], RAW)[0] for _ in range(17)]
    assert found == [Encoding.STORED] * 15 + [Encoding.ZSTD] * 2


def test_read_only_and_strided_arrays_are_encoded():
    array = smooth("float32")[:, :, ::1]
    array.setflags(write=False)
    round_trip(array, spec("float32"), q(4))
    strided = np.asfortranarray(smooth("int8"))
    _, back = round_trip(strided, spec("int8"), RAW)
    assert np.array_equal(back, strided)


@pytest.mark.parametrize("rung", [RAW, q(1), q(3), q(4), q(6), q(8)])
@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_every_truncation_is_refused(rung, dtype):
    tensors = [spec(dtype), spec(dtype, name="u")]
    coder = Coder()
    payload = coder.encode([smooth(dtype), smooth(dtype)], tensors, rung)
    for n in range(len(payload)):
        with pytest.raises(MessageError):
            coder.decode(payload[:n], tensors)
    with pytest.raises(MessageError, match="left over"):
        coder.decode(payload + b"x", tensors)


@pytest.mark.parametrize("rung", [RAW, q(4), q(6)])
def test_mutated_payloads_are_decoded_or_refused(rung):
    seed = int(np.random.SeedSequence().entropy % 2**32)
    print("seed", seed)
    rng = np.random.default_rng(seed)
    coder, tensor = Coder(), spec("float32")
    payload = coder.encode([smooth("float32")], [tensor], rung)
    for _ in range(2000):
        mutated = bytearray(payload)
        for at in rng.integers(0, len(payload), rng.integers(1, 4)):
            mutated[at] = rng.integers(256)
        try:
            (array,) = coder.decode(bytes(mutated), [tensor])
        except MessageError:
            continue
        assert array.shape == tensor.shape and array.dtype == tensor.np_dtype


def _block(encoding, data, bits=0, rank=0, lo=0.0, step=0.0):
    return struct.pack("<BBBBffI", encoding, bits, rank, 0, lo, step, len(data)) + data


def bomb(claimed):
    """A zstd frame whose header claims any size it likes."""
    return struct.pack("<IB", 0xFD2FB528, 0xE0) + struct.pack("<Q", claimed) + b"\x01\x00\x00"


@pytest.mark.parametrize("encoding, bits", [(Encoding.ZSTD, 0), (Encoding.PACKED_ZSTD, 4),
                                            (Encoding.SYMBOLS_ZSTD, 6)])
@pytest.mark.parametrize("claimed", [2**40, 2**31, 481, 479])
def test_a_bomb_allocates_nothing(encoding, bits, claimed):
    coder, tensor = Coder(), spec("int8")
    step = 1.0 if bits else 0.0
    tracemalloc.start()
    with pytest.raises(MessageError, match="claims|bundle says"):
        coder.decode(_block(encoding, bomb(claimed), bits, step=step), [tensor])
    assert tracemalloc.get_traced_memory()[1] < 100_000
    tracemalloc.stop()


def test_a_frame_without_a_size_is_refused():
    data = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(480))
    with pytest.raises(MessageError, match="claims"):
        Coder().decode(_block(Encoding.ZSTD, data), [spec("int8")])


@pytest.mark.parametrize("block, words", [
    (_block(9, b""), "unknown encoding 9"),
    (_block(Encoding.STORED, b"123"), "3 bytes stored, wanted 480"),
    (_block(Encoding.STORED, bytes(480), bits=1), "wanted zeros"),
    (_block(Encoding.PACKED, bytes(240), bits=9, step=1.0), "bits 9"),
    (_block(Encoding.PACKED, bytes(240), bits=0, step=1.0), "bits 0"),
    (_block(Encoding.PACKED, bytes(240), bits=4, step=-1.0), "step -1"),
    (_block(Encoding.PACKED, bytes(240), bits=4, step=float("nan")), "step nan"),
    (_block(Encoding.PACKED, bytes(239), bits=4, step=1.0), "239 bytes of packed"),
    (_block(Encoding.JPEG, bytes(9)), "no image input"),
    (_block(Encoding.PACKED, bytes(240), bits=4, rank=9, step=1.0), "rank 9"),
])
def test_wrong_blocks_are_refused_with_what_was_found(block, words):
    with pytest.raises(MessageError, match=words):
        Coder().decode(block, [spec("int8")])


def test_a_shape_too_large_to_multiply_is_refused():
    dims = struct.pack("<8I", 0, *[2**32 - 1] * 7)
    block = struct.pack("<BBBBffI", Encoding.STORED, 0, 8, 0, 0.0, 0.0, 0) + dims
    for names in ((), {"t"}):
        with pytest.raises(MessageError):
            Coder().decode(block, [spec("int8", ())], any_shape=names)


def test_a_large_window_is_refused():
    parameters = zstandard.ZstdCompressionParameters(window_log=27, write_content_size=True)
    compressor = zstandard.ZstdCompressor(compression_params=parameters)
    # A streamed frame of a stated size keeps its window; a single segment's is its content.
    stream = compressor.compressobj(size=480)
    data = stream.compress(bytes(480)) + stream.flush()
    if zstandard.get_frame_parameters(data).window_size <= 1 << 23:
        data = bytes([*data[:4], 0xC0, 0x88]) + struct.pack("<Q", 480) + data[-7:]
    assert zstandard.get_frame_parameters(data).window_size > 1 << 23
    with pytest.raises(MessageError, match="window"):
        Coder().decode(_block(Encoding.ZSTD, data), [spec("int8")])


def test_a_bool_is_zero_or_one():
    with pytest.raises(MessageError, match="a bool of value 2"):
        Coder().decode(_block(Encoding.STORED, b"\x02"), [spec("bool", (1,))])


def test_state_is_kept_whatever_the_rung():
    array = smooth("float32")
    _, back = round_trip(array, spec("float32"), q(1), lossless={"t"})
    assert back.tobytes() == array.tobytes()


def test_symbols_outside_their_bits_are_refused():
    symbols = zstandard.compress(bytes([0] * 479 + [64]))
    with pytest.raises(MessageError):
        Coder().decode(_block(Encoding.SYMBOLS_ZSTD, symbols, bits=6, step=1.0), [spec("int8")])


def test_only_outputs_may_have_a_shape_of_their_own():
    coder, tensor = Coder(), spec("float32", ())
    boxes = np.ones((1, 3, 4), np.float32)
    payload = coder.encode([boxes], [tensor], RAW)
    assert coder.decode(payload, [tensor], any_shape={"t"})[0].shape == (1, 3, 4)
    with pytest.raises(MessageError, match=r"has shape \[1, 3, 4\], the bundle says \[\]"):
        coder.decode(payload, [tensor])


@pytest.mark.parametrize("dtype, scale, offset", [("uint8", 1, 0), ("int8", 1, 0),
                                                  ("float32", 1 / 127.5, -1.0)])
@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_of_an_image_input(dtype, scale, offset, channels):
    image = ImageInput("t", 32, 48, channels, scale=scale, offset=offset)
    tensor = spec(dtype, (1, 32, 48, channels))
    samples = np.tile(np.linspace(10, 240, 48)[None, :, None], (32, 1, channels))
    array = {"uint8": samples.astype(np.uint8), "int8": (samples - 128).astype(np.int8),
             "float32": (samples * scale + offset).astype(np.float32)}[dtype][None]
    payload, back = round_trip(array, tensor, Rung.parse("jpeg95"), image=image)
    assert len(payload) < array.size / 2
    error = np.abs(back.astype(float) - array.astype(float)).max() / scale
    assert error <= 4
    for n in range(len(payload)):
        try:
            Coder(image=image).decode(payload[:n], [tensor])
        except MessageError:
            continue
        pytest.fail(f"a JPEG cut to {n} bytes was taken")


def test_a_jpeg_of_another_size_is_refused_unread():
    image = ImageInput("t", 32, 48, 3)
    coder = Coder(image=ImageInput("t", 16, 16, 3))
    payload = coder.encode([np.zeros((1, 16, 16, 3), np.uint8)],
                           [spec("uint8", (1, 16, 16, 3))], Rung.parse("jpeg50"))
    with pytest.raises(MessageError, match="JPEG of 16x16, wanted 48x32"):
        Coder(image=image).decode(payload, [spec("uint8", (1, 32, 48, 3))])


@pytest.mark.parametrize("name", ["raw", "q1", "q8", "jpeg1", "jpeg100", "webp95", "kl0.02",
                                  "kl0.02+refine", "b2500", "b2500+refine"])
def test_rungs_have_names(name):
    assert Rung.parse(name).name == name


@pytest.mark.parametrize("name", ["", "q0", "q9", "q", "jpeg", "jpeg0", "jpeg101", "zip", "q-1",
                                  "kl", "kl0", "b0", "b0.5", "kl-1", "q4+refine", "kl1e400"])
def test_wrong_rung_names_say_what_was_wanted(name):
    with pytest.raises(ValueError, match="wanted raw, q1 to q8, jpeg1 to jpeg100"):
        Rung.parse(name)
