"""JPEG quantization tables made for a model: fine where it looks, coarse where it does not.

The sensitivity of a frequency is how much a model's answer moves with the square of its
coefficient; at high rates the bytes for a given movement are fewest when each step goes with
the inverse root of that. Networks read fine detail and colour that tables made for eyes throw
away. Any decoder reads the files, because a JPEG carries its tables.

Sensitivities are arrays [1 or 3 channels (luma, then blue and red difference), 8, 8 (vertical,
horizontal frequency)], of no unit: only their ratios count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np

from split_core.model.manifest import ImageInput
from split_core.pictures import Tables, from_samples, to_samples
from split_lab.judge import Judge, log_softmax

# RGB of a unit of each of Y, Cb and Cr (JFIF), row by row.
_RGB_OF = np.array([[1, 1, 1], [0, -0.344136, 1.772], [1.402, -0.714136, 0]])
# Of quality 50: the geometric mean of the steps in the tables that libjpeg has from the
# standard (T.81, Annex K), luma once and chroma twice, so that qualities mean alike.
_LIBRARY_MEAN_STEP = 65.2
# A probe moves each sample by 8 of 255, root mean square. That is far, but integer models answer
# any change with as much rounding noise as 3 give (MobileNetV2), whatever the frequency. What
# is left of the noise is seen in probes of a quarter, of one frequency in eight.
_PROBE_COEFFICIENT = 64.0
_WEAKER, _ONE_IN = 0.25, 8
_SEED = 20060216
# Below this share of the mean sensitivity a step would be endless.
_LEAST = 1e-4


def jpeg_tables(gradients: np.ndarray) -> Tables:
    """Tables of a model from its `gradient_sensitivity`."""
    return tables_from(gradient_sensitivity(gradients))


def tables_from(sensitivity: np.ndarray) -> Tables:
    """Luma and chroma tables for quality 50, 64 steps of 1..255 each, row by row."""
    luma = sensitivity[0]
    chroma = sensitivity[1:].mean(0) if len(sensitivity) == 3 else luma
    floor = _LEAST * sensitivity.mean() or 1.0
    steps = [1 / np.sqrt(np.maximum(s, floor)) for s in (luma, chroma)]
    mean = np.exp((np.log(steps[0]).mean() + 2 * np.log(steps[1]).mean()) / 3)
    scaled = [np.clip(np.rint(s * (_LIBRARY_MEAN_STEP / mean)), 1, 255) for s in steps]
    return tuple(s.astype(int).ravel().tolist() for s in scaled)


def gradient_sensitivity(gradients: np.ndarray) -> np.ndarray:
    """From gradients [n, height, width, 1 or 3] of the log-likelihood of answers that the
    model itself would draw, by input sample (any unit), channels as push_jpeg gets them."""
    if gradients.shape[3] == 3:
        gradients = gradients @ _RGB_OF.T.astype(gradients.dtype)
    coefficients = _dct(_blocks(gradients))
    return np.square(coefficients, dtype=np.float64).mean((0, 1, 2)).transpose(2, 0, 1)


def probe_jpeg_sensitivity(judge: Judge, image: ImageInput,
                           inputs: Iterable[Mapping[str, np.ndarray]],
                           on_progress: Callable[[], None] = lambda: None) -> np.ndarray:
    """The same through the real runtime, for models without gradients: one frequency of all
    blocks is moved up and down, with a sign by chance in each, and the answer watched. Takes
    144 runs of the whole model a channel for each of ``inputs`` (arrays by name); a few dozen
    inputs do."""
    rng = np.random.default_rng(_SEED)
    total, count, pairs = np.zeros((image.channels, 8, 8)), 0, []
    for arrays in inputs:
        reference = judge.answer(arrays, 0)

        def moved(shift: np.ndarray, arrays=arrays, reference=reference) -> float:
            up, down = (judge.answer(_shifted(arrays, image, s), 0) for s in (shift, -shift))
            return _distance(judge, reference, up, down)

        for at, place in enumerate(np.ndindex(*total.shape)):
            shift = _pattern(image, *place, rng)
            strong = moved(shift)
            total[place] += strong
            if at % _ONE_IN == count % _ONE_IN:
                pairs.append((strong, moved(_WEAKER * shift)))
        count += 1
        on_progress()
    if not count:
        raise ValueError("no inputs to probe")
    # strong = s + noise, weak = s / 16 + noise
    strong, weak = np.mean(pairs, axis=0)
    noise = max(0.0, (weak - _WEAKER**2 * strong) / (1 - _WEAKER**2))
    # Two dozen inputs tell neighbours apart by chance more than by what they are: smoothed,
    # the correlation with gradients rises from 0.63 to 0.85 (MobileNetV2).
    response = _smoothed(total / count - noise)
    return np.maximum(response, _LEAST * response.mean())


def _smoothed(sensitivity: np.ndarray) -> np.ndarray:
    """Weights 1, 2, 1 over neighbouring frequencies, both ways."""
    for axis in (1, 2):
        widths = [(1, 1) if a == axis else (0, 0) for a in range(3)]
        wide = np.pad(sensitivity, widths, mode="edge")
        below, here, above = (wide.take(range(i, i + 8), axis) for i in range(3))
        sensitivity = (below + 2 * here + above) / 4
    return sensitivity


def _shifted(arrays: Mapping[str, np.ndarray], image: ImageInput,
             shift: np.ndarray) -> dict[str, np.ndarray]:
    array = arrays[image.tensor]
    samples = np.clip(np.rint(to_samples(array, image).reshape(shift.shape) + shift), 0, 255)
    return {**arrays, image.tensor: from_samples(
        samples.astype(np.uint8), image, array.dtype).reshape(array.shape)}


def _distance(judge: Judge, reference, up, down) -> float:
    """Square of half the way between two answers, in the metric of their divergence."""
    ways = [(u - d) / 2 for u, d in zip(up, down)]
    if judge.heads.softmax:
        p = np.exp(log_softmax(reference[0]))
        mean = (p * ways[0]).sum(-1)
        return float(np.mean((p * ways[0] ** 2).sum(-1) - mean ** 2))
    return float(np.mean([np.mean((w / s) ** 2) for w, s in zip(ways, judge.scales)]))


def _pattern(image: ImageInput, channel: int, v: int, h: int,
             rng: np.random.Generator) -> np.ndarray:
    """What is added to the samples [height, width, channels] for one frequency."""
    rows, columns = -(-image.height // 8), -(-image.width // 8)
    signs = rng.choice((-_PROBE_COEFFICIENT, _PROBE_COEFFICIENT), (rows, columns))
    plane = np.kron(signs, np.outer(_DCT[v], _DCT[h]))[:image.height, :image.width, None]
    return plane if image.channels == 1 else plane * _RGB_OF[channel]


# Row k holds the k-th cosine, orthonormal: JPEG's own transform.
_DCT = np.array([[np.cos(np.pi * k * (2 * i + 1) / 16) * (0.5 if k else np.sqrt(1 / 8))
                  for i in range(8)] for k in range(8)])


def _blocks(planes: np.ndarray) -> np.ndarray:
    """[n, height, width, channels] as [n, rows, columns, 8, 8, channels]; what is left at the
    right and the bottom is no whole block and not looked at."""
    n, height, width, channels = planes.shape
    rows, columns = height // 8, width // 8
    if not rows or not columns:
        raise ValueError(f"pictures of {width}x{height} hold no block of 8x8")
    whole = planes[:, :rows * 8, :columns * 8]
    return whole.reshape(n, rows, 8, columns, 8, channels).swapaxes(2, 3)


def _dct(blocks: np.ndarray) -> np.ndarray:
    basis = _DCT.astype(blocks.dtype)
    return np.einsum("vy,hx,nrcyxk->nrcvhk", basis, basis, blocks, optimize=True)
