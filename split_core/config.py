"""The broker's settings, which both programs have, and mappings as settings.

Secrets come from files, the environment or systemd credentials, never from the file itself.
Layers of files, environment and flags are in `settings/`.
"""

from __future__ import annotations

import difflib
import os
import re
import socket
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
    # For mqtts: who signed the broker's certificate; by default whom the system trusts.
    ca_file: str | None = None
    # This machine's certificate, where the broker asks for one, and its key.
    cert_file: str | None = None
    # The certificate's key, without a passphrase.
    key_file: str | None = None
    # Who logs in; brokers that tie topics to users want it to be the id.
    username: str | None = None
    # The first line of this file is the password. $CREDENTIALS_DIRECTORY in this and other file
    # names is where systemd puts a service's credentials. Without: $MQTT_PASSWORD.
    password_file: str | None = None
    # A link that is silent for longer is asked whether it lives, and left if it does not say so.
    keepalive_s: int = 15
    # "auto": MQTT 5, and 3.1.1 where the broker does not speak it.
    protocol: str = "auto"
    # mqtt:// to other machines, too: everyone on the way can read and change what is sent.
    allow_plain: bool = False

    def check(self) -> None:
        """Raises ConfigError for values that cannot work. Reads no file."""
        password = None if self.password_file is None else ""
        if password is not None and self.username is None and "@" not in self.url:
            raise ConfigError("broker.password_file needs a broker.username")
        self._options(password)
        if self.key_file and not self.cert_file:
            raise ConfigError("broker.key_file needs a broker.cert_file")

    def options(self) -> BrokerOptions:
        """What a session needs. Raises ConfigError."""
        return self._options(self._password())

    def _options(self, password: str | None) -> BrokerOptions:
        tls = None
        if self.ca_file or self.cert_file or self.key_file:
            tls = TlsOptions(*(f and path_of(f) for f in (self.ca_file, self.cert_file,
                                                          self.key_file)))
        return BrokerOptions.from_url(
            self.url, tls=tls, username=self.username, password=password,
            keepalive_s=self.keepalive_s, protocol=self.protocol, allow_plain=self.allow_plain,
        )

    def _password(self) -> str | None:
        if self.password_file is None:
            return os.environ.get("MQTT_PASSWORD")
        path = path_of(self.password_file)
        try:
            return path.read_text("utf-8").splitlines()[0]
        except (OSError, UnicodeDecodeError, IndexError) as e:
            why = getattr(e, "strerror", None) or \
                ("it is empty" if isinstance(e, IndexError) else e)
            raise ConfigError(f"broker.password_file {path}: {why}") from None


def host_name() -> str:
    """The host's name."""
    name = "".join(c if c.isascii() and c.isalnum() or c in ".-" else "-"
                   for c in socket.gethostname())
    return name[:48] or "node"


def path_of(text: str) -> Path:
    """A file's name in a configuration as a path; variables in it are filled in, above all
    $CREDENTIALS_DIRECTORY."""
    return Path(os.path.expandvars(text))


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
