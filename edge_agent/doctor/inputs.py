"""Can the configured source give a picture?"""

from __future__ import annotations

import errno
import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

from edge_agent.config import SourceConfig
from split_core.doctor.findings import Finding, fail, ok, warn


def check_source(source: SourceConfig) -> Iterator[Finding]:
    """Nothing is opened for longer than it takes to see that it can be."""
    match source.kind:
        case "file" | "folder":
            yield _files(source)
        case "camera":
            yield from _camera(source.path)
        case "csi":
            yield _module("picamera2", "sudo apt install python3-picamera2, in an environment made"
                          " with --system-site-packages")
        case "mqtt":
            yield ok("source", f"pictures by MQTT{': ' + source.topic if source.topic else ''}")
        case kind:
            yield ok("source", "pictures from standard input" if kind == "stdin" else
                     "none: another program hands pictures in")


def _files(source: SourceConfig) -> Finding:
    from split_core.pictures import SUFFIXES      # loads Pillow

    path = Path(source.path)
    try:
        if path.is_dir():
            os.listdir(path)             # says why it cannot be read; `rglob` finds nothing then
            first = next((p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES), None)
            if first is None:
                return warn("source", f"{path} has no pictures in it",
                            "put JPEG, PNG, WebP, BMP or PPM files there")
            path = first
        with open(path, "rb") as file:
            file.read(1)
    except OSError as e:
        return fail("source", f"{path}: {e.strerror}",
                    "correct source.path, or let this user read it")
    return ok("source", f"{source.path} can be read")


def _camera(path: str) -> Iterator[Finding]:
    yield _module("cv2", "install the extra: pip install 'edge-agent[camera]'")
    if "://" in path:
        return                          # a network camera: the agent's log tells how it goes
    device = f"/dev/video{path}" if path.isdigit() else path
    try:
        os.close(os.open(device, os.O_RDWR | os.O_NONBLOCK))
    except PermissionError:
        yield fail("camera", f"this user may not open {device}",
                   "sudo usermod -aG video $USER and log in anew; the service has"
                   " SupplementaryGroups=video")
    except OSError as e:
        if e.errno == errno.EBUSY:
            yield ok("camera", f"{device} is in use")
            return
        others = sorted(str(p) for p in Path("/dev").glob("video*"))
        yield fail("camera", f"{device}: {e.strerror}", "is it plugged in? There is "
                   + (", ".join(others) if others else "no /dev/video* at all")
                   + "; for a ribbon cable's camera source.kind = \"csi\"")
    else:
        yield ok("camera", f"{device} opens")


def _module(name: str, remedy: str) -> Finding:
    if importlib.util.find_spec(name) is None:
        return fail("source", f"the module {name} is not installed", remedy)
    return ok("source", f"{name} is installed")
