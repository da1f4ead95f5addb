"""What sealing a message costs: `python -m bench.seal`. JSON in bench/results/seal.json.

Sealing and opening are timed in turns in one thread, beside the checksum that every chunk has
anyway; a new process at the other end costs one key derivation, timed apart. AES-256-GCM of the
same library is there to compare: it is faster where the processor has instructions for it, which
a Raspberry Pi up to the 4 has not.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
import zlib
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from split_core.crypto.keyring import Key, Keyring
from split_core.crypto.sealed import OVERHEAD_BYTES, Seal
from split_core.wire.messages import Kind

RESULT = Path(__file__).parent / "results/seal.json"
SIZES = (300, 3_000, 30_000, 100_000, 1_000_000)
TOPIC = "si/v1/_pool/w1/in/pi-door"
SECONDS = 1.0               # for each size


def main() -> None:
    keyring = Keyring((Key("bench", os.urandom(32)),))
    rows = [measure(keyring, nbytes) for nbytes in SIZES]
    report = {"machine": platform.machine(), "overhead_bytes": OVERHEAD_BYTES,
              "first_message_us": round(first_message_us(keyring), 1), "sizes": rows}
    RESULT.write_text(json.dumps(report, indent=1) + "\n")
    print(f"{OVERHEAD_BYTES} bytes a message; a peer's first message {report['first_message_us']} us more")
    print(f"{'bytes':>9} {'seal ms':>8} {'open ms':>8} {'CRC ms':>8} {'AES-GCM ms':>11} {'more bytes':>11}")
    for row in rows:
        print(f"{row['bytes']:9} {row['seal_ms']:8.4f} {row['open_ms']:8.4f} {row['crc_ms']:8.4f}"
              f" {row['aes_gcm_ms']:11.4f} {100 * OVERHEAD_BYTES / row['bytes']:10.2f}%")


def pair(keyring: Keyring) -> tuple[Seal, Seal]:
    device, worker = Seal(keyring, 1), Seal(keyring, 2)
    device.on_session("w1", 2)
    return device, worker


def measure(keyring: Keyring, nbytes: int) -> dict:
    device, worker = pair(keyring)
    body, aes = os.urandom(nbytes), AESGCM(os.urandom(32))
    times: dict[str, list[float]] = {"seal": [], "open": [], "crc": [], "aes_gcm": []}

    def timed(name: str, call: Callable, *args):
        begun = time.perf_counter()
        result = call(*args)
        times[name].append(time.perf_counter() - begun)
        return result

    until = time.perf_counter() + SECONDS
    count = 0
    while time.perf_counter() < until:
        sealed = timed("seal", device.seal, Kind.FRAME, TOPIC, "w1", body)
        opened = timed("open", worker.open, Kind.FRAME, TOPIC, "pi-door", memoryview(sealed))
        timed("crc", zlib.crc32, body)
        timed("aes_gcm", aes.encrypt, count.to_bytes(12, "little"), body, b"")
        count += 1
    assert opened == body
    return {"bytes": nbytes, "messages": count} | {
        f"{name}_ms": round(1e3 * statistics.median(found), 5) for name, found in times.items()}


def first_message_us(keyring: Keyring) -> float:
    """What a message of a process that was not heard before takes beyond any other."""
    first, second = [], []
    for _ in range(300):
        device, worker = pair(keyring)
        for found in (first, second):
            sealed = device.seal(Kind.FRAME, TOPIC, "w1", b"")
            begun = time.perf_counter()
            worker.open(Kind.FRAME, TOPIC, "pi-door", memoryview(sealed))
            found.append(time.perf_counter() - begun)
    return 1e6 * (statistics.median(first) - statistics.median(second))


if __name__ == "__main__":
    main()
