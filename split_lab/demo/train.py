"""Train the meter reader and write meter.tflite: `python -m split_lab.demo.train`.

For a desk, once: needs torch==2.13.0 (a CPU build will do) and tflite==2.18.0,
neither of which the project itself depends on. Frames are composed, so there is
nothing to download. Every seed is fixed; another machine's arithmetic may still
end at slightly other weights. The model of the last epoch is taken: test frames
choose nothing, they only report.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from split_lab.demo.export import to_tflite
from split_lab.demo.frames import DIGITS_PER_FRAME, HEIGHT_PX, WIDTH_PX, Split, compose
from split_lab.demo.layers import (CLASSES, INPUT_NAME, LAYERS, Add, Conv, GlobalMaxPool, Reshape, Softmax,
                                    output_shapes)
from split_lab.demo.quantize import FloatWeights, Range

MODEL_FILE = Path(__file__).with_name("meter.tflite")

_SEED = 1
_TRAIN_FRAMES = 24_000             # 1.1 GB in memory; each training digit appears some 67 times
_TEST_FRAMES = 2_000
_CALIBRATION_FRAMES = 512
_EPOCHS = 12
_BATCH = 32
_PEAK_RATE = 3e-3
_WEIGHT_DECAY = 0.02
# Some digits cannot be told apart for sure at 8x8; certainty about them is not rewarded.
_LABEL_SMOOTHING = 0.04
# From the answer alone nothing is learned for epochs: it does not say where to
# look. Told what stands in each grid cell, a net that had read 12 % right after
# three epochs of 8000 frames (chance: 10 %) reads 76 % after two and a half.
_CLASS_WEIGHT, _PLACE_WEIGHT, _MAP_WEIGHT = 3.0, 1.0, 0.5


@dataclass(frozen=True, slots=True)
class Shown:
    """Composed frames with all that training may know about them."""

    images: np.ndarray
    """uint8 [n, H, W, 3]."""
    labels: np.ndarray
    """int64 [n, 4]."""
    cells: np.ndarray
    """int64 [n, 4], the cell of the 6x10 grid that each digit's middle lies in, row by row."""


class MeterNet(nn.Module):
    """The layers of layers.py in floats, with batch normalization for training."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleDict()
        self.norms = nn.ModuleDict()
        channels = {INPUT_NAME: 3}
        for layer in LAYERS:
            if isinstance(layer, Conv):
                n_in = channels[layer.source]
                n_out = layer.channels or n_in
                groups = n_in if layer.channels is None else 1
                # The maps are scores, compared with each other: not to be normalized.
                is_score = layer.name == "digit_maps"
                self.convs[layer.name] = nn.Conv2d(n_in, n_out, layer.kernel, layer.stride,
                                                   groups=groups, bias=is_score)
                self.norms[layer.name] = nn.Identity() if is_score else nn.BatchNorm2d(n_out)
                channels[layer.name] = n_out
            elif isinstance(layer, Add):
                channels[layer.name] = channels[layer.sources[0]]
        # Only for training: class (10) and position (4, or none) of each grid cell.
        self.hints = nn.Conv2d(channels["squeeze"], CLASSES + DIGITS_PER_FRAME + 1, 1)

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """Every activation by name, for images [n, 3, H, W] in 0..1."""
        seen = {INPUT_NAME: image}
        for layer in LAYERS:
            if isinstance(layer, Conv):
                x = _pad_same(seen[layer.source], layer)
                x = self.norms[layer.name](self.convs[layer.name](x))
                x = functional.relu6(x) if layer.relu6 else x
            elif isinstance(layer, Add):
                x = functional.relu6(seen[layer.sources[0]] + seen[layer.sources[1]])
            elif isinstance(layer, GlobalMaxPool):
                x = seen[layer.source].amax(dim=(2, 3), keepdim=True)
            elif isinstance(layer, Reshape):
                x = seen[layer.source].permute(0, 2, 3, 1).reshape(-1, *layer.shape[1:])
            elif isinstance(layer, Softmax):
                x = functional.softmax(seen[layer.source], dim=-1)
            seen[layer.name] = x
        return seen


def main() -> None:
    """Compose, train, report, write."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--out", type=Path, default=MODEL_FILE)
    arguments.add_argument("--epochs", type=int, default=_EPOCHS)
    arguments.add_argument("--frames", type=int, default=_TRAIN_FRAMES)
    arguments.add_argument("--threads", type=int, default=2)
    options = arguments.parse_args()
    torch.manual_seed(_SEED)
    torch.set_num_threads(options.threads)
    torch.use_deterministic_algorithms(True)

    start_s = time.monotonic()
    seen = _compose_many("train", options.frames)
    print(f"composed {options.frames} training frames in {time.monotonic() - start_s:.0f} s", flush=True)
    net = MeterNet().to(memory_format=torch.channels_last)
    _train(net, seen, options.epochs)
    print(f"training done after {time.monotonic() - start_s:.0f} s", flush=True)

    net.eval()
    digits, plates = _accuracy(net, _compose_many("test", _TEST_FRAMES))
    print(f"float: {digits:.2%} of digits, {plates:.2%} of plates on {_TEST_FRAMES} test frames", flush=True)
    model = to_tflite(_folded(net), _calibrate(net, seen.images[:_CALIBRATION_FRAMES]))
    options.out.write_bytes(model)
    print(f"wrote {options.out.name}: {len(model)} bytes")


def _train(net: MeterNet, shown: Shown, epochs: int) -> None:
    steps = len(shown.images) // _BATCH
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=_WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _PEAK_RATE, total_steps=epochs * steps, pct_start=0.2)
    rng = np.random.default_rng(_SEED)
    for epoch in range(epochs):
        net.train()
        start_s, losses, right = time.monotonic(), 0.0, 0
        order = rng.permutation(len(shown.images))[:steps * _BATCH].reshape(steps, _BATCH)
        for rows in order:
            seen = net(_to_input(shown.images[rows]))
            wanted, cells = torch.from_numpy(shown.labels[rows]), torch.from_numpy(shown.cells[rows])
            loss = _loss(net, seen, wanted, cells)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses += loss.item()
            right += int((seen["digit_scores"].argmax(-1) == wanted).sum())
        print(f"epoch={epoch + 1}/{epochs} loss={losses / steps:.4f} "
              f"train_digits={right / (steps * _BATCH * DIGITS_PER_FRAME):.4f} "
              f"seconds={time.monotonic() - start_s:.0f}", flush=True)


def _loss(net: MeterNet, seen: dict[str, torch.Tensor], wanted: torch.Tensor, cells: torch.Tensor) -> torch.Tensor:
    """How wrong the answer is, and how wrong each grid cell that a digit stands in."""
    def per_cell(maps: torch.Tensor) -> torch.Tensor:
        return maps.flatten(2).transpose(1, 2)             # [n, cells, channels]

    def at_digits(values: torch.Tensor) -> torch.Tensor:
        return values.gather(1, cells[..., None].expand(-1, -1, values.shape[2])).transpose(1, 2)

    positions = torch.arange(DIGITS_PER_FRAME)
    answer = functional.cross_entropy(seen["digit_scores"].transpose(1, 2), wanted, label_smoothing=_LABEL_SMOOTHING)
    hints = per_cell(net.hints(seen["squeeze"]))
    classes = functional.cross_entropy(at_digits(hints[..., :CLASSES]), wanted, label_smoothing=_LABEL_SMOOTHING)
    place = torch.full(hints.shape[:2], DIGITS_PER_FRAME)
    place.scatter_(1, cells, positions.expand_as(cells))
    places = functional.cross_entropy(hints[..., CLASSES:].transpose(1, 2), place)
    # A forty-first class, held at 0, fixes the level of the maps: a digit rises above it.
    maps = functional.pad(per_cell(seen["digit_maps"]), (0, 1))
    map_error = functional.cross_entropy(at_digits(maps), wanted + CLASSES * positions)
    return answer + _CLASS_WEIGHT * classes + _PLACE_WEIGHT * places + _MAP_WEIGHT * map_error


def _compose_many(split: Split, count: int) -> Shown:
    images = np.empty((count, HEIGHT_PX, WIDTH_PX, 3), np.uint8)
    labels = np.empty((count, DIGITS_PER_FRAME), np.int64)
    cells = np.empty((count, DIGITS_PER_FRAME), np.int64)
    _, rows, columns, _ = output_shapes()["squeeze"]
    for index in range(count):
        frame = compose(index, split)
        images[index] = frame.pixels
        labels[index] = [int(digit) for digit in frame.text]
        x_px, y_px = np.array(frame.middles_px).T
        row, column = y_px * rows // HEIGHT_PX, x_px * columns // WIDTH_PX
        cells[index] = np.clip(row, 0, rows - 1) * columns + np.clip(column, 0, columns - 1)
    return Shown(images, labels, cells)


def _to_input(images: np.ndarray) -> torch.Tensor:
    """uint8 NHWC to 0..1 NCHW; the layout in memory stays NHWC."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255.0


def _pad_same(x: torch.Tensor, layer: Conv) -> torch.Tensor:
    """TFLite's SAME: an odd pixel of padding goes to the bottom and the right."""
    pads = []
    for size in (x.shape[3], x.shape[2]):
        missing = max((-(-size // layer.stride) - 1) * layer.stride + layer.kernel - size, 0)
        pads += [missing // 2, missing - missing // 2]
    return functional.pad(x, pads) if any(pads) else x


@torch.no_grad()
def _accuracy(net: MeterNet, shown: Shown) -> tuple[float, float]:
    """Ratio of digits, and of whole plates, that are read right."""
    right = np.concatenate([
        net(_to_input(shown.images[at:at + _BATCH]))["digit_scores"].argmax(-1).numpy() == shown.labels[at:at + _BATCH]
        for at in range(0, len(shown.images), _BATCH)])
    return float(right.mean()), float(right.all(axis=1).mean())


@torch.no_grad()
def _calibrate(net: MeterNet, images: np.ndarray) -> dict[str, Range]:
    """The least and greatest value of every activation over some training frames."""
    ranges: dict[str, Range] = {}
    for at in range(0, len(images), _BATCH):
        for name, x in net(_to_input(images[at:at + _BATCH])).items():
            low, high = float(x.min()), float(x.max())
            before = ranges.get(name, Range(low, high))
            ranges[name] = Range(min(low, before.low), max(high, before.high))
    # Only the maxima of the maps are used. Values under the least of them may
    # saturate: that changes no maximum, and the scale becomes several times finer.
    ranges["digit_maps"] = ranges["digit_maxima"]
    return ranges


@torch.no_grad()
def _folded(net: MeterNet) -> dict[str, FloatWeights]:
    """Weights in TFLite's layout, batch normalization folded in."""
    folded = {}
    for layer in LAYERS:
        if isinstance(layer, Conv):
            conv, norm = net.convs[layer.name], net.norms[layer.name]
            weights, biases = conv.weight, conv.bias
            if isinstance(norm, nn.BatchNorm2d):
                gain = norm.weight / torch.sqrt(norm.running_var + norm.eps)
                weights, biases = weights * gain[:, None, None, None], norm.bias - norm.running_mean * gain
            # From out, in, rows, columns; a depthwise `in` is 1 and moves to the front.
            axes = (1, 2, 3, 0) if layer.channels is None else (0, 2, 3, 1)
            folded[layer.name] = FloatWeights(weights.numpy().transpose(axes), biases.numpy())
    return folded


if __name__ == "__main__":
    main()
