"""The name of this kind of machine: board or processor, number of processors, architecture.

Two machines of one name run a bundle in the same time, as far as a profile goes; the host's
name or address are no part of it.
"""

from __future__ import annotations

import platform
import re
import sys
from pathlib import Path

_MAX_MODEL = 56
# In /proc/cpuinfo, best first: the board's name on Arm, the processor's on x86, the chip's.
_MODEL_KEYS = ("Model", "model name", "Hardware", "cpu model")


def machine_id(root: str | Path = "/", architecture: str | None = None) -> str:
    """For example "Raspberry-Pi-4-Model-B-Rev-1.4-4x-aarch64": letters, digits and ``._-``.

    ``root`` is where /proc is looked for; ``architecture`` that of this process by default.
    """
    root = Path(root)
    entries = _cpuinfo(_read(root / "proc/cpuinfo"))
    found = [_read(root / "proc/device-tree/model"),
             *(value for key in _MODEL_KEYS for k, value in entries if k == key)]
    model = next((name for name in map(_name, found) if name), "unknown")[:_MAX_MODEL].rstrip("-")
    count = sum(key == "processor" for key, _ in entries) or 1
    return f"{model}-{count}x-{_name(architecture or _architecture())[:24] or 'unknown'}"


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8", "replace")
    except OSError:
        return ""


def _cpuinfo(text: str) -> list[tuple[str, str]]:
    lines = (line.partition(":") for line in text.splitlines())
    return [(key.strip(), value.strip()) for key, _, value in lines]


def _name(text: str) -> str:
    """What is left of a text in a file name: trademarks and separators go."""
    text = re.sub(r"\((R|TM)\)", "", text, flags=re.IGNORECASE)
    return re.sub(r"[^A-Za-z0-9._]+", "-", text).strip("-")


def _architecture() -> str:
    name = platform.machine()
    # A 32-bit system under a 64-bit kernel runs other kernels of the runtime.
    return f"{name}-32bit" if name.endswith("64") and sys.maxsize < 1 << 32 else name
