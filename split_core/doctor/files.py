"""The configuration, and who may read the secrets that it names."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

import msgspec

from split_core.doctor.findings import Finding, fail, ok, warn
from split_core.errors import ConfigError
from split_core.settings.cautions import Caution, cautions, secret_files
from split_core.settings.command import Settings
from split_core.settings.layers import Loaded

_ABOUT_SECRETS = ("_file",)


def load(settings: Settings, path: str | None) -> tuple[Loaded | None, list[Finding]]:
    """The settings, or why there are none."""
    name = settings.path(path) or "no file, the defaults"
    try:
        loaded = settings.load(path)
    except ConfigError as e:
        lines = [line.strip() for line in str(e).splitlines() if line.strip()]
        shown = lines[0] if len(lines) == 1 else "; ".join(lines[1:4]) + (
            f"; and {len(lines) - 4} more" if len(lines) > 4 else "")
        return None, [fail("configuration", shown,
                           f"`{settings.program} check-config {settings.path(path) or ''}` lists"
                           f" all of it; `{settings.program} init` writes a new file")]
    return loaded, [ok("configuration", f"{name}")]


def check_rights(path: str, check: str) -> Iterator[Finding]:
    """What root can read and the service's own user cannot. Says nothing of any other user: that
    one has tried."""
    try:
        status = os.stat(path)
    except OSError:
        return                           # said by whoever opens it
    if os.geteuid() == 0 and status.st_uid == 0 and not status.st_mode & stat.S_IROTH:
        yield warn(check, f"only root may read {path} (mode {stat.S_IMODE(status.st_mode):04o});"
                   " the service runs as a user of its own", f"chmod a+r {path}")


def check_secrets(config: msgspec.Struct) -> Iterator[Finding]:
    """Passwords, keys and certificates: there, readable by us, and by no one else."""
    found: list[Caution] = [c for c in cautions(config) if c[0].endswith(_ABOUT_SECRETS)]
    for _, text, warning in found:
        what, _, remedy = text.partition(": ")
        if "everyone on this machine may read" in text:
            yield warn("secrets", what, remedy)
        elif "$CREDENTIALS_DIRECTORY" in text:
            yield warn("secrets", what, "run the doctor with sudo: it then looks into the secrets"
                       " folder beside the configuration, as the service's unit does")
        elif "Permission denied" in text:
            yield fail("secrets", text, "let this user read it (sudo chown), or run the doctor with"
                       " sudo")
        elif "No such file" in text:
            yield fail("secrets", text, "put it there, or correct the path in the configuration")
        else:
            yield fail("secrets", text, "make the files anew: key and certificate have to belong"
                       " together, and be PEM")
    if not found:
        count = len(list(secret_files(config)))
        yield ok("secrets", f"{count} file{'s' if count > 1 else ''}, readable by this user and"
                 " not by everyone" if count else "none in files")
