"""Pictures from a Raspberry Pi camera, through picamera2 where Raspberry Pi OS has it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import numpy as np

from split_core.errors import ConfigError, SourceLost

# What picamera2 raises where a camera is not there, not any more, or another program's.
_LOST = (IndexError, RuntimeError, OSError)
_REMEDY = ("is its ribbon cable in, and does no other program use it? `rpicam-hello --list-cameras`"
           " lists what is there")


class CsiSource:
    def __init__(self, width: int, height: int):
        try:
            from picamera2 import Picamera2
        except ImportError:
            raise ConfigError(
                "the CSI camera needs picamera2: apt install python3-picamera2, in a virtual"
                " environment made with --system-site-packages") from None
        try:
            self._camera = Picamera2()
            # picamera2's "BGR888" is RGB in memory order.
            self._camera.configure(self._camera.create_video_configuration(
                main={"size": (width, height), "format": "BGR888"}, buffer_count=2))
        except _LOST as e:
            raise SourceLost(f"cannot open the CSI camera: {e}; {_REMEDY}") from None

    def frames(self) -> Iterator[tuple[str, np.ndarray]]:
        number = 0
        try:
            self._on(self._camera.start)
            while True:
                yield f"csi-{number}", self._on(lambda: self._camera.capture_array("main"))
                number += 1
        finally:
            with contextlib.suppress(*_LOST):      # what is gone need not be stopped
                self._camera.stop()

    @staticmethod
    def _on(call: Callable):
        """What the camera does. Raises SourceLost."""
        try:
            return call()
        except _LOST as e:
            raise SourceLost(f"the CSI camera gives no pictures: {e}; {_REMEDY}") from None
