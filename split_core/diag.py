"""`diag`: what a bug report needs, in one archive; what must not be in it is not.

Every part is a text that was made for it and has gone through `redact`: settings without secrets,
what the doctor found, the log. No picture, no tensor, no file of the user's is ever read into it.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import io
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from split_core.errors import ConfigError
from split_core.files import cannot_write
from split_core.redact import redact_text
from split_core.settings.command import Settings
from split_core.version import VERSION

Part = Callable[[], str]
_LOG_LINES = 2000
_JOURNAL_TIMEOUT_S = 15.0
# Of the whole archive's members, so that it can be sent by mail.
_MAX_PART_BYTES = 4 << 20
_LIBRARIES = ("numpy", "tflite-runtime", "ai-edge-litert", "paho-mqtt", "zstandard", "msgspec",
              "flatbuffers", "pillow", "opencv-python-headless", "picamera2", "cryptography",
              "prometheus-client", "opentelemetry-sdk", "psutil")
_HOST_FILES = ("etc/os-release", "proc/meminfo", "proc/loadavg", "proc/uptime", "proc/cmdline",
               "proc/device-tree/model")


def collect(args: argparse.Namespace, settings: Settings, unit: str, checks: Sequence,
            more: Callable[[object], Mapping[str, Part]]) -> int:
    """Make the archive and say what is in it. ``more`` gives a program's own parts for its
    configuration, which is None where it cannot be read. Raises SplitError."""
    from split_core.doctor import command as doctor_command
    from split_core.doctor.findings import as_json

    config, secrets, shown = _settings(settings, args.config)
    parts: dict[str, Part] = {
        "versions.json": versions,
        "settings.toml": lambda: shown,
        "doctor.json": lambda: as_json(doctor_command.collect(
            checks, settings, progress=sys.stderr.isatty())),
        "host.txt": host,
        "log.txt": lambda: log(unit),
        **more(config),
    }
    stamp = time.strftime("%Y%m%d-%H%M%S")
    output = Path(args.output or f"{settings.program}-diag-{stamp}.tar.gz")
    sizes = write(output, f"{settings.program}-diag-{stamp}", parts, secrets)
    for name, size in sizes.items():
        print(f"  {size:>8} bytes  {name}")
    print(f"{output}: read it through before you send it"
          f" (tar -xOzf {output} | less); secrets are shown as (hidden)")
    return 0


def _settings(settings: Settings, path: str | None) -> tuple[object, list[str], str]:
    """The configuration, its secrets, and how it is shown."""
    try:
        from split_core.settings.cautions import secrets_of
        from split_core.settings.show import as_toml

        loaded = settings.load(path)
    except (ConfigError, ImportError) as e:
        return None, [os.environ.get("MQTT_PASSWORD", "")], f"# not read: {e}\n"
    secrets = secrets_of(loaded.config)
    return loaded.config, secrets, as_toml(loaded, secrets, sources=True)


def write(output: Path, folder: str, parts: Mapping[str, Part],
          secrets: Iterable[str]) -> dict[str, int]:
    """The archive, for its owner alone; sizes of what is in it. A part that cannot be made says
    why. Raises what `files.cannot_write` makes of it."""
    secrets, sizes, now_s = list(secrets), {}, int(time.time())
    try:
        # In /tmp a stranger may have put a link there, or a file that all may read.
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        with os.fdopen(os.open(output, flags, 0o600), "wb") as file, \
                tarfile.open(fileobj=file, mode="w:gz") as archive:
            os.fchmod(file.fileno(), 0o600)
            for name, part in parts.items():
                data = redact_text(_text(part), secrets).encode()[-_MAX_PART_BYTES:]
                member = tarfile.TarInfo(f"{folder}/{name}")
                member.size, member.mtime, member.mode = len(data), now_s, 0o600
                archive.addfile(member, io.BytesIO(data))
                sizes[name] = len(data)
    except OSError as e:
        if output.is_file() and not output.is_symlink():
            output.unlink(missing_ok=True)         # half an archive helps nobody
        raise cannot_write(output, e) from None
    return sizes


def _text(part: Part) -> str:
    try:
        return part()
    except Exception as e:
        return f"could not be made: {type(e).__name__}: {e}\n"


def versions() -> str:
    """Of us, Python and what we use, without loading any of it."""
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return json.dumps({"version": VERSION, "python": platform.python_version(),
                       "libc": " ".join(platform.libc_ver()), "libraries": found}, indent=1) + "\n"


def host(root: str | Path = "/") -> str:
    """What kind of machine this is; its name and addresses are left out."""
    uname = platform.uname()
    lines = [f"{uname.system} {uname.release} {uname.version} {uname.machine}",
             f"clock {time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())}"]
    usage = shutil.disk_usage(root)
    lines.append(f"disk {root}: {usage.free >> 20} MB free of {usage.total >> 20}")
    for name in _HOST_FILES:
        try:
            text = (Path(root) / name).read_bytes()[:16_384].decode("utf-8", "replace").strip("\0\n")
        except OSError:
            continue
        lines += [f"-- /{name}", text]
    return "\n".join(lines) + "\n"


def log(unit: str) -> str:
    """The last lines of the service's journal."""
    if shutil.which("journalctl") is None:
        return "there is no journalctl here\n"
    child = subprocess.run(
        ["journalctl", "--unit", unit, "--lines", str(_LOG_LINES), "--no-pager", "--no-hostname",
         "--output", "short-iso"], stdin=subprocess.DEVNULL, capture_output=True, text=True,
        errors="replace", timeout=_JOURNAL_TIMEOUT_S)
    return child.stdout or f"journalctl said nothing of {unit}: {child.stderr.strip()}\n"


def profile_names(state_dir: str | Path) -> str:
    """Names of the profiles kept, which say for which bundle, machine and runtime."""
    folder = Path(state_dir) / "profiles"
    try:
        names = sorted(p.name for p in folder.iterdir())
    except OSError as e:
        return f"none at {folder}: {e.strerror}\n"
    return "".join(f"{name}\n" for name in names) or "none\n"
