"""Write cext/class_tables.py, the frozen tables of the entropy coder.

    python -m bench.class_tables mobilenet.split.tflite=photos resnet.split.tflite=thumbnails

counts the symbols of calibrated bundles on folders of inputs, at every cut and at steps from
an eighth of the reference to eight times it, class by class; without bundles a model of
coefficients takes their place. One set of tables serves all: whoever runs this changes the
format of every payload.

A table is fitted to a histogram of magnitudes: signs are as good as random after a
transform whose basis vectors have no sign of their own, so both share a frequency.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from pathlib import Path

import numpy as np

T_MIN, T_MAX = -16, 10
# The higher the scale, the larger the decoder's tables and the cheaper what hardly ever
# comes; that saves nothing here: four frames of 12544 coefficients at 1.55 bits, tables
# of either scale, took 2433.5, 2433.0, 2433.5 bytes at 12, 13, 14 bits, and 3.49, 3.55,
# 3.67 ns a coefficient to decode.
SCALE_BITS = 12

# Step indices at which symbols are counted, and the model's share of a histogram.
STEPS = (-96, -48, -16, 0, 16, 48, 96)
PRIOR = 1e-3

# Raw bits of an escape next to those of its size: four that say how many, one sign.
ESCAPE_BITS = 5


def fit(counts, scale_bits: int = SCALE_BITS) -> tuple[int, ...]:
    """Frequencies (f_0 .. f_R) of the magnitudes 0..R that code a histogram cheapest.

    counts[m] is how often magnitude m came, both signs together; zeros are fine.
    f_m is the frequency of each of +m and -m, and what the sum leaves of
    2**scale_bits is the escape's. R is tried upwards from 1 until the cost, escapes
    and their raw bits included, has not fallen for a while.
    """
    share = np.asarray(counts, float) / np.sum(counts)
    best, best_bits = (), np.inf
    for radius in range(1, min(len(share) - 1, 100)):
        frequencies = _normalise(share[: radius + 1], share[radius + 1:].sum(), scale_bits)
        bits = cost_bits(share, frequencies, scale_bits)
        if bits < best_bits:
            best, best_bits = frequencies, bits
        elif radius > 2 * len(best) + 8:
            break
    return best


def cost_bits(share, frequencies, scale_bits: int = SCALE_BITS) -> float:
    """Bits a coefficient costs on average: a share of each magnitude, coded by a table."""
    top = 1 << scale_bits
    radius = len(frequencies) - 1
    escape = top - 2 * sum(frequencies) + frequencies[0]
    inside = np.log2(top / np.array(frequencies, float))
    beyond = np.arange(1, len(share) - radius)
    sizes = np.floor(np.log2(beyond)) + ESCAPE_BITS + np.log2(top / escape)
    return float(share[: radius + 1] @ inside + share[radius + 1:] @ sizes)


def _normalise(share, escape_share: float, scale_bits: int) -> tuple[int, ...]:
    """Integers of at least 1 near the shares, f_0 + 2 * (f_1 + .. + f_R) + escape = 2**bits."""
    top = 1 << scale_bits
    ideal = np.append(share, escape_share)          # the escape is the last, and one symbol
    units = np.full(ideal.size, 2)
    units[[0, -1]] = 1
    f = np.maximum(1, np.floor(ideal * top / units)).astype(int)
    while (left := top - int(f @ units)) != 0:
        # One step at a time, where it saves most or costs least a unit.
        step = 1 if left > 0 else -1
        with np.errstate(divide="ignore", invalid="ignore"):
            gain = ideal * np.log2((f + step) / f) / units
        gain[(f + step < 1) | (units > abs(left))] = -np.inf
        f[np.argmax(gain)] += step
    return tuple(f[:-1].tolist())


def fit_three(counts, scale_bits: int = SCALE_BITS) -> tuple[int, int, int]:
    """Frequencies of a ternary symbol -1, 0, 1, each at least 1."""
    share = np.asarray(counts, float) / np.sum(counts)
    f = np.maximum(1, np.rint(share * (1 << scale_bits))).astype(int)
    f[np.argmax(f)] += (1 << scale_bits) - f.sum()
    return tuple(f.tolist())


def model_histograms(shape: float = 0.9) -> tuple[list, list, list]:
    """What a generalised Gaussian of this shape would give, class by class.

    The variance is spread evenly over the width of its class. Returns histograms of
    magnitudes, and of refinements -1, 0, 1 where the base is zero and where it is
    not (there in the direction of its sign).
    """
    # One deviation is 512 grid points; the density is cut off at 40 deviations.
    x = (np.arange(40 * 512) + 0.5) / 512
    density = np.exp(-(x**shape))
    density /= density.sum()
    x /= np.sqrt((density * x * x).sum())
    symbols, zero, other = [], [], []
    for t in range(T_MIN, T_MAX + 1):
        plain, at_zero, beside = np.zeros(512), np.zeros(3), np.zeros(3)
        for u in np.linspace(t - 0.5, t + 0.5, 17)[1::2]:
            deviation = 2.0 ** (u / 4)              # in steps; u is 2 * log2 of its square
            plain += np.bincount(np.minimum(np.rint(x * deviation), 511).astype(int),
                                 density, minlength=512)
            fine = np.rint(3 * x * deviation)
            base = np.floor((fine + 1) / 3)
            r = (fine - 3 * base).astype(int)
            inside = base == 0
            at_zero += np.bincount(r[inside] + 1, density[inside], minlength=3)
            beside += np.bincount(r[~inside] + 1, density[~inside], minlength=3)
        side = (at_zero[0] + at_zero[2]) / 2        # x is only one half of the line
        symbols.append(plain)
        zero.append(np.array([side, at_zero[1], side]))
        other.append(beside + 1e-12)                # never empty
    return symbols, zero, other


def measured_histograms(bundles: list[tuple[Path, Path]], files: int = 60) -> tuple[list, ...]:
    """The same from calibrated bundles and their inputs, with a little of the model's for
    what never came."""
    from split_core.model.bundle import open_bundle
    from split_core.model.runner import Runner
    from split_core.wire.transformed import TensorTransform, step_of
    from split_lab.views import list_inputs, views

    found = [[np.zeros(512) for _ in range(T_MIN, T_MAX + 1)],
             *([np.zeros(3) for _ in range(T_MIN, T_MAX + 1)] for _ in range(2))]
    for path, folder in bundles:
        bundle, rng = open_bundle(path), np.random.default_rng(3)
        runner = Runner(bundle)
        transforms = {n: TensorTransform(c, bundle.specs[n]) for n, c in bundle.codings.items()}
        for file in list_inputs(folder, files):
            for view in views(bundle, file, centre=1, hard=2, rng=rng):
                live = dict(view.arrays)
                for here, there in zip(bundle.manifest.cuts, bundle.manifest.cuts[1:]):
                    for name in here.boundary:
                        if name in transforms:
                            for index in STEPS:
                                _count(transforms[name], live[name], index, step_of, found)
                    live = runner.run(live, here.cut, there.cut)
    for own, prior in zip(found, model_histograms()):
        for h, p in zip(own, prior):
            h += p * (PRIOR * max(h.sum(), 1.0) / p.sum())
    return tuple(found)


def _count(transform, array, index: int, step_of, found) -> None:
    fine = transform.symbols(array, step_of(index) / 3)
    base = np.floor_divide(fine.astype(int) + 1, 3)
    t = (transform.exponents.astype(int) - index + 4) >> 3
    for place, at in enumerate(range(T_MIN, T_MAX + 1)):
        mine = t == at
        b, r = base[mine], (fine[mine] - 3 * base[mine]).astype(int)
        found[0][place] += np.bincount(np.minimum(np.abs(b), 511), minlength=512)
        found[1][place] += np.bincount(r[b == 0] + 1, minlength=3)
        found[2][place] += np.bincount((r * np.sign(b))[b != 0] + 1, minlength=3)


def render(symbols, zero, other) -> str:
    """The text of cext/class_tables.py."""
    def rows(name, tables):
        body = "\n".join(textwrap.fill(f"({', '.join(map(str, table))}),", 96,
                                       initial_indent="    ", subsequent_indent="     ")
                         for table in tables)
        return f"{name} = (\n{body}\n)\n"

    return f'''"""Frozen frequencies of the entropy coder: data, written by `python -m bench.class_tables`.

Streams depend on every number. Table t - T_MIN is that of class t, whose variance is
about 2**(t / 2) squared steps. SYMBOLS holds f_0, f_1 .. f_R: both signs of a magnitude
have its frequency, and what is missing of 2**SCALE_BITS belongs to the escape. REFINE_ZERO
and REFINE_OTHER hold the frequencies of -1, 0, 1 beside a base symbol that is zero, or
that is not: then they count in the direction of its sign.
"""

T_MIN = {T_MIN}
T_MAX = {T_MAX}
SCALE_BITS = {SCALE_BITS}

{rows("SYMBOLS", symbols)}
{rows("REFINE_ZERO", zero)}
{rows("REFINE_OTHER", other)}'''


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.class_tables", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, metavar="FILE",
                        default=Path(__file__).resolve().parents[1] / "cext" / "class_tables.py")
    parser.add_argument("bundles", nargs="*", metavar="BUNDLE=INPUTS")
    args = parser.parse_args()
    pairs = [tuple(map(Path, pair.split("=", 1))) for pair in args.bundles]
    symbols, zero, other = measured_histograms(pairs) if pairs else model_histograms()
    args.out.write_text(render([fit(h) for h in symbols], [fit_three(h) for h in zero],
                               [fit_three(h) for h in other]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
