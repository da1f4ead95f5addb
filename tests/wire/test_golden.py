"""The frozen bytes: what is written now is what was written then, and reads back the same."""

from __future__ import annotations

import json

import numpy as np
import pytest

from split_core.wire import messages as m
from split_core.wire.chunks import Reassembler, push_chunks
from split_core.wire.payload import Coder
from tests.golden import make as golden

PULL = {"frame": m.pull_frame, "result": m.pull_result, "refusal": m.pull_refusal,
        "blob_request": m.pull_blob_request, "blob_part": m.pull_blob_part}


@pytest.mark.parametrize("name", golden.MESSAGES)
def test_messages_are_the_frozen_bytes(name):
    frozen = json.loads((golden.FOLDER / "messages.json").read_text())[name]
    kind, push, message = golden.MESSAGES[name]
    assert [c.hex() for c in push_chunks(kind, 42, push(message), 96)] == frozen
    reassembler = Reassembler()
    *_, whole = [reassembler.push("a", bytes.fromhex(c), 0.0) for c in frozen]
    assert whole.kind == kind
    assert PULL[name](whole.body) == message


@pytest.mark.parametrize("rung", golden.RUNGS)
def test_frozen_payloads_decode_to_the_frozen_tensors(rung):
    with np.load(golden.FOLDER / f"payload-{rung}.npz") as frozen:
        arrays = Coder(image=golden.IMAGE).decode(frozen["payload"].tobytes(), golden.specs())
        for tensor, array in zip(golden.specs(), arrays):
            if rung.startswith("jpeg") and tensor.name == "image":
                # Decoders of JPEG may differ by one in a sample.
                assert np.abs(array.astype(int) - frozen[tensor.name].astype(int)).max() <= 1
            else:
                assert array.tobytes() == frozen[tensor.name].tobytes(), tensor.name


@pytest.mark.parametrize("rung", golden.RUNGS[:-1])
def test_what_is_encoded_now_decodes_to_the_frozen_tensors(rung):
    arrays = Coder(image=golden.IMAGE).decode(golden.payload(rung), golden.specs())
    with np.load(golden.FOLDER / f"payload-{rung}.npz") as frozen:
        for tensor, array in zip(golden.specs(), arrays):
            assert array.tobytes() == frozen[tensor.name].tobytes(), tensor.name
