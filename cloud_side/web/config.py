"""Settings of the status page: [status]."""

from __future__ import annotations

import msgspec

from split_core.errors import ConfigError
from split_core.listen import parse_listen


class StatusConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The worker's status page, metrics and health, over HTTP. There is no login."""

    # An IP address and a port; "" for off. Off loopback put a proxy with a login before it.
    listen: str = "127.0.0.1:8099"
    # Listen to what devices say of themselves. Where the broker does not let this worker read it
    # the page shows the worker alone.
    fleet: bool = True
    # Devices that are remembered, the quietest goes first; also the bound of metrics by device.
    max_devices: int = 200
    # How long their past is, in minutes.
    history_min: int = 60

    def check(self) -> None:
        """Raises ConfigError."""
        parse_listen(self.listen, "status.listen")
        for name, value, most in (("max_devices", self.max_devices, 2000),
                                  ("history_min", self.history_min, 1440)):
            if not 1 <= value <= most:
                raise ConfigError(f"status.{name} is {value}, wanted 1 to {most}")
