import numpy as np
import pytest

PIXELS = [*range(71), 129, 1000]
CHANNELS = [1, 2, 3, 5, 7, 8, 9, 16, 24, 63, 64, 65, 960]


def test_planes_by_hand(kernels):
    pixels = np.array([1, 10, 100, 2, 20, 200], dtype=np.uint8)     # two positions, three channels
    dst = np.zeros(6, dtype=np.uint8)
    kernels.planes_from_pixels(pixels, dst, 3)
    assert dst.tolist() == [1, 2, 10, 20, 100, 200]


def test_pixels_by_hand(kernels):
    planes = np.array([1, 2, 10, 20, 100, 200], dtype=np.uint8)
    dst = np.zeros(6, dtype=np.uint8)
    kernels.pixels_from_planes(planes, dst, 3)
    assert dst.tolist() == [1, 10, 100, 2, 20, 200]


@pytest.mark.parametrize("channels", CHANNELS)
def test_both_directions_equal_their_twins_and_undo_each_other(rng, twins, channels):
    for pixels in PIXELS:
        src = rng.integers(0, 256, size=pixels * channels, dtype=np.uint8)
        src.flags.writeable = False
        planes = twins("planes_from_pixels", src, src.size, np.uint8, channels)
        planes.flags.writeable = False
        back = twins("pixels_from_planes", planes, src.size, np.uint8, channels)
        assert back.tobytes() == src.tobytes()


@pytest.mark.parametrize("shape", [(112, 112, 16), (28, 28, 32), (14, 14, 64), (7, 7, 960), (224, 224, 3)])
def test_real_tensor_shapes(rng, twins, shape):
    src = rng.integers(0, 256, size=shape, dtype=np.uint8)
    planes = twins("planes_from_pixels", src.ravel(), src.size, np.uint8, shape[-1])
    assert np.array_equal(planes.reshape(shape[-1], *shape[:2]), src.transpose(2, 0, 1))


@pytest.mark.parametrize("name", ["planes_from_pixels", "pixels_from_planes"])
@pytest.mark.parametrize("src_size, dst_size, channels, message", [
    (12, 12, 0, "channels is 0.*at least 1"),
    (12, 12, -3, "channels is -3.*at least 1"),
    (12, 12, 5, "12 values.*multiple of 5"),
    (12, 12, 24, "12 values.*multiple of 24"),
    (12, 11, 3, "dst holds 11.*src has 12"),
    (0, 1, 3, "dst holds 1.*src has 0"),
])
def test_wrong_arguments_are_refused(kernels, name, src_size, dst_size, channels, message):
    with pytest.raises(ValueError, match=message):
        getattr(kernels, name)(bytes(src_size), bytearray(dst_size), channels)


@pytest.mark.parametrize("name", ["planes_from_pixels", "pixels_from_planes"])
def test_wrong_types_are_refused(kernels, name):
    reorder = getattr(kernels, name)
    with pytest.raises(ValueError):
        reorder(np.zeros(4, dtype=np.float32), bytearray(4), 2)
    with pytest.raises(ValueError):
        reorder(np.zeros((2, 2), dtype=np.uint8), bytearray(4), 2)
    with pytest.raises((ValueError, BufferError)):     # the exporter of dst decides
        reorder(bytes(4), bytes(4), 2)
    with pytest.raises(TypeError):
        reorder(bytes(4), bytearray(4), 2.0)
