"""What settings say about files, looked up: secrets that all may read, certificates that are not
there. What would end the program at its start is an error, the rest a warning.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator

import msgspec

from split_core.config import path_of
from split_core.errors import ConfigError
from split_core.session.options import is_loopback
from split_core.settings.keys import keys_of, value_of

# Files by the end of their key's name; of a certificate or authority anyone may know.
_SECRET_FILES = ("password_file", "key_file", "keys_file", "secret_file", "token_file")
_PUBLIC_FILES = ("public_key_file",)

Caution = tuple[str, str, bool]          # dotted path, what is wrong, whether it is a warning


def cautions(config: msgspec.Struct) -> Iterator[Caution]:
    """What both programs' settings may have wrong with their files and their broker."""
    yield from _files(config)
    yield from _plain(config)
    yield from _tls(config)


def secret_files(config: msgspec.Struct) -> Iterator[tuple[str, str]]:
    """Keys that name a secret's file, and the files, with variables filled in."""
    for path, value in _file_keys(config):
        if path.endswith(_SECRET_FILES) and not path.endswith(_PUBLIC_FILES):
            yield path, str(path_of(value))


def secrets_of(config: msgspec.Struct) -> list[str]:
    """The secrets themselves as far as they can be read here, to keep them out of what is
    shown."""
    found = [os.environ.get("MQTT_PASSWORD", "")]
    for _, file in secret_files(config):
        try:
            with open(file, encoding="utf-8", errors="replace") as secret:
                found += [line.strip() for line in secret.read(65_536).splitlines()
                          if not line.startswith("-----")]
        except OSError:
            continue                     # what cannot be read cannot be shown either
    return [s for s in found if s]


def _file_keys(config: msgspec.Struct) -> Iterator[tuple[str, str]]:
    for key in keys_of(type(config)):
        value = value_of(config, key.path)
        if key.name.endswith("_file") and isinstance(value, str) and value:
            yield key.path, value


def _files(config: msgspec.Struct) -> Iterator[Caution]:
    for path, value in _file_keys(config):
        file = path_of(value)
        if "$CREDENTIALS_DIRECTORY" in str(file):
            yield path, (f"{path} is {value}, and $CREDENTIALS_DIRECTORY is not set here: only the"
                         " service can read it, or say where it is"), True
            continue
        try:
            with open(file, "rb") as opened:
                mode = os.fstat(opened.fileno()).st_mode
        except OSError as e:
            yield path, f"{path} is {file}: {e.strerror}", False
            continue
        if (path.endswith(_SECRET_FILES) and not path.endswith(_PUBLIC_FILES)
                and mode & stat.S_IROTH):
            yield path, (f"{path} is {file}, which everyone on this machine may read"
                         f" (mode {stat.S_IMODE(mode):04o}): chmod o-rwx {file}"), True


def _plain(config: msgspec.Struct) -> Iterator[Caution]:
    try:
        options = config.broker.options()
    except ConfigError:
        return                           # said elsewhere
    plain = options.unix_path is None and options.tls is None
    if plain and not is_loopback(options.host):
        yield "broker.url", (f"broker.url is {config.broker.url}: everyone on the way can read and"
                             " change what is sent; mqtts:// with a ca_file ends that"), True


def _tls(config: msgspec.Struct) -> Iterator[Caution]:
    """Files that are there and are no certificates, or do not belong together."""
    try:
        options = config.broker.options()
        if options.tls is not None:
            options.tls.context()
    except ConfigError as e:
        if any(path_of(f).exists() for f in _tls_files(config)):
            named = re.search(r"\b(ca|cert|key)_file\b", str(e))
            yield f"broker.{named[0] if named else 'ca_file'}", str(e), False


def _tls_files(config: msgspec.Struct) -> list[str]:
    broker = config.broker
    return [f for f in (broker.ca_file, broker.cert_file, broker.key_file) if f]
