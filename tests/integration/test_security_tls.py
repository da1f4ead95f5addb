"""TLS: what is refused before anything is sent, and what each wrong certificate is told to be."""

from __future__ import annotations

import ssl
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from split_core.errors import ConfigError, LinkDown, PermissionRefused
from split_core.session import BrokerOptions, TlsOptions, backoff
from split_core.session.options import is_loopback
from tests.split_core.session_probe import probing
from tests.support.authority import Authority, Certificate
from tests.support.brokers import Mosquitto
from tests.support.rig import ROOT

# -- plain connections stay on this machine

ELSEWHERE = ("broker.example", "192.168.1.5", "0.0.0.0", "[::]", "[fe80::1]", "localhost.example",
             "127.0.0.1.example", "127.1", "2130706433")


def command(*args: str | Path, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *map(str, args)], cwd=ROOT, text=True,
                          capture_output=True, timeout=timeout_s)


def worker_config(folder: Path, url: str, more: str = "") -> Path:
    path = folder / "worker.toml"
    path.write_text(f'[broker]\nurl = "{url}"\n{more}\n[store]\npath = "{folder}/store"\n')
    return path


@pytest.mark.parametrize("host", ELSEWHERE)
def test_no_host_elsewhere_counts_as_this_machine(host):
    assert not is_loopback(host.strip("[]"))
    with pytest.raises(ConfigError, match="in the clear"):
        BrokerOptions.from_url(f"mqtt://{host}:1883")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "localhost", "[::1]"])
def test_the_loopback_is_this_machine(host):
    BrokerOptions.from_url(f"mqtt://{host}:1883")


def test_a_name_that_means_this_machine_today_may_mean_another_tomorrow():
    """No resolver is asked: what it says can be changed by whoever answers for it."""
    import socket

    with pytest.raises(ConfigError, match="in the clear"):
        BrokerOptions.from_url(f"mqtt://{socket.gethostname()}.local:1883")


@pytest.mark.parametrize("host", ["broker.example", "192.168.1.5", "0.0.0.0", "[::]"])
def test_the_worker_ends_with_78_and_says_what_to_do(tmp_path, host):
    run = command("cloud_side.cli", "run", "-c", worker_config(tmp_path, f"mqtt://{host}:1883"))
    assert run.returncode == 78
    assert "in the clear; use mqtts://" in run.stderr and "Traceback" not in run.stderr


def test_so_do_the_agent_and_infer(tmp_path, camera):
    config = tmp_path / "agent.toml"
    config.write_text(f'[model]\nbundle = "{camera.bundle}"\n[broker]\nurl = "mqtt://broker.example"\n')
    for run in (command("edge_agent.cli", "run", "-c", config),
                command("edge_agent.cli", "infer", camera.bundle, config, "--broker",
                        "mqtt://broker.example")):
        assert run.returncode == 78, run.stderr
        assert "in the clear; use mqtts://" in run.stderr and "Traceback" not in run.stderr


def test_it_is_allowed_where_somebody_says_so():
    assert BrokerOptions.from_url("mqtt://broker.example", allow_plain=True).tls is None


@pytest.mark.parametrize("url", [
    "mqtt://pi:hunter2@127.0.0.1", "mqtts://pi:hun/hunter2@broker", "mqtts://pi:hunter2#x@broker",
    "mqtts://pi:hunter2?x@broker:1", "mqtts://broker?password=hunter2", "hunter2@broker",
    "http://pi:hunter2@broker/", "mqtt+unix://pi:hunter2@x/", "mqtts://broker:hunter2@x:y"])
def test_a_password_in_a_url_is_refused_and_not_repeated(url):
    with pytest.raises(ConfigError) as refused:
        BrokerOptions.from_url(url)
    assert "hunter2" not in str(refused.value)


# -- wrong certificates, at a real broker that asks for ours

@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def ca(folder) -> Authority:
    return Authority(folder)


@pytest.fixture(scope="module")
def stranger(folder) -> Authority:
    return Authority(folder, "stranger")


def broker_with(folder: Path, ca: Authority, server: Certificate, *lines: str) -> Mosquitto:
    broker = Mosquitto(folder)
    broker._config.write_text("\n".join((
        "user root", "persistence false", f"listener {broker.port} 127.0.0.1",
        "allow_anonymous true", f"certfile {server.cert}", f"keyfile {server.key}",
        f"cafile {ca.file}", "require_certificate true", *lines)) + "\n")
    return broker


def trouble(broker: Mosquitto, tls: TlsOptions, host: str = "127.0.0.1"):
    with broker, probing(BrokerOptions.from_url(f"mqtts://{host}:{broker.port}", tls=tls),
                         wait=False) as probe:
        probe.down()
        return probe.session.trouble


@pytest.mark.parametrize("server, words", [
    ({"from_days": -10, "to_days": -1}, "has expired: the broker needs a new one"),
    ({"hosts": ("broker.example",)}, "is not for 127.0.0.1: put a name that it is for into broker.url"),
])
def test_a_wrong_certificate_of_the_broker(tmp_path, ca, server, words):
    mine = ca.client("door")
    found = trouble(broker_with(tmp_path, ca, ca.server("wrong", **server)),
                    TlsOptions(ca.file, mine.cert, mine.key))
    assert isinstance(found, ConfigError) and words in str(found)


def test_a_devices_certificate_makes_no_broker(tmp_path, ca):
    """Whoever copies a device's key and gets between cannot pose as the broker with it: it names
    no host, and is for clients alone."""
    mine, stolen = ca.client("door"), ca.client("gate")
    found = trouble(broker_with(tmp_path, ca, stolen), TlsOptions(ca.file, mine.cert, mine.key))
    assert isinstance(found, ConfigError)
    named = ca.server("posing", usage=ExtendedKeyUsageOID.CLIENT_AUTH)
    other = tmp_path / "other"
    other.mkdir()
    found = trouble(broker_with(other, ca, named), TlsOptions(ca.file, mine.cert, mine.key))
    assert found is not None and "purpose" in str(found)


def test_a_host_name_that_the_certificate_is_not_for(tmp_path, ca):
    mine = ca.client("door")
    found = trouble(broker_with(tmp_path, ca, ca.server("ip", hosts=("127.0.0.1",))),
                    TlsOptions(ca.file, mine.cert, mine.key), host="localhost")
    assert isinstance(found, ConfigError)
    assert "is not for localhost: put a name that it is for into broker.url" in str(found)


def test_an_authority_that_is_not_trusted(tmp_path, ca, stranger):
    mine = ca.client("door")
    for ca_file in (stranger.file, None):                  # None: the system's
        found = trouble(broker_with(tmp_path, ca, ca.server()),
                        TlsOptions(ca_file, mine.cert, mine.key))
        assert isinstance(found, ConfigError)
        assert "put the one that signed it into broker.ca_file" in str(found)


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3],
                         ids=["1.2", "1.3"])
@pytest.mark.parametrize("client, words", [
    (None, "broker.cert_file"),
    ("stranger", "does not know who signed our certificate"),
    ("expired", "says that our certificate (broker.cert_file) has expired: renew it"),
    ("early", "not valid yet by the broker's clock"),
])
def test_a_wrong_certificate_of_ours(tmp_path, ca, stranger, client, words, newest, monkeypatch):
    make_context = TlsOptions.context

    def of_this_version(self):
        context = make_context(self)
        context.maximum_version = newest
        return context

    monkeypatch.setattr(TlsOptions, "context", of_this_version)
    mine = {None: None, "stranger": stranger.client("door"),
            "expired": ca.client("late", from_days=-10, to_days=-1),
            "early": ca.client("early", from_days=1, to_days=5)}[client]
    found = trouble(broker_with(tmp_path, ca, ca.server()),
                    TlsOptions(ca.file, mine and mine.cert, mine and mine.key))
    assert words in str(found), found
    if client is None and newest is ssl.TLSVersion.TLSv1_2:
        # Before 1.3 a broker did not say that a certificate is what it misses.
        assert isinstance(found, LinkDown) and "it may ask for a certificate" in str(found)
    else:
        assert isinstance(found, PermissionRefused)


def test_files_that_do_not_belong_together(ca, folder, tmp_path):
    mine, other = ca.client("door"), ca.client("gate")
    empty = tmp_path / "empty"
    empty.write_text("")
    for tls, words in (
            (TlsOptions(ca.file, mine.cert, other.key), "key_file is not the key of cert_file"),
            (TlsOptions(ca.file, mine.key, mine.key), "not in PEM"),
            (TlsOptions(empty, mine.cert, mine.key), "ca_file holds no certificate"),
            (TlsOptions(ca.file, mine.cert, tmp_path / "missing"), "missing: .*No such file"),
            (TlsOptions(ca.file, None, mine.key), "needs a cert_file")):
        with pytest.raises(ConfigError, match=words):
            tls.context()


def test_files_that_do_not_belong_together_end_the_program_with_78(tmp_path, ca):
    mine, other = ca.client("door"), ca.client("gate")
    run = command("cloud_side.cli", "run", "-c", worker_config(
        tmp_path, "mqtts://127.0.0.1:8883", f'ca_file = "{ca.file}"\ncert_file = "{mine.cert}"\n'
        f'key_file = "{other.key}"'))
    assert run.returncode == 78 and "key_file is not the key of cert_file" in run.stderr


def test_a_certificate_that_is_not_valid_yet_is_the_clocks_doing_and_tried_again_at_once(
        tmp_path, ca):
    """A board without a clock of its own boots in the past; some seconds later it is right."""
    mine = ca.client("door")
    broker = broker_with(tmp_path, ca, ca.server("soon", from_days=1, to_days=5))
    options = BrokerOptions.from_url(f"mqtts://127.0.0.1:{broker.port}",
                                     tls=TlsOptions(ca.file, mine.cert, mine.key))
    with broker, probing(options, wait=False) as probe:
        assert "is this machine's clock right?" in probe.down()
        assert isinstance(probe.session.trouble, LinkDown)
        # The clock has been set, as seen from here: by now the certificate is valid.
        broker.stop()
        broker_with_port(broker, ca.server("now"))
        began_s = time.monotonic()
        broker.start()
        probe.up(10)
        assert time.monotonic() - began_s < backoff.REFUSED_CEILING_S / 2


def broker_with_port(broker: Mosquitto, server: Certificate) -> None:
    """The same broker with another certificate."""
    text = broker._config.read_text().splitlines()
    broker._config.write_text("\n".join(
        f"certfile {server.cert}" if line.startswith("certfile") else
        f"keyfile {server.key}" if line.startswith("keyfile") else line for line in text) + "\n")


def test_a_renewed_certificate_is_taken_without_a_restart(tmp_path, ca, monkeypatch):
    monkeypatch.setattr(backoff, "REFUSED_CEILING_S", 2.0)
    mine, renewed = ca.client("late", from_days=-10, to_days=-1), ca.client("fresh")
    with broker_with(tmp_path, ca, ca.server()) as broker:
        options = BrokerOptions.from_url(f"mqtts://127.0.0.1:{broker.port}",
                                         tls=TlsOptions(ca.file, mine.cert, mine.key))
        with probing(options, wait=False) as probe:
            assert "has expired" in probe.down()
            mine.cert.write_bytes(renewed.cert.read_bytes())
            mine.key.write_bytes(renewed.key.read_bytes())
            probe.up(12)


def test_tls_at_a_plain_port_and_plain_at_a_tls_port_end_in_words(tmp_path, ca):
    with Mosquitto(tmp_path) as plain:
        options = BrokerOptions.from_url(f"mqtts://127.0.0.1:{plain.port}", tls=TlsOptions(ca.file))
        with probing(options, wait=False) as probe:
            assert f"TLS with 127.0.0.1:{plain.port}" in probe.down()
    folder = tmp_path / "tls"
    folder.mkdir()
    with broker_with(folder, ca, ca.server()) as tls:
        options = BrokerOptions.from_url(f"mqtt://127.0.0.1:{tls.port}", keepalive_s=5)
        with probing(options, wait=False) as probe:
            assert probe.down()
            assert not probe.session.is_up
