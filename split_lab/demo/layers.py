"""The meter reader's architecture as data: one list that training and export share.

A small ResNet: each `down` halves the picture (depthwise, then pointwise), each
`residual` refines it, so a cut inside a residual block crosses two tensors. After
`squeeze` 1440 bytes are left of a 46 080 byte frame. Its 6x10 grid is then scored
per place: "here stands digit d of position p", 40 maps whose maxima over the
frame are the answer. Which weights the layers have is not known here.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from split_lab.demo.frames import DIGITS_PER_FRAME, HEIGHT_PX, WIDTH_PX

INPUT_NAME = "image"
INPUT_SHAPE = (1, HEIGHT_PX, WIDTH_PX, 3)
CLASSES = 10
# What int8 can tell apart is spread evenly over the range, so activations are
# bounded: RELU6 throughout, as in the MobileNets.


@dataclass(frozen=True, slots=True)
class Conv:
    """Convolution with SAME padding; depthwise when it has no `channels` of its own."""

    name: str
    source: str
    channels: int | None
    kernel: int = 1
    stride: int = 1
    relu6: bool = True


@dataclass(frozen=True, slots=True)
class Add:
    """Sum of two tensors, then RELU6."""

    name: str
    sources: tuple[str, str]


@dataclass(frozen=True, slots=True)
class GlobalMaxPool:
    """The greatest value of each channel over the whole picture."""

    name: str
    source: str


@dataclass(frozen=True, slots=True)
class Reshape:
    """The same values in another shape (the batch of one included)."""

    name: str
    source: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Softmax:
    """Scores of the last axis to probabilities."""

    name: str
    source: str


Layer = Conv | Add | GlobalMaxPool | Reshape | Softmax


def _down(name: str, source: str, channels: int) -> tuple[Layer, ...]:
    return (Conv(f"{name}/depthwise", source, None, kernel=3, stride=2),
            Conv(f"{name}/pointwise", f"{name}/depthwise", channels))


def _residual(name: str, source: str, channels: int) -> tuple[Layer, ...]:
    return (Conv(f"{name}/conv_a", source, channels, kernel=3),
            Conv(f"{name}/conv_b", f"{name}/conv_a", channels, kernel=3, relu6=False),
            Add(f"{name}/add", (source, f"{name}/conv_b")))


LAYERS: tuple[Layer, ...] = (
    Conv("stem", INPUT_NAME, 16, kernel=3, stride=2),
    *_down("down1", "stem", 24),
    *_residual("residual1", "down1/pointwise", 24),
    *_down("down2", "residual1/add", 40),
    *_residual("residual2", "down2/pointwise", 40),
    *_residual("residual3", "residual2/add", 40),
    *_down("down3", "residual3/add", 64),
    *_residual("residual4", "down3/pointwise", 64),
    Conv("squeeze", "residual4/add", 24),
    Conv("digit_maps", "squeeze", DIGITS_PER_FRAME * CLASSES, relu6=False),
    # A plate may be anywhere, so where in the frame a digit stands must not matter.
    GlobalMaxPool("digit_maxima", "digit_maps"),
    Reshape("digit_scores", "digit_maxima", (1, DIGITS_PER_FRAME, CLASSES)),
    Softmax("digit_probabilities", "digit_scores"),
)


def sources_of(layer: Layer) -> tuple[str, ...]:
    """The tensors a layer reads."""
    return layer.sources if isinstance(layer, Add) else (layer.source,)


def output_shapes() -> dict[str, tuple[int, ...]]:
    """Shape of every activation by its name, NHWC, the input included."""
    shapes: dict[str, tuple[int, ...]] = {INPUT_NAME: INPUT_SHAPE}
    for layer in LAYERS:
        before = shapes[sources_of(layer)[0]]
        match layer:
            case Conv():
                _, height, width, channels = before
                stride = layer.stride
                shapes[layer.name] = (1, -(-height // stride), -(-width // stride), layer.channels or channels)
            case GlobalMaxPool():
                shapes[layer.name] = (1, 1, 1, before[-1])
            case Reshape():
                if prod(layer.shape) != prod(before):
                    raise ValueError(f"{layer.name} wants {prod(layer.shape)} values, {before} has {prod(before)}")
                shapes[layer.name] = layer.shape
            case _:
                shapes[layer.name] = before
    return shapes


def weight_shapes() -> dict[str, tuple[int, ...]]:
    """Shape of every layer's weights as TFLite stores them.

    Convolution: out, rows, columns, in. Depthwise: 1, rows, columns, channels.
    """
    activations = output_shapes()
    shapes = {}
    for layer in LAYERS:
        if isinstance(layer, Conv):
            n_in = activations[layer.source][-1]
            window = (layer.kernel, layer.kernel)
            shapes[layer.name] = (1, *window, n_in) if layer.channels is None else (layer.channels, *window, n_in)
    return shapes


def multiply_accumulates() -> dict[str, int]:
    """MACs of each layer that has weights."""
    activations = output_shapes()
    macs = {}
    for name, shape in weight_shapes().items():
        # Depthwise weights lead with 1: each output value sees its own channel only.
        values = prod(activations[name])
        macs[name] = values * prod(shape[1:]) if shape[0] > 1 else values * shape[1] * shape[2]
    return macs
