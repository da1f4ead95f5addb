"""The broker as integrations/mosquitto sets it up, and users of it with certificates."""

from __future__ import annotations

import contextlib
import itertools
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edge_agent.agent import EdgeAgent
from edge_agent.config import AgentConfig, FrameConfig, ModelConfig, PlanConfig
from edge_agent.frames import Outcome
from split_core.config import BrokerConfig
from split_core.crypto.config import SealConfig
from split_core.model.runner import WholeModel
from split_core.session import BrokerOptions, Publication, Session, TlsOptions
from split_core.wire.topics import Topics
from tests.support.authority import Authority
from tests.support.brokers import Mosquitto
from tests.support.observer import Seen
from tests.support.rig import READY_TIMEOUT_S, WorkerProcess, wait_until
from tests.support.tiny_models import input_like

SHIPPED = Path(__file__).resolve().parents[2] / "integrations/mosquitto"
_TIMEOUT_S = 15.0
_numbers = itertools.count(1)
# Reads and writes all, to see what the others do. No such user is in the shipped list.
AUDITOR = ("viewer auditor", "also auditor readwrite #")
FENCE = "test/fence"


def make_acl(names: str, *options: str) -> str:
    """What the shipped script makes of a list."""
    return subprocess.run([sys.executable, SHIPPED / "make_acl.py", *options, "-"], input=names,
                          text=True, capture_output=True, check=True, timeout=30).stdout


class SecuredBroker:
    """The shipped configuration and ACL on a free port, its files below ``directory``."""

    def __init__(self, directory: Path, names: str, *, root: str = "si/v1"):
        self.directory, self.authority = directory, Authority(directory)
        users = [line.split()[1] for line in names.splitlines() if line.strip()
                 and not line.startswith(("also", "#"))]
        # Everybody hears the fence, behind which nothing is under way any more.
        names = "\n".join((names, *AUDITOR, *(f"also {user} read {FENCE}" for user in users)))
        (directory / "acl").write_text(make_acl(names, "--root", root))
        server = self.authority.server()
        self._broker = Mosquitto(directory)
        conf = (SHIPPED / "edge-agent.conf").read_text()
        for old, new in (("/etc/mosquitto/edge-agent/server.pem", server.cert),
                         ("/etc/mosquitto/edge-agent/server.key", server.key),
                         ("/etc/mosquitto/edge-agent/ca.pem", self.authority.file),
                         ("/etc/mosquitto/edge-agent/acl", directory / "acl"),
                         ("listener 8883", f"listener {self._broker.port} 127.0.0.1")):
            assert conf.count(old) == 1, old
            conf = conf.replace(old, str(new))
        self._broker._config.write_text("user root\npersistence false\n" + conf)
        self.port = self._broker.port
        self.url = f"mqtts://127.0.0.1:{self.port}"
        self._certificates = {}

    def __enter__(self) -> SecuredBroker:
        self._broker.start()
        return self

    def __exit__(self, *_exc) -> None:
        self._broker.stop()

    def log(self) -> str:
        return self._broker.log()

    def certificate(self, user: str):
        if user not in self._certificates:
            self._certificates[user] = self.authority.client(user)
        return self._certificates[user]

    def config(self, user: str) -> BrokerConfig:
        """The [broker] section of a program that runs as this user."""
        made = self.certificate(user)
        return BrokerConfig(url=self.url, ca_file=str(self.authority.file),
                            cert_file=str(made.cert), key_file=str(made.key))

    def toml(self, user: str) -> str:
        config = self.config(user)
        return "[broker]\n" + "".join(f'{key} = "{getattr(config, key)}"\n' for key in (
            "url", "ca_file", "cert_file", "key_file"))

    @contextlib.contextmanager
    def user(self, name: str, *filters: str) -> Iterator[User]:
        user = User(self.config(name).options(), name, *filters)
        try:
            yield user.start()
        finally:
            user.stop()


class User:
    """A client that says what it may do, and remembers what it got."""

    def __init__(self, options: BrokerOptions, name: str, *filters: str):
        self.seen: list[Seen] = []
        self._up = threading.Event()
        self._changed = threading.Condition()
        self._session = Session(
            options, client_id=f"test-{name}-{next(_numbers)}",
            on_up=lambda limits: self._up.set(), on_down=lambda reason: None,
            on_message=self._on_message)
        for topic_filter in (*filters, FENCE):
            self._session.subscribe(topic_filter, 1)

    def start(self) -> User:
        self._session.start()
        assert self._up.wait(_TIMEOUT_S), f"no connection: {self._session.trouble}"
        return self

    def stop(self) -> None:
        self._session.stop()

    def may_write(self, topic: str, payload: bytes = b"x", *, retain: bool = False) -> bool:
        """Publish at QoS 1; whether the broker accepted it."""
        done: queue.Queue[bool] = queue.Queue()
        self._session.publish(Publication(topic, payload, qos=1, retain=retain), done.put)
        return done.get(timeout=_TIMEOUT_S)

    def wait_for(self, payload: bytes) -> None:
        """Until something with this payload has come; with a fence's, all before it has."""
        with self._changed:
            assert self._changed.wait_for(lambda: any(s.payload == payload for s in self.seen),
                                          _TIMEOUT_S), f"{payload!r} did not come"

    @property
    def topics(self) -> set[str]:
        return {s.topic for s in list(self.seen)} - {FENCE}

    def _on_message(self, topic: str, payload: bytes, received) -> None:
        with self._changed:
            self.seen.append(Seen(topic, bytes(payload), received.retain, 0.0))
            self._changed.notify_all()


def options(broker: SecuredBroker, *, ca: Path | None, cert: Path | None = None,
            key: Path | None = None, host: str = "127.0.0.1") -> BrokerOptions:
    """How to reach the broker with files of one's choice."""
    return BrokerOptions.from_url(f"mqtts://{host}:{broker.port}",
                                  tls=TlsOptions(ca, cert, key))


class SecuredPool:
    """Workers as processes and devices in this one, on a secured broker."""

    def __init__(self, broker: SecuredBroker):
        self.broker, self.topics = broker, Topics()
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> SecuredPool:
        return self

    def __exit__(self, *_exc) -> None:
        self._stack.close()

    def worker(self, name: str, *options: str, keys: Path | None = None) -> WorkerProcess:
        """A worker that has been started; with ``keys`` it seals."""
        config = self.broker.directory / f"{name}.toml"
        config.write_text(self.broker.toml(name)
                          + (f'[seal]\nkeys_file = "{keys}"\n' if keys else ""))
        process = WorkerProcess(self.broker.directory, self.broker.url, name, "-c", str(config),
                                *options)
        self._stack.callback(process.stop)
        return process.start()

    def device(self, name: str, bundle: Path, *, keys: Path | None = None, ready: bool = True,
               **more) -> EdgeAgent:
        """A started agent that sends at cut 1; with ``ready``, once a worker has its bundle."""
        more = {"plan": PlanConfig(cut=1, rung="raw"), "frame": FrameConfig(deadline_ms=5000)} | more
        agent = EdgeAgent(AgentConfig(
            model=ModelConfig(str(bundle)), id=name, broker=self.broker.config(name),
            seal=SealConfig(None if keys is None else str(keys)), **more))
        self._stack.callback(agent.stop)
        agent.start()
        if ready:
            wait_until(lambda: agent.missing() is None, READY_TIMEOUT_S, "a worker with the bundle")
        return agent


def is_inbox(topic: str) -> bool:
    return "/in/" in topic


def fence(auditor: User, *users: User) -> None:
    """Until all that was under way before has come."""
    payload = f"fence {next(_numbers)}".encode()
    assert auditor.may_write(FENCE, payload)
    for user in users:
        user.wait_for(payload)


def answered_as_by_the_whole_model(agent: EdgeAgent, model: Path, frames: int) -> None:
    """Every frame remotely, every output bit by bit."""
    whole, rng = WholeModel(model), np.random.default_rng(5)
    for _ in range(frames):
        inputs = {n: input_like(agent.bundle.specs[n], rng) for n in agent.bundle.manifest.inputs}
        answer = agent.infer(inputs)
        assert (answer.outcome, answer.reason) == (Outcome.REMOTE, "")
        for name, array in zip(agent.bundle.manifest.outputs, whole.run(inputs.values()),
                               strict=True):
            assert answer.outputs[name].tobytes() == array.tobytes()
