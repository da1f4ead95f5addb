"""Pictures from a V4L2 device or an RTSP stream, through OpenCV (the extra `camera`)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from split_core.errors import ConfigError, SourceLost

# A camera that gives nothing this often in a row is gone.
_MAX_MISSES = 30


class CameraSource:
    """``path`` is a device (/dev/video0 or its number) or an rtsp:// URL."""

    def __init__(self, path: str, width: int, height: int):
        try:
            import cv2
        except ImportError:
            raise ConfigError("a camera needs OpenCV: pip install 'edge-agent[camera]'"
                              ) from None
        self._cv2, self._path = cv2, path
        self._capture = cv2.VideoCapture(int(path) if path.isdigit() else path)
        if not self._capture.isOpened():
            raise SourceLost(f"cannot open camera {path}: is it there, and may this user read"
                             " it (group video)?")
        if "://" not in path:
            self._capture.set(cv2.CAP_PROP_FRAME_WIDTH, width)
            self._capture.set(cv2.CAP_PROP_FRAME_HEIGHT, height)
        # The newest picture, not one that waited in the driver's queue.
        self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)

    def frames(self) -> Iterator[tuple[str, np.ndarray]]:
        number = misses = 0
        while misses < _MAX_MISSES:
            ok, picture = self._capture.read()
            if not ok:
                misses += 1
                continue
            misses = 0
            yield f"camera-{number}", self._cv2.cvtColor(picture, self._cv2.COLOR_BGR2RGB)
            number += 1
        raise SourceLost(f"camera {self._path} gave no picture {_MAX_MISSES} times in a row: is it"
                         " still plugged in, or reachable?")
