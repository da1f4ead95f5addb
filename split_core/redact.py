"""What may be shown of settings and logs: secrets taken out. Pure.

Three nets, one below the other: a setting whose name says that it is a secret, a text that looks
like one, and the secrets themselves, as the caller read them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

HIDDEN = "(hidden)"
# Words in the name of a setting that holds a secret ...
_SECRET_WORDS = {"password", "passwd", "passphrase", "secret", "token", "key", "keys", "pin",
                 "credential", "credentials", "psk", "private"}
# ... unless the last one says that it holds only where one is, or who may read it.
_ONLY_WHERE = {"file", "path", "dir", "directory", "name", "id"}
_URL_USER = re.compile(r"\b([a-z][a-z0-9+.-]*://)[^\s/@\"']+@", re.I)
_PEM = re.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\Z)", re.S)
_ASSIGNED = re.compile(
    r"(?i)(?<![a-z])([\w-]*(?:password|passwd|passphrase|secret|token|api[_-]?key|private[_-]?key|psk)"
    r"[\"']?\s*[=:]\s*)(\"(?:[^\"\\]|\\.)*\"|'[^']*'|[^\s,;&\"']+)")
_BEARER = re.compile(r"(?i)\b((?:bearer|basic)\s+)[a-z0-9._~+/=-]{8,}")
# A shorter secret would take words out of every log line; it is still hidden by its name.
_LEAST = 4


def is_secret(name: str) -> bool:
    """Whether a setting's name says that its value is a secret: "password", not
    "password_file"."""
    words = re.split(r"[_.-]", name.lower())
    return bool(_SECRET_WORDS & set(words)) and words[-1] not in _ONLY_WHERE


def redact_text(text: str, secrets: Iterable[str] = ()) -> str:
    """A text without what is or looks like a secret."""
    for secret in sorted({s for s in secrets if len(s) >= _LEAST}, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    text = _PEM.sub(HIDDEN, text)
    text = _URL_USER.sub(rf"\1{HIDDEN}@", text)
    text = _BEARER.sub(rf"\1{HIDDEN}", text)
    return _ASSIGNED.sub(rf"\1{HIDDEN}", text)


def redact_value(name: str, value: Any, secrets: Iterable[str] = ()) -> Any:
    """A setting's value as it may be shown: of a secret only that there is one."""
    secrets = tuple(secrets)
    if value is not None and value != "" and is_secret(name):
        return HIDDEN
    if isinstance(value, str):
        return redact_text(value, secrets)
    if isinstance(value, Mapping):
        return {k: redact_value(str(k), v, secrets) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [redact_value(name, v, secrets) for v in _without_arguments(value)]
    return value


def _without_arguments(words: list | tuple) -> list:
    """A command's words; what follows --password is hidden."""
    shown, hide = [], False
    for word in words:
        text = isinstance(word, str)
        shown.append(HIDDEN if hide and text else word)
        hide = text and word.startswith("-") and "=" not in word and is_secret(word.lstrip("-"))
    return shown
