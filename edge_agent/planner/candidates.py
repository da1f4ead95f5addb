"""What could be done with the next frame: every cut, rung, worker and way of waiting.

An *option* is a cut with a rung; a *candidate* an option at a worker, waited for or raced.
All-local is a candidate, and so is a JPEG of the input: where they win, they are chosen.
Arrays, not objects: a decision looks at all of them at once. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np

from split_core.model.bundle import Bundle
from split_core.wire.messages import Codec
from split_core.wire.rungs import Rung

LOCAL = -1                           # the worker of a candidate that needs none


class Option(msgspec.Struct, frozen=True):
    """A cut, and how its boundary is coded. Goes into the journal."""

    cut: int
    segment: int                     # the first one after the cut
    rung: str
    coarsest: str | None             # the rung that a frame's step may go to
    kl: float | None                 # predicted divergence, nats; None: nobody measured it
    coarsest_kl: float | None

    @property
    def name(self) -> str:
        return f"cut {self.cut} {self.rung}"


def options_of(bundle: Bundle, kl: float, max_kl: float) -> tuple[Option, ...]:
    """The options of a bundle at a divergence asked for and one that is still tolerated;
    all-local is the last."""
    found = [picture for format in ("jpeg", "webp")
             if (picture := _picture(bundle, format, kl, max_kl)) is not None]
    for segment, entry in enumerate(bundle.manifest.cuts[:-1]):
        rate = bundle.rate(entry.cut)
        if rate is not None:
            asked, most = (rate.kl(rate.index_for_kl(level)) for level in (kl, max_kl))
            # A cut whose finest step is worse than tolerated cannot give what is asked.
            if asked <= max_kl:
                found.append(Option(entry.cut, segment, _kl_rung(kl),
                                    _kl_rung(max_kl) if max_kl > kl else None, asked, most))
        else:
            # Of a picture there are better codes than 4 bits, and the picture as it is.
            if entry.cut > 0 or bundle.manifest.image is None:
                found.append(Option(entry.cut, segment, "q4", None, None, None))
            found.append(Option(entry.cut, segment, "raw", None, 0.0, 0.0))
    found.append(Option(bundle.last_cut, len(bundle.manifest.segments), "raw", None, 0.0, 0.0))
    return tuple(found)


def _kl_rung(kl: float) -> str:
    return Rung(Codec.CALIBRATED, kl, "kl").name


def _picture(bundle: Bundle, format: str, kl: float, max_kl: float) -> Option | None:
    """The input as a picture, at the smallest qualities that are good enough."""
    if bundle.manifest.image is None:
        return None
    curve = bundle.picture_rate(format)
    if curve is None:
        # Not calibrated: a quality that people call good; what it costs is not known.
        return Option(0, 0, "jpeg90", None, None, None) if format == "jpeg" else None
    tolerated = curve.quality_for_kl(max_kl)
    if tolerated is None:
        return None
    asked = curve.quality_for_kl(kl) or tolerated
    return Option(0, 0, f"{format}{asked}", f"{format}{tolerated}" if tolerated < asked else None,
                  curve.kl(asked), curve.kl(tolerated))


@dataclass(frozen=True)
class Candidates:
    """Parallel arrays, one entry a candidate; all-local is the last."""

    options: tuple[Option, ...]
    workers: tuple[str, ...]
    option: np.ndarray               # int [n], index into options
    worker: np.ndarray               # int [n], index into workers, or LOCAL
    race: np.ndarray                 # bool [n]
    cut: np.ndarray                  # int [n]
    segment: np.ndarray              # int [n], the first one after the cut

    def __len__(self) -> int:
        return len(self.option)

    @property
    def local(self) -> np.ndarray:
        return self.worker == LOCAL

    def describe(self, index: int) -> str:
        option, worker = self.options[self.option[index]], self.worker[index]
        if worker == LOCAL:
            return "all local"
        how = ", raced" if self.race[index] else ""
        return f"{option.name} at {self.workers[worker]}{how}"


def candidates_of(options: tuple[Option, ...], workers: tuple[str, ...]) -> Candidates:
    """Every option at every worker, with and without racing; all-local once."""
    remote = range(len(options) - 1)
    rows = [(i, w, race) for w in range(len(workers)) for i in remote for race in (False, True)]
    rows.append((len(options) - 1, LOCAL, False))
    option, worker, race = (np.array(column) for column in zip(*rows))
    return Candidates(options, workers, option, worker, race,
                      np.array([options[i].cut for i in option]),
                      np.array([options[i].segment for i in option]))
