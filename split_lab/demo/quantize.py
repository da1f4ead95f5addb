"""Float weights and activation ranges to int8, by the TFLite quantization spec.

Activations: asymmetric int8, one scale a tensor. Convolution weights: symmetric,
one scale an output channel. Biases: int32 at the product of both scales.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Range:
    """The values an activation took on calibration frames."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Scale:
    """real = scale * (stored - zero_point)."""

    scale: float
    zero_point: int


@dataclass(frozen=True, slots=True)
class FloatWeights:
    """A layer's weights in TFLite's layout, and its biases."""

    weights: np.ndarray
    biases: np.ndarray


@dataclass(frozen=True, slots=True)
class Int8Weights:
    """Quantized weights (int8) and biases (int32); both have zero point 0."""

    weights: np.ndarray
    scales: np.ndarray
    """float32, one per channel along `axis`."""
    axis: int
    biases: np.ndarray
    bias_scales: np.ndarray


def activation_scale(seen: Range) -> Scale:
    """int8 over the range seen, widened to hold 0 exactly: padding is zero."""
    low, high = min(seen.low, 0.0), max(seen.high, 0.0)
    scale = float(np.float32((high - low) / 255.0)) or 1.0
    return Scale(scale, int(np.clip(round(-128 - low / scale), -128, 127)))


def quantize_weights(layer: FloatWeights, source: Scale, axis: int) -> Int8Weights:
    """Symmetric int8 in -127..127, so that a product of two never overflows 16 bits."""
    others = tuple(a for a in range(layer.weights.ndim) if a != axis)
    reach = np.abs(layer.weights).max(axis=others)
    # A channel that is all zero gets any scale that is not.
    scales = np.maximum(reach / 127.0, 1e-9).astype(np.float32)
    along_axis = [-1 if a == axis else 1 for a in range(layer.weights.ndim)]
    stored = np.clip(np.rint(layer.weights / scales.reshape(along_axis)), -127, 127)
    bias_scales = (scales.astype(np.float64) * source.scale).astype(np.float32)
    biases = np.rint(layer.biases / bias_scales.astype(np.float64))
    return Int8Weights(stored.astype(np.int8), scales, axis, biases.astype(np.int32), bias_scales)
