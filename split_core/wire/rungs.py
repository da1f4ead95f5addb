"""Rungs: how a plan names the coding of a boundary."""

from __future__ import annotations

import re
from dataclasses import dataclass

from split_core.wire.messages import Codec

# A step is 2**(index / 32): 2 % apart, 4 % in divergence. Beyond these it is a mistake.
STEPS_AN_OCTAVE = 32
MAX_STEP_INDEX = 1024
# Three times as coarse, on that ladder: 32 * log2(3) = 50.7.
BASE_OFFSET = 51
_NAME = re.compile(r"(raw)|q([1-8])|(jpeg|webp)(\d{1,3})|(kl|b)(\d+\.?\d*(?:e-?\d+)?)(\+refine)?")


@dataclass(frozen=True, slots=True)
class Rung:
    """A codec with its bounds, as plans name it.

    "raw" loses nothing; "q4" quantizes to 4 bits; "jpeg92" and "webp95" send the input as a
    picture; "kl0.02" codes with the bundle's tables at a predicted divergence of at most 0.02
    from the whole model, "b2500" at no more than 2500 bytes; "+refine" behind these sends a
    coarse layer first and the rest only when the worker asks.
    """

    codec: Codec
    level: float = 0                 # bits, quality, divergence or bytes
    kind: str = "raw"                # "raw", "q", "jpeg", "webp", "kl", "b"

    @property
    def name(self) -> str:
        level = "" if self.codec is Codec.RAW else f"{self.level:g}"
        if self.kind == "b":
            level = f"{self.level:.0f}"
        return self.kind + level + ("+refine" if self.codec is Codec.LAYERED else "")

    @property
    def calibrated(self) -> bool:
        """Whether it needs a bundle's tables."""
        return self.codec in (Codec.CALIBRATED, Codec.LAYERED)

    @classmethod
    def parse(cls, name: str) -> Rung:
        """The rung of a name. Raises ValueError."""
        match = _NAME.fullmatch(name)
        if match:
            raw, bits, picture, quality, target, level, refine = match.groups()
            if raw:
                return cls(Codec.RAW)
            if bits:
                return cls(Codec.QUANTIZED, int(bits), "q")
            if picture and 1 <= int(quality) <= 100:
                return cls(Codec.IMAGE, int(quality), picture)
            if target and (1e-6 if target == "kl" else 1) <= float(level) < 1e12:
                return cls(Codec.LAYERED if refine else Codec.CALIBRATED, float(level), target)
        raise ValueError(f"rung {name!r}: wanted raw, q1 to q8, jpeg1 to jpeg100, webp1 to webp100,"
                         " kl with a divergence (kl0.02) or b with a number of bytes (b2500);"
                         " the last two may end in +refine")


RAW = Rung(Codec.RAW)
