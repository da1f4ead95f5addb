"""Where the broker is, how to be let in, and what it said it will take."""

from __future__ import annotations

import ipaddress
import re
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from split_core.errors import ConfigError, MessageError
from split_core.session import refusals
from split_core.session.publication import MAX_STRING_BYTES, Publication, packet_bytes

PROTOCOLS = ("auto", "5", "3.1.1")
DEFAULT_PORTS = {"mqtt": 1883, "mqtts": 8883}

# Chunks above this gain nothing and cost much: with a bounded send buffer a 1 MB packet is
# copied 52 times over while it leaves, and a PINGREQ waits behind all of it. One setting then
# fits every broker met so far, AWS IoT's 128 kB included.
MAX_CHUNK_BYTES = 64_000
# Room for a PUBLISH header: topic, response topic, correlation, expiry.
CHUNK_HEADROOM_BYTES = 256


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """Files for TLS. Without `ca_file` the system's authorities are trusted."""

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None

    def context(self) -> ssl.SSLContext:
        """The client context: TLS 1.2 or newer, host name checked. Reads the files."""
        if self.key_file is not None and self.cert_file is None:
            raise ConfigError(f"key_file {self.key_file} needs a cert_file")
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
            if self.cert_file is not None:
                # An encrypted key would make OpenSSL ask on the terminal of a daemon.
                context.load_cert_chain(self.cert_file, self.key_file, password="")
        except (OSError, ValueError) as e:
            names = [str(f) for f in (self.ca_file, self.cert_file, self.key_file) if f]
            raise ConfigError(refusals.of_files(e, ", ".join(names))) from e
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context


@dataclass(frozen=True, slots=True)
class BrokerOptions:
    """How to reach one broker: by host and port, or by a unix socket."""

    host: str = ""
    port: int = 0
    unix_path: Path | None = None
    tls: TlsOptions | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    keepalive_s: int = 15
    protocol: str = "auto"
    # Plain TCP shows every message to the network; only loopback is free of it.
    allow_plain: bool = False

    def __post_init__(self) -> None:
        if (self.unix_path is None) == (not self.host):
            raise ConfigError("a broker needs a host or a unix socket path, one of them")
        if self.unix_path is None and not 0 < self.port < 65_536:
            raise ConfigError(f"broker port {self.port}, expected 1 to 65535")
        if self.unix_path is not None and self.tls is not None:
            raise ConfigError("TLS on a unix socket is not supported")
        if not 1 <= self.keepalive_s <= 65_535:
            raise ConfigError(f"keepalive_s {self.keepalive_s}, expected 1 to 65535")
        if self.protocol not in PROTOCOLS:
            raise ConfigError(f"protocol {self.protocol!r}, expected one of {', '.join(PROTOCOLS)}")
        if self.password is not None and self.username is None:
            raise ConfigError("a password needs a username")
        if not (self.unix_path or self.tls or self.allow_plain or is_loopback(self.host)):
            raise ConfigError(
                f"mqtt://{self.host} would send everything in the clear; use mqtts://,"
                " or allow it with allow_plain = true (a command: --allow-plain)"
            )

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        tls: TlsOptions | None = None,
        username: str | None = None,
        password: str | None = None,
        keepalive_s: int = 15,
        protocol: str = "auto",
        allow_plain: bool = False,
    ) -> BrokerOptions:
        """From `mqtt://host:1883`, `mqtts://host:8883` or `mqtt+unix:///path`.

        A password in the URL is refused: URLs end up in process lists and logs.
        """
        shown = _without_secrets(url)
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as e:
            # Of a password with / ? or # in it, its first half would stand where a port does.
            why = "it cannot be read; a password does not belong into it" if "@" in url else e
            raise ConfigError(f"broker URL {shown!r}: {why}") from None
        if parts.password is not None:
            raise ConfigError("the broker URL holds a password; give it by file or environment")
        if parts.query or parts.fragment:
            raise ConfigError(f"broker URL {shown!r} holds more than scheme, host and port")
        login = {"username": parts.username or username, "password": password}
        common = {"keepalive_s": keepalive_s, "protocol": protocol, "allow_plain": allow_plain}
        if parts.scheme == "mqtt+unix":
            if parts.netloc.rpartition("@")[2] or not parts.path:
                raise ConfigError(f"broker URL {shown!r}, expected mqtt+unix:///absolute/path")
            return cls(unix_path=Path(parts.path), tls=tls, **login, **common)
        if parts.scheme not in DEFAULT_PORTS or parts.path not in ("", "/"):
            raise ConfigError(
                f"broker URL {shown!r}, expected mqtt://host:port, mqtts://host:port or"
                " mqtt+unix:///path"
            )
        if parts.scheme == "mqtt" and tls is not None:
            raise ConfigError(f"TLS files are given but {shown} is plain; use mqtts://")
        if parts.scheme == "mqtts":
            tls = tls or TlsOptions()
        if port is None:
            port = DEFAULT_PORTS[parts.scheme]
        return cls(host=parts.hostname or "", port=port, tls=tls, **login, **common)

    @property
    def address(self) -> str:
        """For logs and messages."""
        return f"unix:{self.unix_path}" if self.unix_path else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class BrokerLimits:
    """What the broker said in its CONNACK. With MQTT 3.1.1 it cannot say anything."""

    protocol: str
    max_packet_bytes: int | None = None
    receive_maximum: int = 65_535
    maximum_qos: int = 1
    retain_available: bool = True
    keepalive_s: int = 15

    @property
    def chunk_bytes(self) -> int:
        """The largest payload to put into one publication."""
        if self.max_packet_bytes is None:
            return MAX_CHUNK_BYTES
        room = self.max_packet_bytes - CHUNK_HEADROOM_BYTES
        return max(1, min(MAX_CHUNK_BYTES, room))

    def check(self, publication: Publication) -> int:
        """The publication's size as a packet; MessageError when the broker would refuse it."""
        size = packet_bytes(publication, self.protocol)
        if self.max_packet_bytes is not None and size > self.max_packet_bytes:
            raise MessageError(
                f"{publication.topic}: packet of {size} bytes,"
                f" the broker takes {self.max_packet_bytes}"
            )
        if len(publication.topic) * 4 > MAX_STRING_BYTES:
            raise MessageError(f"topic of {len(publication.topic)} characters is too long")
        if publication.retain and not self.retain_available:
            raise MessageError(f"{publication.topic}: the broker does not keep retained messages")
        return size


def _without_secrets(url: str) -> str:
    """A URL as it may be shown: without what may be a user's name or password, or a query."""
    scheme, mark, rest = url.partition("://")
    if not mark:
        return url if "@" not in url and "?" not in url else "..."
    return scheme + mark + re.split(r"[?#]", rest.rpartition("@")[2])[0]


def is_loopback(host: str) -> bool:
    """Whether the name can only mean this machine. Asks no resolver."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
