"""What a cheap camera does to a scene: lens blur, uneven light, glare, noise.

In goes linear light, out come the bytes a sensor would have delivered. All
randomness comes from the generator passed in. Ranges are set by eye: wide enough
that frames look like different rooms and times of day, narrow enough that a
person can still read every plate.
"""

from __future__ import annotations

import numpy as np

from split_lab.demo.shapes import HEIGHT_PX, WIDTH_PX, X, Y, to_float32


def photograph(light: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Turn light, float32 [3, H, W] in 0..1, into uint8 [H, W, 3]."""
    lit = light * _illumination(rng)
    lit += _glare(rng)
    # Real blur happens in linear light, before the noise: noise stays sharp.
    lit = _blur(lit, rng)
    lit += _noise(lit, rng)
    np.clip(lit, 0.0, 1.0, out=lit)
    # A square root is close to the sRGB curve and far cheaper than a power.
    np.sqrt(lit, out=lit)
    lit *= 255.0
    lit += 0.5
    return np.ascontiguousarray(lit.transpose(1, 2, 0)).astype(np.uint8)


def _illumination(rng: np.random.Generator) -> np.ndarray:
    """Exposure, a gradient across the frame, a cast shadow, vignette, white balance."""
    angle = rng.uniform(0.0, 2.0 * np.pi)
    slope = rng.uniform(0.05, 0.5)
    across = to_float32(np.cos(angle)) * X + to_float32(np.sin(angle)) * Y
    field = 1.0 + to_float32(slope) * across
    field *= 1.0 - to_float32(rng.uniform(0.05, 0.28)) * (X * X + Y * Y)
    if rng.random() < 0.4:
        # The soft edge of something between the lamp and the wall.
        angle = rng.uniform(0.0, 2.0 * np.pi)
        edge = to_float32(np.cos(angle)) * X + to_float32(np.sin(angle)) * Y
        edge = (edge - to_float32(rng.uniform(-0.5, 0.7))) * to_float32(rng.uniform(3.0, 12.0))
        field *= 1.0 - to_float32(rng.uniform(0.25, 0.55)) * np.clip(0.5 + edge, 0.0, 1.0)
    warmth = rng.uniform(-0.14, 0.2)
    balance = np.array([1.0 + warmth, 1.0, 1.0 - warmth], np.float32)
    exposure = to_float32(np.exp(rng.uniform(np.log(0.4), np.log(1.15))))
    return np.maximum(field, 0.08) * (exposure * balance)[:, None, None]


def _glare(rng: np.random.Generator) -> np.ndarray | np.float32:
    """A lamp mirrored in the glass: a blob, or a streak across the frame."""
    if rng.random() < 0.4:
        return np.float32(0.0)
    angle = rng.uniform(0.0, np.pi)
    x0, y0 = rng.uniform(-0.8, 0.8), rng.uniform(-0.8, 0.8)
    width = rng.uniform(0.08, 0.3)
    length = width * rng.uniform(1.0, 12.0)
    dx, dy = X - to_float32(x0), (Y - to_float32(y0)) * to_float32(HEIGHT_PX / WIDTH_PX)
    cos, sin = to_float32(np.cos(angle)), to_float32(np.sin(angle))
    along, aside = (dx * cos + dy * sin) / to_float32(length), (dy * cos - dx * sin) / to_float32(width)
    return to_float32(rng.uniform(0.05, 0.45)) * np.exp(-(along * along + aside * aside))


def _blur(lit: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Defocus, and now and then a little horizontal motion on top."""
    sigma_px = rng.uniform(0.35, 1.0)
    sigma_x_px = sigma_px + (rng.uniform(0.2, 0.8) if rng.random() < 0.25 else 0.0)
    return _convolve(_convolve(lit, _gaussian(sigma_px), axis=1), _gaussian(sigma_x_px), axis=2)


def _gaussian(sigma_px: float, radius_px: int = 3) -> np.ndarray:
    taps = np.arange(-radius_px, radius_px + 1)
    weights = np.exp(-0.5 * (taps / sigma_px) ** 2)
    return (weights / weights.sum()).astype(np.float32)


def _convolve(lit: np.ndarray, kernel: np.ndarray, axis: int) -> np.ndarray:
    """Symmetric convolution with the border pixel repeated."""
    radius, size = len(kernel) // 2, lit.shape[axis]
    pad = [(radius, radius) if a == axis else (0, 0) for a in range(3)]
    padded = np.pad(lit, pad, mode="edge")
    def shifted(start: int) -> np.ndarray:
        return padded[:, start:start + size] if axis == 1 else padded[:, :, start:start + size]
    out = shifted(radius) * kernel[radius]
    for offset in range(1, radius + 1):
        if kernel[radius + offset] < 0.002:  # under half a grey level
            break
        out += (shifted(radius - offset) + shifted(radius + offset)) * kernel[radius + offset]
    return out


def _noise(lit: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Read noise plus shot noise, which grows with the square root of the light."""
    read = to_float32(rng.uniform(0.002, 0.010))
    shot = to_float32(rng.uniform(0.004, 0.028))
    sigma = read + shot * np.sqrt(np.maximum(lit, 0.0))
    return rng.standard_normal(lit.shape, dtype=np.float32) * sigma
