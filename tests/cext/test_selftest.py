import pytest

import cext
from cext import selftest


def test_this_build_passes():
    selftest.check()


INTO_SECOND = ["lookup_f32", "lookup_u8", "pack_bits", "pixels_from_planes", "planes_from_pixels",
               "quantize_coefficients", "quantize_f32", "split_base", "unpack_bits"]
INTO_LAST = ["decode_refinement", "decode_symbols", "encode_refinement", "encode_symbols"]
NUMBERS = ["expected_bits", "max_coded_bytes"]


def test_every_kernel_is_here():
    names = [name for name in cext.__all__ if callable(getattr(cext, name))]
    assert sorted([*INTO_SECOND, *INTO_LAST, *NUMBERS, "Transform", "range_f32"]) == sorted(names)


@pytest.mark.parametrize("name", INTO_SECOND)
def test_one_wrong_byte_in_any_kernel_is_found(monkeypatch, name):
    right = getattr(cext, name)

    def wrong(src, dst, *args):
        right(src, dst, *args)
        dst[-1] += 1

    monkeypatch.setattr(cext, name, wrong)
    with pytest.raises(selftest.SelfTestError, match=f"{name}.*wanted"):
        selftest.check()


def test_a_wrong_range_is_found(monkeypatch):
    monkeypatch.setattr(cext, "range_f32", lambda src: (0.0, 1.0))
    with pytest.raises(selftest.SelfTestError, match="range_f32 gave"):
        selftest.check()


@pytest.mark.parametrize("name", INTO_LAST)
def test_one_wrong_byte_of_the_coder_is_found(monkeypatch, name):
    right = getattr(cext, name)

    def wrong(*args):
        size = right(*args)
        args[-1][(size or 0) - 1] += 1
        return size

    monkeypatch.setattr(cext, name, wrong)
    with pytest.raises(selftest.SelfTestError, match=f"{name}.*wanted"):
        selftest.check()


@pytest.mark.parametrize("name", NUMBERS)
def test_a_wrong_number_is_found(monkeypatch, name):
    right = getattr(cext, name)
    monkeypatch.setattr(cext, name, lambda *args: right(*args) + 1)
    with pytest.raises(selftest.SelfTestError, match=f"{name} gave"):
        selftest.check()


def test_a_wrong_transform_is_found(monkeypatch):
    right = cext.Transform
    monkeypatch.setattr(cext, "Transform", lambda shape, dtype, channel, *rest: right(shape, dtype, channel.T, *rest))
    with pytest.raises(selftest.SelfTestError, match="Transform.forward gave"):
        selftest.check()
