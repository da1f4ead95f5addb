"""Settings of what others see and may ask: [health], [commands], [homeassistant]."""

from __future__ import annotations

from typing import Literal

import msgspec

from split_core.errors import ConfigError
from split_core.wire.topics import check_root

CommandName = Literal["policy", "bounds", "reload", "health", "model"]


class HealthConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The health record on {root}/{id}/up/health."""

    # Between two of them, in seconds; one more is sent at once when something changes.
    every_s: float = 10.0

    def check(self) -> None:
        """Raises ConfigError."""
        if not 1 <= self.every_s <= 3600:        # also NaN and inf, which TOML can write
            raise ConfigError(f"health.every_s is {self.every_s}, wanted 1 to 3600")


class CommandsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Commands on {root}/{id}/dn/cmd/NAME. Who may write there, the broker's access rules say."""

    # Those that are carried out; [] for none.
    accept: tuple[CommandName, ...] = ("policy", "bounds", "reload", "health", "model")


class HomeAssistantConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The device in Home Assistant, by MQTT discovery (Home Assistant 2024.11 or newer)."""

    # Announce the device and keep it announced.
    enabled: bool = False
    # Home Assistant's own discovery prefix; its birth message is expected at {prefix}/status.
    prefix: str = "homeassistant"
    # The device's name there; by default its id.
    name: str | None = None
    # An answer is shown for this many seconds, then "unavailable"; 0: until the next.
    answer_lasts_s: int = 3600

    def check(self) -> None:
        """Raises ConfigError."""
        try:
            check_root(self.prefix)
        except ConfigError:
            raise ConfigError(f"homeassistant.prefix is {self.prefix!r}, wanted topic levels"
                              " without + and #, as in Home Assistant's own settings") from None
        if self.name is not None and not 0 < len(self.name.strip()) <= 100:
            raise ConfigError(f"homeassistant.name is {self.name!r}, wanted 1 to 100 characters")
        if not 0 <= self.answer_lasts_s <= 10_000_000:
            raise ConfigError(f"homeassistant.answer_lasts_s is {self.answer_lasts_s}, wanted"
                              " 0 or more seconds")
