import pytest

import cext
from cext import selftest


def test_this_build_passes():
    selftest.check()


@pytest.mark.parametrize("name", [name for name in cext.__all__ if name not in ("BACKEND", "range_f32")])
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
