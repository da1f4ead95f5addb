"""Damaged payloads of every encoding: decoded or refused, soon, and within the bundle's sizes.

20 000 in the quick tests, a million in `make check`, and 100 000 there under the address
sanitizer, by running this file as a program.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
import tracemalloc
from dataclasses import dataclass

import pytest

from fuzz.build import ROOT
from fuzz.edits import EDIT_BYTES, edit
from fuzz.payloads import decode, sources
from tests.support import sanitizers

# Of this thread's own time: what is busy beside it does not count. The slowest takes some ms.
MOST_S = 2.0
# Tracing allocations takes five times as long as decoding, so one case in so many is traced;
# under the sanitizer, and under libFuzzer, none may be large.
TRACE_ONE_IN = 10


@dataclass
class Outcome:
    seed: int
    cases: int
    accepted: int
    seconds: float
    slowest_s: float
    most_bytes: int                  # allocated for one case

    def __str__(self) -> str:
        return (f"seed {self.seed}: {self.cases} payloads, {self.accepted} accepted,"
                f" {self.cases / self.seconds:.0f}/s, the slowest {1e3 * self.slowest_s:.1f} ms,"
                f" at most {self.most_bytes} bytes")


def mutate(cases: int, seed: int) -> Outcome:
    """Decode so many, each with one to four edits in payload or refinement."""
    rng, all_sources = random.Random(seed), sources()
    result = Outcome(seed, cases, 0, 0.0, 0.0, 0)
    begun = time.perf_counter()
    for number in range(cases):
        source, other = rng.choice(all_sources), rng.choice(all_sources)
        program = rng.randbytes(EDIT_BYTES * rng.randint(1, 4))
        payload, refinement = source.payload, source.refinement
        if refinement and rng.random() < 0.5:
            refinement = edit(refinement, program, other.refinement)
        else:
            payload = edit(payload, program, other.payload)
        if number % TRACE_ONE_IN == 0:
            tracemalloc.start()
        started = time.thread_time()
        result.accepted += decode(source, payload, refinement)
        seconds = time.thread_time() - started
        if number % TRACE_ONE_IN == 0:
            nbytes = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert nbytes <= source.most_bytes, (nbytes, source.name, payload, refinement)
            result.most_bytes = max(result.most_bytes, nbytes)
        assert seconds <= MOST_S, (seconds, source.name, payload, refinement)
        result.slowest_s = max(result.slowest_s, seconds)
    result.seconds = time.perf_counter() - begun
    return result


def draw_seed() -> int:
    seed = int(os.environ.get("SPLIT_SEED") or random.randrange(2**32))
    print("seed", seed, flush=True)
    return seed


def test_twenty_thousand_damaged_payloads():
    outcome = mutate(20_000, draw_seed())
    print(outcome)
    # Damage that is never taken, or always, is no test of the decoder.
    assert 0.02 < outcome.accepted / outcome.cases < 0.5


@pytest.mark.check
def test_a_million_damaged_payloads(capsys):
    seed = draw_seed()
    halves = [subprocess.Popen([sys.executable, "-m", "tests.wire.test_mutations", "500000", str(s)],
                               cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
              for s in (seed, seed + 1)]
    for half in halves:
        out, err = half.communicate(timeout=900)
        with capsys.disabled():
            print(f"\n{out.strip()}")
        assert half.returncode == 0, err


@pytest.mark.check
def test_a_hundred_thousand_under_the_address_sanitizer(capsys):
    sanitizers.build("sanitized")
    run = sanitizers.run("sanitized", "-m", "tests.wire.test_mutations", "100000",
                         str(draw_seed()), timeout_s=600)
    with capsys.disabled():
        print(f"\nsanitized: {run.stdout.strip()}")
    assert run.returncode == 0, run.stderr


if __name__ == "__main__":
    print(mutate(int(sys.argv[1]), int(sys.argv[2])))
