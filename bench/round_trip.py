"""What a frame's round trip costs beyond its head and tail: `python -m bench.round_trip`.

Ours (from capture to answer: hand-over to the inference thread, encode, send, receive, queue,
decode, encode and decode of the result) against a bare TCP echo and a bare paho echo of the same bytes
in each direction, the latter through the same broker, plain and over TLS. All take turns in
one run, a round each.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from bench import echo, rig
from edge_agent.agent import EdgeAgent
from edge_agent.config import AgentConfig, FrameConfig, ModelConfig, PlanConfig
from split_core.config import BrokerConfig
from split_core.wire import chunks, messages
from split_lab.split import split_model
from tests.support import tiny_models
from tests.support.brokers import Mosquitto, free_port, make_certificates

SIZES = [2_000, 8_000, 18_000, 60_000, 100_000, 400_000]
ROUNDS = 300
# A result of four floats: chunk header, result header, block header, 16 bytes.
REPLY_BYTES = chunks.HEADER_BYTES + 48 + 16 + 16


def wide_model(values: int) -> bytes:
    """``values`` floats cross at cut 0; two small ops make four of them."""
    T, O = tiny_models.T, tiny_models.O
    rng = np.random.default_rng(1)
    tensors = [
        T("x", (1, values)), T("c", (1, values), data=np.ones((1, values), np.float32)),
        T("h", (1, values)),
        T("w", (4, values), data=rng.standard_normal((4, values)).astype(np.float32)),
        T("b", (4,), data=np.zeros(4, np.float32)), T("y", (1, 4)),
    ]
    return tiny_models.write_model(
        tensors, [O("ADD", (0, 1), (2,), (tiny_models.ADD, {})),
                  O("FULLY_CONNECTED", (2, 3, 4), (5,), (tiny_models.FULLY_CONNECTED, {}))],
        [0], [5])


@contextlib.contextmanager
def process(*arguments: str) -> Iterator[None]:
    child = subprocess.Popen([sys.executable, "-m", *arguments], stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        child.terminate()
        child.wait(20)


@contextlib.contextmanager
def ours(broker: BrokerConfig, worker_id: str, folder: Path,
         bundle: Path) -> Iterator[Callable[[np.ndarray], float]]:
    """A function that sends one frame and says what it cost beyond head and tail, in us."""
    config = AgentConfig(
        model=ModelConfig(str(bundle)), id=f"dev-{worker_id}", broker=broker,
        plan=PlanConfig(cut=0, rung="raw", worker=worker_id),
        frame=FrameConfig(deadline_ms=5000))
    with EdgeAgent(config, ephemeral=True) as agent:
        limit_s = time.monotonic() + 30
        while agent.missing() is not None:
            if time.monotonic() > limit_s:
                raise RuntimeError(agent.missing())
            time.sleep(0.01)

        def round_trip(x: np.ndarray) -> float:
            answer = agent.infer({"x": x})
            if answer.worker is None:
                raise RuntimeError(f"no remote answer: {answer.reason}")
            stages = answer.stages_ms
            return 1e3 * (answer.total_ms - stages["head"] - stages["tail"])

        yield round_trip


def paho_round_trip(port: int, ca: str | None) -> Callable[[int], float]:
    name, back = "tls" if ca else "plain", []
    loop = echo.PahoLoop(f"asker-{name}", port, ca, lambda _c, _u, m: back.append(m))
    loop.client.subscribe(f"echo/{name}/back")

    def round_trip(size: int) -> float:
        back.clear()
        request = echo.SIZE.pack(REPLY_BYTES) + bytes(size - echo.SIZE.size)
        begin_s = time.perf_counter()
        loop.client.publish(f"echo/{name}/there", request)
        while not back:
            loop.step()
        return 1e6 * (time.perf_counter() - begin_s)

    loop.step()
    return round_trip


def tcp_round_trip(port: int) -> Callable[[int], float]:
    import socket
    import struct

    sock = None
    while sock is None:
        with contextlib.suppress(ConnectionRefusedError):
            sock = socket.create_connection(("127.0.0.1", port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def round_trip(size: int) -> float:
        begin_s = time.perf_counter()
        sock.sendall(struct.pack("<II", size, REPLY_BYTES) + bytes(size))
        echo.receive(sock, REPLY_BYTES)
        return 1e6 * (time.perf_counter() - begin_s)

    return round_trip


def worker_file(folder: Path, name: str, broker: str) -> str:
    path = folder / f"{name}.toml"
    path.write_text(f'id = "{name}"\n[broker]\n{broker}\n[store]\npath = "{folder / name}"\n')
    return str(path)


def measure(folder: Path) -> list[dict]:
    certificates = make_certificates(folder)
    tls_port, tcp_port, ca = free_port(), free_port(), str(certificates / "ca.pem")
    tls = [f"listener {tls_port} 127.0.0.1", f"cafile {ca}",
           f"certfile {certificates / 'server.pem'}", f"keyfile {certificates / 'server.key'}"]
    with Mosquitto(folder, tuple(tls) + ("set_tcp_nodelay true",)) as broker, \
            contextlib.ExitStack() as stack:
        plain = f'url = "{broker.url}"'
        secure = f'url = "mqtts://localhost:{tls_port}"\nca_file = "{ca}"'
        for arguments in (
                ("bench.echo", "tcp", str(tcp_port)), ("bench.echo", "paho", str(broker.port)),
                ("bench.echo", "paho", str(tls_port), ca),
                ("cloud_side.cli", "run", "-c", worker_file(folder, "w-plain", plain)),
                ("cloud_side.cli", "run", "-c", worker_file(folder, "w-tls", secure))):
            stack.enter_context(process(*arguments))
        tcp = tcp_round_trip(tcp_port)
        paho = {"plain": paho_round_trip(broker.port, None),
                "tls": paho_round_trip(tls_port, ca)}
        brokers = {"plain": BrokerConfig(url=broker.url),
                   "tls": BrokerConfig(url=f"mqtts://localhost:{tls_port}", ca_file=ca)}
        return [row for size in SIZES
                for row in one_size(size, folder, tcp, paho, brokers)]


def one_size(size: int, folder: Path, tcp, paho, brokers) -> list[dict]:
    model, bundle = folder / "wide.tflite", folder / f"wide-{size}.split.tflite"
    model.write_bytes(wide_model(size // 4))
    bundle.write_bytes(split_model(model, cuts="all"))
    rng, wire_bytes = np.random.default_rng(2), message_bytes(size)
    times: dict[str, list[float]] = {}
    with ours(brokers["plain"], "w-plain", folder, bundle) as ours_plain, \
            ours(brokers["tls"], "w-tls", folder, bundle) as ours_tls:
        contenders = {
            "tcp": lambda x: tcp(wire_bytes),
            "paho_plain": lambda x: paho["plain"](wire_bytes), "ours_plain": ours_plain,
            "paho_tls": lambda x: paho["tls"](wire_bytes), "ours_tls": ours_tls,
        }
        for number in range(ROUNDS + 20):
            rig.progress(f"{size} bytes, round {number}")
            # Nothing that zstd could shrink: all contenders send the same number of bytes.
            x = rng.integers(0, 2**32, (1, size // 4), np.uint32).view(np.float32)
            x[~np.isfinite(x)] = 0.0
            for name, run in contenders.items():
                took_us = run(x)
                if number >= 20:
                    times.setdefault(name, []).append(took_us)
    return [{
        "payload_bytes": size, "wire_bytes": wire_bytes, "link": link,
        "ours_us": rig.spread(times[f"ours_{link}"]),
        "paho_us": rig.spread(times[f"paho_{link}"]), "tcp_us": rig.spread(times["tcp"]),
        "above_paho_us": round(float(np.median(np.subtract(
            times[f"ours_{link}"], times[f"paho_{link}"]))), 1),
        "ratio": round(float(np.median(times[f"ours_{link}"])
                             / np.median(times[f"paho_{link}"])), 3),
    } for link in ("plain", "tls")]


def message_bytes(payload: int) -> int:
    """What a frame of that payload is on the wire, chunk headers included."""
    body = messages.FRAME_HEADER_BYTES + 16 + payload
    return sum(map(len, chunks.push_chunks(messages.Kind.FRAME, 1, bytes(body), 64_000)))


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(Path(folder))
    rig.progress("")
    print(f"{'payload':>9} {'link':<6}{'TCP us':>8}{'paho us':>9}{'ours us':>9}{'above':>8}"
          f"{'ratio':>7}  goal: 500 us above to 20 kB, 1.3 times from there")
    for r in rows:
        met = r["above_paho_us"] <= 500 if r["payload_bytes"] < 20_000 else r["ratio"] <= 1.3
        print(f"{r['payload_bytes']:>9} {r['link']:<6}{r['tcp_us']['median']:>8.0f}"
              f"{r['paho_us']['median']:>9.0f}{r['ours_us']['median']:>9.0f}"
              f"{r['above_paho_us']:>8.0f}{r['ratio']:>7.2f}  {'met' if met else 'MISSED'}")
    print(rig.save("round_trip", rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
