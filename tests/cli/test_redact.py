"""Secrets are taken out by name, by looks and by value."""

from __future__ import annotations

import pytest

from split_core.redact import HIDDEN, is_secret, redact_text, redact_value

CANARY = "hunter2-canary-77"


@pytest.mark.parametrize("name", ["password", "broker_password", "token", "api_key", "psk", "key",
                                  "private_key", "client-secret"])
def test_names_of_secrets(name):
    assert is_secret(name) and redact_value(name, CANARY) == HIDDEN
    assert redact_value(name, [CANARY]) == HIDDEN


@pytest.mark.parametrize("name", ["password_file", "key_file", "keepalive_s", "monkey", "keyboard",
                                  "bundle", "max_kl", "username", "keys_file"])
def test_names_that_say_only_where_or_something_else(name):
    assert not is_secret(name) and redact_value(name, "/etc/x") == "/etc/x"


@pytest.mark.parametrize("text", [
    f"mqtt://user:{CANARY}@host:1883/", f"mqtts://{CANARY}@host",
    f"password={CANARY}", f"password: {CANARY}", f'"password": "{CANARY}"',
    f"MQTT_PASSWORD={CANARY} edge-agent run", f"event=x api_key='{CANARY}' y=1",
    f"Authorization: Bearer {CANARY}", f"token = {CANARY}; next",
    f"-----BEGIN EC PRIVATE KEY-----\n{CANARY}\n-----END EC PRIVATE KEY-----",
    f"-----BEGIN PRIVATE KEY-----\n{CANARY}",                 # cut off
    f"the word {CANARY} by itself",                            # only its value tells
])
def test_texts_that_hold_one(text):
    assert CANARY not in redact_text(text, [CANARY] if "by itself" in text else [])


@pytest.mark.parametrize("text", [
    "event=started bundle=8fa2 model=meter cut=3 rung=kl0.02", "key=value lines stay",
    "monkey=1", "https://example.org/x?y=1", "/etc/edge-agent/secrets/device.key",
    "broker.password_file /x: No such file or directory",
])
def test_what_is_no_secret_stays(text):
    assert redact_text(text) == text


def test_words_of_a_command_and_nested_tables():
    command = ["/usr/bin/ups", "--password", CANARY, "--token=" + CANARY, "-v"]
    shown = redact_value("command", command)
    assert CANARY not in repr(shown) and shown[0] == "/usr/bin/ups" and shown[-1] == "-v"
    assert redact_value("headers", {"password": CANARY, "x": 1}) == {"password": HIDDEN, "x": 1}
    assert redact_value("password", None) is None and redact_value("threads", 4) == 4


def test_a_long_secret_is_hidden_before_a_short_one_inside_it():
    assert redact_text("abcd1234efgh", ["1234", "abcd1234efgh"]) == HIDDEN
    assert redact_text("a secret of two letters stays ab", ["ab"]).endswith("ab")
