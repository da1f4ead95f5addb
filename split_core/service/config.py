"""`[service]`: how a daemon lives on its host. Both programs have it."""

from __future__ import annotations

from typing import Literal

import msgspec

from split_core.errors import ConfigError


class ServiceConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a daemon lives on its host."""

    # The process ends (exit code 75, so systemd starts it anew) when it holds more memory than
    # this; 0: no ceiling. Mapped files are not counted. An agent with MobileNetV2 takes 55 MB with
    # either runtime; the rest is for larger models and a second one while they are swapped.
    memory_max_mb: int = 512
    # "auto": "journal" under systemd, else "text". "json": an object a line.
    log_format: Literal["auto", "text", "json", "journal"] = "auto"
    # "debug" logs every frame.
    log_level: Literal["debug", "info", "warning"] = "info"

    def check(self) -> None:
        """Raises ConfigError for values that cannot work."""
        # What Python, NumPy and an interpreter take before they have done anything.
        if self.memory_max_mb and not 64 <= self.memory_max_mb <= 1 << 20:
            raise ConfigError(f"service.memory_max_mb is {self.memory_max_mb}, wanted 64 or more,"
                              " or 0 for no ceiling")
