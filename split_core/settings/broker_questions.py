"""What `init` asks about the broker, of devices and workers alike."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from split_core.errors import ConfigError
from split_core.settings.init import Answers, Question


def broker_questions(example: str, what: str,
                     usual_id: Callable[[Path], str]) -> list[Question]:
    """Name, broker, login, TLS."""
    return [
        Question("id", "--id", f"Id, {what} in topics (such as {example})", usual_id,
                 check=_check_id),
        Question("broker.url", "--broker", "Broker, mqtts://HOST or mqtt://127.0.0.1",
                 lambda output: "mqtt://127.0.0.1:1883", check=_check_broker),
        Question("broker.username", "--username", "User name at the broker"),
        Question("broker.password_file", "--password-file", "File that holds the password",
                 wanted=lambda a: a.get("broker.username") is not None, check=_check_password),
        Question("broker.ca_file", "--ca-file", "Certificate of who signed the broker's",
                 wanted=_is_tls, check=_check_file("broker.ca_file")),
        Question("broker.cert_file", "--cert-file", "This machine's certificate",
                 wanted=_is_tls, check=_check_file("broker.cert_file")),
        Question("broker.key_file", "--key-file", "Its key",
                 wanted=lambda a: a.get("broker.cert_file") is not None,
                 check=_check_file("broker.key_file")),
    ]


def _check_id(answers: Answers) -> None:
    from split_core.wire.topics import check_node_id

    check_node_id(str(answers["id"]))


def _check_broker(answers: Answers) -> None:
    from split_core.config import BrokerConfig

    BrokerConfig(url=str(answers["broker.url"]),
                 allow_plain=bool(answers.get("broker.allow_plain"))).check()


def _check_password(answers: Answers) -> None:
    """A file's name, not the password itself: it would end up in a file for all to read."""
    path = answers.get("broker.password_file")
    if path is None:
        return
    if answers.get("broker.username") is None:
        raise ConfigError("a password needs a user name")
    if "/" not in str(path):
        raise ConfigError("wanted the path of a file that holds the password, with a slash in it:"
                          " /etc/edge-agent/password, $CREDENTIALS_DIRECTORY/secrets_mqtt-password")


def _check_file(key: str):
    def check(answers: Answers) -> None:
        path = answers.get(key)
        if path is not None and not str(path).startswith("$") and not Path(str(path)).is_file():
            raise ConfigError(f"there is no file {path}")
    return check


def _is_tls(answers: Answers) -> bool:
    return str(answers["broker.url"]).startswith("mqtts:")
