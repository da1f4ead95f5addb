"""Belief about what is really sent: messages seen, over what was predicted for them. Pure."""

from __future__ import annotations

# About the last twenty frames count: sizes follow the scene.
_NEWEST = 0.05


class Sizes:
    """One ratio for each cut and rung; 1 for what was never sent."""

    def __init__(self):
        self._ratio: dict[tuple[int, str], float] = {}

    def add(self, cut: int, rung: str, predicted_bytes: float, nbytes: float) -> None:
        """A message of ``nbytes`` was made where ``predicted_bytes`` were expected."""
        if predicted_bytes <= 0:
            return
        before = self._ratio.get((cut, rung), 1.0)
        self._ratio[cut, rung] = before + _NEWEST * (nbytes / predicted_bytes - before)

    def ratio(self, cut: int, rung: str) -> float:
        """What to multiply a prediction by."""
        return self._ratio.get((cut, rung), 1.0)
