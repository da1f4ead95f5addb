"""Ways to bring tensors across a cut: our rungs as agent and worker code them, and rivals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from split_core.errors import UsageError
from split_core.model.bundle import Bundle
from split_core.wire.messages import Codec
from split_core.wire.payload import Coder
from split_core.wire.quality import Encoded, encode
from split_core.wire.rungs import Rung
from split_lab.judge import Judge, answer_margin

if TYPE_CHECKING:
    from split_lab.evaluate import Frames

Live = dict[str, np.ndarray]

class Method(Protocol):
    """A way to bring tensors across a cut, for one thread."""

    name: str

    def encode(self, live: Mapping[str, np.ndarray]) -> tuple[float, Any]:
        """The bytes of the tensors alive at the cut, and what `decode` takes."""

    def decode(self, coded: Any) -> Live:
        """The tensors as the tail gets them, of the shapes and types they had."""


def make_method(frames: Frames, name: str, calibration: Frames | None = None) -> Method:
    """The method of a name: a rung of ours, or a rival: clip2 to clip256, avif0 to avif100.
    Raises UsageError."""
    from split_lab import rivals

    kind, level = name[:4], name[4:]
    if kind not in ("clip", "avif") or not level.isdecimal():
        return rung_method(frames.bundle, frames.cut, name, frames.judge)
    if kind == "clip":
        return rivals.clip_method(frames.specs, (calibration or frames).boundary, int(level))
    return rivals.picture_method(frames.bundle, frames.cut, kind, int(level))


def rung_method(bundle: Bundle, cut: int, rung: str, judge: Judge | None = None) -> Method:
    """A rung of ours, coded as agent and worker code it; ``judge`` is the worker's tail for
    one with layers. Raises UsageError."""
    try:
        parsed = Rung.parse(rung)
    except ValueError as e:
        raise UsageError(str(e)) from None
    if parsed.kind in ("jpeg", "webp"):
        need_picture(bundle, cut, rung)
    if parsed.calibrated and bundle.rate(cut) is None:
        raise UsageError(f"{rung}: {bundle.manifest.name} is not calibrated at cut {cut}; see"
                         " `edge-agent calibrate`")
    if parsed.codec is Codec.LAYERED:
        return _LayeredMethod(bundle, cut, parsed, judge)
    return _RungMethod(bundle, cut, parsed)


def need_picture(bundle: Bundle, cut: int, what: str) -> None:
    """UsageError unless what crosses at ``cut`` is a picture."""
    image = bundle.manifest.image
    if cut != 0 or image is None:
        raise UsageError(f"{what} codes the input picture: "
                         + (f"wanted cut 0, not {cut}" if image else "this model takes none"))


class _RungMethod:
    def __init__(self, bundle: Bundle, cut: int, rung: Rung):
        self.name, self._rung, self._specs = rung.name, rung, bundle.boundary(cut)
        self._rate, self._margin = bundle.rate(cut), bundle.cut(cut).margin
        options = {"clips": bundle.clips, "image": bundle.manifest.image,
                   "codings": bundle.codings}
        states = {s.input for s in bundle.manifest.states}
        self._agent, self._worker = Coder(**options, lossless=states), Coder(**options)

    def encode(self, live: Mapping[str, np.ndarray]) -> tuple[int, bytes]:
        payload = self._encoded(live).payload
        return len(payload), payload

    def decode(self, coded: bytes) -> Live:
        return self._named(self._worker.decode(memoryview(coded), self._specs))

    def _encoded(self, live: Mapping[str, np.ndarray]) -> Encoded:
        return encode(self._agent, [live[s.name] for s in self._specs], self._specs, self._rung,
                      self._rate, self._margin)

    def _named(self, arrays: list[np.ndarray]) -> Live:
        return {s.name: a for s, a in zip(self._specs, arrays)}


class _LayeredMethod(_RungMethod):
    """Two layers. What the worker asks for depends on its first answer, so encoding includes
    that: its time is of both layers and a tail."""

    def __init__(self, bundle: Bundle, cut: int, rung: Rung, judge: Judge):
        super().__init__(bundle, cut, rung)
        self._judge, self._cut = judge, cut

    def encode(self, live: Mapping[str, np.ndarray]) -> tuple[int, Live]:
        encoded = self._encoded(live)
        nbytes = len(encoded.payload)
        arrays, layers = self._worker.decode_layers(memoryview(encoded.payload), self._specs)
        if layers is not None:
            answer = self._judge.answer({**live, **self._named(arrays)}, self._cut)
            if answer_margin(answer[0]) < layers.margin:
                refinement = self._agent.encode_refinement(encoded.layers)
                nbytes += len(refinement)
                arrays = self._worker.refine(layers, memoryview(refinement))
        return nbytes, self._named(arrays)

    def decode(self, coded: Live) -> Live:
        return coded
