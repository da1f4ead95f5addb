"""Where a program listens for HTTP, as a configuration says it. Pure."""

from __future__ import annotations

import ipaddress

import msgspec

from split_core.errors import ConfigError


def parse_listen(text: str, key: str) -> tuple[str, int] | None:
    """An address and port; None for the empty text, which is off. Raises ConfigError."""
    if not text:
        return None
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    try:
        ipaddress.ip_address(host)
        if not (colon and port.isascii() and port.isdigit() and int(port) < 65536):
            raise ValueError
    except ValueError:
        raise ConfigError(f"{key} is {text!r}, wanted an IP address and a port, such as"
                          " 127.0.0.1:8099 or [::1]:8099, or \"\" for off") from None
    return host, int(port)


class MetricsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Metrics for Prometheus, over HTTP at /metrics. There is no login."""

    # An IP address and a port such as "127.0.0.1:9464"; "" for off.
    listen: str = ""

    def check(self) -> None:
        """Raises ConfigError."""
        parse_listen(self.listen, "metrics.listen")
