"""Each kernel against the best plain NumPy for the same thing, and against memcpy.

    python -m bench.kernels --json bench/results/kernels.json

The three take turns in one run, so that a change of clock or neighbour hits all of
them. A kernel that clearly loses to NumPy makes the exit status 1. NumPy gets its
temporaries allocated in advance, and for the quantizer is let off handling NaN.

The transform codec follows, in nanoseconds an element: its stages on both sets of loops
(cext.simd), NumPy's products, and zstd level 1 on the same symbols as bytes. The coder
loses if coding and decoding take twice as long as zstd's.
"""

import argparse
import json
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

import numpy as np
import zstandard

import cext

SHAPES = [(14, 14, 64), (28, 28, 32), (112, 112, 16)]
CODEC_SHAPES = [(14, 14, 64), (7, 7, 160)]
CODEC_BITS = 1.5        # a coefficient: what a frame at a useful quality has
CODEC_STEP = 8.0

# One sample repeats a call until it takes this long: a thousand times the clock's
# resolution, and short enough that a few samples fit between two interruptions.
SAMPLE_S = 200e-6


@dataclass(frozen=True, slots=True)
class Case:
    """One kernel on one tensor; each contender leaves its result in its own buffer."""
    kernel: str
    shape: tuple[int, ...]
    ours: Callable[[], object]
    numpy: Callable[[], object]
    memcpy: Callable[[], object]    # np.copyto of the larger of input and output
    equal: Callable[[], bool]


def cases(shape, rng):
    """All kernels on one tensor shape."""
    n, channels = int(np.prod(shape)), shape[-1]
    floats = rng.normal(size=n).astype(np.float32)
    symbols = rng.integers(0, 256, size=n, dtype=np.uint8)
    temporary = np.empty_like(floats)
    table_u8 = rng.permutation(256).astype(np.uint8)
    table_f32 = rng.normal(size=256).astype(np.float32)

    def case(kernel, ours, numpy, src, size, dtype):
        a, b = np.zeros(size, dtype), np.ones(size, dtype)
        largest = src if src.nbytes >= a.nbytes else a.copy()
        copy = np.empty_like(largest)
        return Case(kernel, shape, lambda: ours(src, a), lambda: numpy(src, b),
                    lambda: np.copyto(copy, largest), lambda: a.tobytes() == b.tobytes())

    def range_into(function):
        def run(src, dst):
            dst[0], dst[1] = function(src)
        return run

    yield case("range_f32", range_into(cext.range_f32), range_into(_numpy_range), floats, 2, np.float32)
    yield case("quantize_f32", lambda s, d: cext.quantize_f32(s, d, -3.0, 42.5, 255),
               lambda s, d: _numpy_quantize(s, d, temporary, np.float32(-3), np.float32(42.5), np.float32(255)),
               floats, n, np.uint8)
    yield case("lookup_u8", lambda s, d: cext.lookup_u8(s, d, table_u8),
               lambda s, d: np.take(table_u8, s, out=d, mode="clip"), symbols, n, np.uint8)
    yield case("lookup_f32", lambda s, d: cext.lookup_f32(s, d, table_f32),
               lambda s, d: _numpy_lookup_f32(s, d, table_f32), symbols, n, np.float32)
    yield case("planes_from_pixels", lambda s, d: cext.planes_from_pixels(s, d, channels),
               lambda s, d: np.copyto(d.reshape(channels, -1), s.reshape(-1, channels).T), symbols, n, np.uint8)
    yield case("pixels_from_planes", lambda s, d: cext.pixels_from_planes(s, d, channels),
               lambda s, d: np.copyto(d.reshape(-1, channels), s.reshape(channels, -1).T), symbols, n, np.uint8)
    for bits in range(1, 9):
        small = symbols >> (8 - bits)
        packed = np.zeros(n * bits // 8, dtype=np.uint8)
        cext.pack_bits(small, packed, bits)
        yield case(f"pack_bits/{bits}", lambda s, d, bits=bits: cext.pack_bits(s, d, bits),
                   lambda s, d, bits=bits: _numpy_pack(s, d, bits), small, packed.size, np.uint8)
        yield case(f"unpack_bits/{bits}", lambda s, d, bits=bits: cext.unpack_bits(s, d, bits),
                   lambda s, d, bits=bits: _numpy_unpack(s, d, bits), packed, n, np.uint8)


def measure(case, rounds):
    """Time the three contenders in turns; return one row of the report."""
    contenders = {"ours": case.ours, "numpy": case.numpy, "memcpy": case.memcpy}
    repeats = {name: _repeats(call) for name, call in contenders.items()}
    if not case.equal():
        raise SystemExit(f"{case.kernel} {case.shape}: NumPy computes something else")
    samples = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, call in contenders.items():
            samples[name].append(_time(call, repeats[name]) * 1e6)
    row = {"kernel": case.kernel, "shape": list(case.shape)}
    for name, values in samples.items():
        q1, median, q3 = statistics.quantiles(values, n=4)
        row |= {f"{name}_us": median, f"{name}_q1_us": q1, f"{name}_q3_us": q3}
    row["speedup_vs_numpy"] = row["numpy_us"] / row["ours_us"]
    row["times_memcpy"] = row["ours_us"] / row["memcpy_us"]
    return {key: round(value, 3) if isinstance(value, float) else value for key, value in row.items()}


def lost(row):
    """NumPy is faster by more than a tie: at 8 bits both are a memcpy, some per cent apart."""
    return row["speedup_vs_numpy"] < 0.9


def codec_frame(shape, rng):
    """Orthogonal matrices, exponents that fall over frequency and channel, and a tensor that has them."""
    height, width, channels = shape
    y, x, c = np.ogrid[:height, :width, :channels]
    fall = (-4 * c / channels - 3.5 * np.log2(1 + (x + y) / 2)).ravel()
    n, low, high = fall.size, -10.0, 30.0
    while high - low > 1e-3:
        level = (low + high) / 2
        exponents = np.rint(16 * (fall + level)).astype(np.int16)
        low, high = (low, level) if cext.expected_bits(exponents, 0) > CODEC_BITS * n else (level, high)
    matrices = [np.linalg.qr(rng.normal(size=(k, k)))[0].astype(np.float32) for k in (channels, height, width)]
    coefficients = rng.laplace(size=n) * 2 ** ((fall + level) / 2) * CODEC_STEP / 2**0.5
    tensor = np.zeros(n, np.int8)
    cext.Transform((1, height, 1, width, channels), "int8", *matrices, np.zeros(n)).inverse(
        np.rint(coefficients * 16).clip(-32767, 32767).astype(np.int16), 1 / 16, tensor)
    return tensor, exponents, matrices


def measure_codec(shape, rng, rounds):
    """One row: every stage of the codec, in turns with NumPy and zstd."""
    height, width, channels = shape
    tensor, exponents, matrices = codec_frame(shape, rng)
    n, offset = tensor.size, np.zeros(tensor.size, np.float32)
    symbols, again, back = np.zeros(n, np.int16), np.zeros(n, np.int16), np.zeros(n, np.int8)
    out = np.zeros(cext.max_coded_bytes(n), np.uint8)
    paths = {simd: cext.Transform((1, height, 1, width, channels), "int8", *matrices, offset, simd=simd)
             for simd in dict.fromkeys((cext.simd, "baseline"))}
    paths[cext.simd].forward(tensor, symbols, 1 / CODEC_STEP)
    coded = out[:cext.encode_symbols(symbols, exponents, 0, out)].copy()
    base, fine = np.zeros(n, np.int16), np.zeros(n, np.int16)
    cext.split_base(symbols, base, exponents, 51)
    refined = out[:cext.encode_refinement(symbols, base, exponents, 51, out)].copy()
    as_bytes = symbols.clip(-128, 127).astype(np.int8).tobytes()
    packer, unpacker = zstandard.ZstdCompressor(level=1), zstandard.ZstdDecompressor()
    packed = packer.compress(as_bytes)
    numpy_forward = _numpy_forward(shape, matrices, offset)

    def encode(transform):
        transform.forward(tensor, again, 1 / CODEC_STEP)
        cext.encode_symbols(again, exponents, 0, out)

    contenders = {}
    for simd, transform in paths.items():
        contenders[f"forward/{simd}"] = lambda t=transform: t.forward(tensor, again, 1 / CODEC_STEP)
        contenders[f"inverse/{simd}"] = lambda t=transform: t.inverse(symbols, CODEC_STEP, back)
        contenders[f"forward and encode/{simd}"] = lambda t=transform: encode(t)
    contenders |= {
        "forward/numpy": lambda: numpy_forward(tensor, again),
        "encode_symbols": lambda: cext.encode_symbols(symbols, exponents, 0, out),
        "decode_symbols": lambda: cext.decode_symbols(coded, exponents, 0, again),
        "encode_refinement": lambda: cext.encode_refinement(symbols, base, exponents, 51, out),
        "decode_refinement": lambda: cext.decode_refinement(refined, base, exponents, 51, fine),
        "zstd compress": lambda: packer.compress(as_bytes),
        "zstd decompress": lambda: unpacker.decompress(packed),
    }
    repeats = {name: _repeats(call) for name, call in contenders.items()}
    samples = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, call in contenders.items():
            samples[name].append(_time(call, repeats[name]) * 1e9 / n)
    return {"kernel": "codec", "shape": list(shape), "coded_bytes": coded.size, "refinement_bytes": refined.size,
            "expected_bytes": round(cext.expected_bits(exponents, 0) / 8), "zstd_bytes": len(packed),
            "ns": {name: round(statistics.median(values), 3) for name, values in samples.items()}}


def codec_lost(row):
    """What of the codec is slower than its yardstick allows."""
    ns = row["ns"]
    if ns[f"forward/{cext.simd}"] > ns["forward/numpy"] / 0.9:
        yield f"forward {row['shape']}"
    if ns["encode_symbols"] + ns["decode_symbols"] > 2 * (ns["zstd compress"] + ns["zstd decompress"]):
        yield f"encode_symbols and decode_symbols {row['shape']}"


def main(argv=None):
    parser = argparse.ArgumentParser(prog="bench.kernels", description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows here as JSON")
    parser.add_argument("--rounds", type=int, default=41, help="samples per contender (default 41)")
    args = parser.parse_args(argv)
    if cext.BACKEND != "compiled":
        parser.error("SPLIT_CODEC=reference is set: there is nothing compiled to measure")
    if args.rounds < 2:
        parser.error(f"--rounds is {args.rounds}, quartiles need at least 2")

    rng = np.random.default_rng(1)
    rows = []
    print(f"{'kernel':<20}{'shape':<13}{'ours us':>16}{'numpy us':>20}{'memcpy us':>14}"
          f"{'vs numpy':>10}{'x memcpy':>10}")
    for shape in SHAPES:
        for case in cases(shape, rng):
            row = measure(case, args.rounds)
            rows.append(row)
            spread = {name: f"{row[name + '_us']:.2f} ±{(row[name + '_q3_us'] - row[name + '_q1_us']) / 2:.2f}"
                      for name in ("ours", "numpy", "memcpy")}
            print(f"{row['kernel']:<20}{'x'.join(map(str, shape)):<13}{spread['ours']:>16}{spread['numpy']:>20}"
                  f"{spread['memcpy']:>14}{row['speedup_vs_numpy']:>9.1f}x{row['times_memcpy']:>10.1f}")
    losers = [f"{row['kernel']} {row['shape']}" for row in rows if lost(row)]
    for shape in CODEC_SHAPES:
        row = measure_codec(shape, rng, args.rounds)
        rows.append(row)
        print(f"\ntransform codec, {'x'.join(map(str, shape))}, int8, ns an element; coded {row['coded_bytes']} bytes,"
              f" expected {row['expected_bytes']}, zstd {row['zstd_bytes']}")
        print("\n".join(f"  {name:<34}{value:>8.2f}" for name, value in row["ns"].items()))
        losers += codec_lost(row)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(rows, indent=1) + "\n")
    if losers:
        print(f"slower than NumPy or zstd: {', '.join(losers)}", file=sys.stderr)
    return 1 if losers else 0


def _time(call, repeats):
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats


def _repeats(call):
    call()                                      # the first call touches fresh pages
    return max(1, round(SAMPLE_S / min(_time(call, 3) for _ in range(5))))


# The best plain NumPy we know for each kernel: what one would ship without a compiler,
# not the twins of cext.reference, which are written to be obvious. It may assume what
# is measured here: lengths divisible by eight, no NaN.

def _numpy_range(src):
    lo, hi = src.min(), src.max()
    if not (np.isfinite(lo) and np.isfinite(hi)):
        finite = src[np.isfinite(src)]
        lo, hi = finite.min(initial=0), finite.max(initial=0)
    return float(lo) + 0.0, float(hi) + 0.0


def _numpy_quantize(src, dst, temporary, lo, inv_step, top):
    np.subtract(src, lo, out=temporary)
    np.multiply(temporary, inv_step, out=temporary)
    np.rint(temporary, out=temporary)
    np.clip(temporary, np.float32(0), top, out=temporary)
    np.copyto(dst, temporary, casting="unsafe")


def _numpy_forward(shape, matrices, offset):
    """BLAS takes as many cores as it likes."""
    height, width, channels = shape
    channel, row, column = matrices
    a, b = np.empty((2, height, width, channels), np.float32)

    def forward(src, symbols):
        np.copyto(a, src.reshape(shape))
        np.matmul(a.reshape(-1, channels), channel.T, out=b.reshape(-1, channels))
        np.matmul(column, b, out=a)
        np.matmul(row, a.reshape(height, -1), out=b.reshape(height, -1))
        flat = b.ravel()
        np.subtract(flat, offset, out=flat)
        np.multiply(flat, np.float32(1 / CODEC_STEP), out=flat)
        np.rint(flat, out=flat)
        np.clip(flat, np.float32(-32767), np.float32(32767), out=flat)
        np.copyto(symbols, flat, casting="unsafe")

    return forward


def _numpy_lookup_f32(src, dst, table):
    _refuse(src.max() >= table.size)
    np.take(table, src, out=dst, mode="clip")   # "raise" would copy through a buffer


def _numpy_pack(src, dst, bits):
    _refuse(bits < 8 and src.max() >> bits)
    if bits == 8:
        np.copyto(dst, src)
    elif bits == 1:
        np.copyto(dst, np.packbits(src, bitorder="little"))
    elif bits == 2:
        np.copyto(dst, src[0::4] | src[1::4] << 2 | src[2::4] << 4 | src[3::4] << 6)
    elif bits == 4:
        np.left_shift(src[1::2], 4, out=dst)
        np.bitwise_or(dst, src[0::2], out=dst)
    else:
        # Eight symbols as one 64-bit word: three steps over n / 8 words beat
        # packbits over n * bits bits.
        words = src.view("<u8")
        for shift, low in ((8 - bits, 0x00FF00FF00FF00FF), (16 - 2 * bits, 0x0000FFFF0000FFFF),
                           (32 - 4 * bits, 0x00000000FFFFFFFF)):
            low = np.uint64(low)
            words = words & low | (words & ~low) >> np.uint64(shift)
        dst.reshape(-1, bits)[:] = words.view(np.uint8).reshape(-1, 8)[:, :bits]


def _numpy_unpack(src, dst, bits):
    if bits == 8:
        np.copyto(dst, src)
    elif bits == 1:
        np.copyto(dst, np.unpackbits(src, bitorder="little"))
    elif bits == 2:
        np.bitwise_and(src, 3, out=dst[0::4])
        np.bitwise_and(src >> 2, 3, out=dst[1::4])
        np.bitwise_and(src >> 4, 3, out=dst[2::4])
        np.right_shift(src, 6, out=dst[3::4])
    elif bits == 4:
        np.bitwise_and(src, 15, out=dst[0::2])
        np.right_shift(src, 4, out=dst[1::2])
    else:
        words = dst.view("<u8")
        words[:] = 0
        dst.reshape(-1, 8)[:, :bits] = src.reshape(-1, bits)
        for shift, each, repeat in ((32 - 4 * bits, 4 * bits, 1), (16 - 2 * bits, 2 * bits, 0x0000000100000001),
                                    (8 - bits, bits, 0x0001000100010001)):
            low = np.uint64(((1 << each) - 1) * repeat)
            high = np.uint64(int(low) << (each + shift))
            words[:] = words & low | words << np.uint64(shift) & high


def _refuse(wrong):
    if wrong:
        raise ValueError("a symbol does not fit")


if __name__ == "__main__":
    sys.exit(main())
