"""Pictures from a Raspberry Pi camera, through picamera2 where Raspberry Pi OS has it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from split_core.errors import ConfigError


class CsiSource:
    def __init__(self, width: int, height: int):
        try:
            from picamera2 import Picamera2
        except ImportError:
            raise ConfigError(
                "the CSI camera needs picamera2: apt install python3-picamera2, in a virtual"
                " environment made with --system-site-packages") from None
        self._camera = Picamera2()
        # picamera2's "BGR888" is RGB in memory order.
        self._camera.configure(self._camera.create_video_configuration(
            main={"size": (width, height), "format": "BGR888"}, buffer_count=2))

    def frames(self) -> Iterator[tuple[str, np.ndarray]]:
        self._camera.start()
        try:
            number = 0
            while True:
                yield f"csi-{number}", self._camera.capture_array("main")
                number += 1
        finally:
            self._camera.stop()
