"""TOML files to frozen settings: unknown keys are errors with their path.

Both programs read their configuration through here; secrets come from files, the environment
or systemd credentials, never from the file itself.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from pathlib import Path
from typing import TypeVar

import msgspec

from split_core.errors import ConfigError
from split_core.session import BrokerOptions, TlsOptions

T = TypeVar("T", bound=msgspec.Struct)


class BrokerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The MQTT broker."""

    # mqtt://host:1883 (loopback, or with allow_plain), mqtts://host:8883, mqtt+unix:///path
    url: str = "mqtt://127.0.0.1:1883"
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    username: str | None = None
    # The first line of this file; $CREDENTIALS_DIRECTORY/NAME for systemd credentials.
    password_file: str | None = None
    keepalive_s: int = 15
    # "auto": MQTT 5, and 3.1.1 where the broker does not speak it.
    protocol: str = "auto"
    allow_plain: bool = False

    def options(self) -> BrokerOptions:
        """What a session needs. Raises ConfigError."""
        tls = None
        if self.ca_file or self.cert_file or self.key_file:
            tls = TlsOptions(*(f and Path(f) for f in (self.ca_file, self.cert_file,
                                                       self.key_file)))
        return BrokerOptions.from_url(
            self.url, tls=tls, username=self.username, password=self._password(),
            keepalive_s=self.keepalive_s, protocol=self.protocol, allow_plain=self.allow_plain,
        )

    def _password(self) -> str | None:
        if self.password_file is None:
            return os.environ.get("MQTT_PASSWORD")
        path = Path(os.path.expandvars(self.password_file))
        try:
            return path.read_text("utf-8").splitlines()[0]
        except (OSError, UnicodeDecodeError, IndexError) as e:
            raise ConfigError(f"broker.password_file {path}: {e or 'it is empty'}") from None


def load_toml(path: str | Path, kind: type[T]) -> T:
    """Read a configuration file. Raises ConfigError naming the file and the path in it."""
    try:
        with open(path, "rb") as file:
            data = tomllib.load(file)
    except OSError as e:
        raise ConfigError(f"cannot read {path}: {e.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise ConfigError(f"{path}: {e}") from None
    return convert(data, kind, str(path))


def convert(data: dict, kind: type[T], where: str) -> T:
    """A mapping as settings. Raises ConfigError."""
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError as e:
        raise ConfigError(f"{where}: {_explain(str(e), kind)}") from None


def _explain(text: str, kind: type) -> str:
    """msgspec's message with the key's whole path and the nearest key there is."""
    unknown = re.match(r"Object contains unknown field `(.*?)`(?: - at `\$\.?(.*)`)?", text)
    if not unknown:
        return text.replace("Object missing required field", "missing").replace("`$.", "`")
    name, parent = unknown[1], unknown[2] or ""
    message = f"unknown key {parent + '.' if parent else ''}{name}"
    near = difflib.get_close_matches(name, _keys_at(kind, parent), n=1)
    return f"{message}; did you mean {near[0]}?" if near else message


def _keys_at(kind: type, parent: str) -> list[str]:
    for name in filter(None, parent.split(".")):
        fields = {f.name: f.type for f in msgspec.structs.fields(kind)}
        kind = fields.get(name, kind)
        if not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
            return []
    return [f.name for f in msgspec.structs.fields(kind)]
