"""The committed corpus (fuzz/corpus): replayed, and good enough to find a planted bug."""

from __future__ import annotations

import pytest

from fuzz.build import CHECK, CHECKED, ROOT
from fuzz.targets import TARGETS
from tests.support import sanitizers

FOUND_IN_S = 60


@pytest.mark.parametrize("target", TARGETS)
def test_no_input_of_the_corpus_finds_a_bug(target):
    inputs = sorted((sanitizers.CORPUS / target).iterdir())
    assert len(inputs) >= 10
    for path in inputs:
        try:
            TARGETS[target](path.read_bytes())
        except Exception as e:
            e.add_note(f"input {path}")
            raise


@pytest.mark.check
@pytest.mark.parametrize("target", TARGETS)
def test_nor_under_the_sanitizers(target):
    sanitizers.build("sanitized")
    run = fuzz("sanitized", target, "-runs=0")
    assert run.returncode == 0, run.stderr


@pytest.mark.check
def test_a_planted_bug_is_found(tmp_path):
    """A decoder that no longer asks whether words are left reads past the end of its input."""
    assert CHECK in (ROOT / CHECKED).read_text()
    sanitizers.build("planted")
    run = fuzz("planted", "entropy", f"-max_total_time={FOUND_IN_S}",
               f"-artifact_prefix={tmp_path}/")
    assert run.returncode != 0, "60 s of fuzzing did not find the planted bug"
    assert "AddressSanitizer: heap-buffer-overflow" in run.stderr
    assert "get_run" in run.stderr or "refill" in run.stderr


def fuzz(variant: str, target: str, *options: str):
    """New inputs, if any, are not kept."""
    return sanitizers.run(variant, "-m", "fuzz.run", target, sanitizers.CORPUS / target, *options,
                          "-max_len=4000", "-timeout=10", "-reload=0", "-seed=1",
                          timeout_s=FOUND_IN_S + 240)
