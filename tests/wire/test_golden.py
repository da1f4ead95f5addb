"""The frozen bytes: what is written now is what was written then, and reads back the same."""

from __future__ import annotations

import hashlib
import hmac
import json

import numpy as np
import pytest

import cext
from cext import reference_codec
from cext.class_tables import SYMBOLS, T_MAX, T_MIN
from split_core.crypto.keyring import parse_keyring
from split_core.crypto.library import ChaCha20Poly1305
from split_core.crypto.sealed import Seal
from split_core.wire import messages as m
from split_core.wire.chunks import Reassembler, push_chunks
from split_core.wire.payload import Coder, Encoding
from tests.golden import calibrated
from tests.golden import make as golden

PULL = {"frame": m.pull_frame, "result": m.pull_result, "refusal": m.pull_refusal,
        "blob_request": m.pull_blob_request, "blob_part": m.pull_blob_part,
        "refined_result": m.pull_result, "refinement_request": m.pull_refinement_request,
        "refinement": m.pull_refinement}


@pytest.mark.parametrize("name", golden.MESSAGES)
def test_messages_are_the_frozen_bytes(name):
    frozen = json.loads((golden.FOLDER / "messages.json").read_text())[name]
    kind, push, message = golden.MESSAGES[name]
    assert [c.hex() for c in push_chunks(kind, 42, push(message), 96)] == frozen
    reassembler = Reassembler()
    *_, whole = [reassembler.push("a", bytes.fromhex(c), 0.0) for c in frozen]
    assert whole.kind == kind
    assert PULL[name](whole.body) == message


def test_sealed_messages_are_the_frozen_bytes_and_open():
    frozen = json.loads((golden.FOLDER / "sealed.json").read_text())
    assert golden.sealed() == frozen
    receiver = Seal(parse_keyring(golden.SEALED_KEYS, "golden"), golden.SEALED_SESSIONS[1])
    for name in golden.SEALED:
        kind, _, message = golden.MESSAGES[name]
        reassembler = Reassembler()
        *_, whole = [reassembler.push("pi-door", bytes.fromhex(c), 0.0) for c in frozen[name]]
        assert whole.sealed and whole.kind == kind
        body = receiver.open(kind, golden.SEALED_TOPIC, "pi-door", whole.body)
        assert PULL[name](body) == message


def test_a_sealed_message_is_what_the_document_says():
    """Taken apart by docs/wire-format.md alone, with HMAC of the standard library for HKDF."""
    chunks = json.loads((golden.FOLDER / "sealed.json").read_text())["frame"]
    body = b"".join(bytes.fromhex(c)[24:] for c in chunks)
    secret = bytes(range(32))
    sender, receiver = (s.to_bytes(8, "little") for s in golden.SEALED_SESSIONS)
    assert body[:8] == hashlib.sha256(b"edge-agent key id 1\0" + secret).digest()[:8]
    assert body[8:16] == sender and body[16:32] == golden.SEALED_SALT and body[32:40] == bytes(8)
    extracted = hmac.digest(body[8:32], secret, "sha256")
    key = hmac.digest(extracted, b"edge-agent seal 1\1", "sha256")
    known = (b"SPLT\2\1\1\0" + body[:40] + receiver + golden.SEALED_TOPIC.encode())
    plain = ChaCha20Poly1305(key).decrypt(bytes(4) + body[32:40], body[40:], known)
    assert plain == m.push_frame(golden.MESSAGES["frame"][2])


@pytest.mark.parametrize("rung", golden.RUNGS)
def test_frozen_payloads_decode_to_the_frozen_tensors(rung):
    with np.load(golden.FOLDER / f"payload-{rung}.npz") as frozen:
        arrays = Coder(image=golden.IMAGE).decode(frozen["payload"].tobytes(), golden.specs())
        for tensor, array in zip(golden.specs(), arrays):
            if rung in ("jpeg90", "webp90") and tensor.name == "image":
                # Decoders of pictures may differ by one in a sample.
                assert np.abs(array.astype(int) - frozen[tensor.name].astype(int)).max() <= 1
            else:
                assert array.tobytes() == frozen[tensor.name].tobytes(), tensor.name


@pytest.mark.parametrize("rung", golden.RUNGS[:-2])
def test_what_is_encoded_now_decodes_to_the_frozen_tensors(rung):
    arrays = Coder(image=golden.IMAGE).decode(golden.payload(rung), golden.specs())
    with np.load(golden.FOLDER / f"payload-{rung}.npz") as frozen:
        for tensor, array in zip(golden.specs(), arrays):
            assert array.tobytes() == frozen[tensor.name].tobytes(), tensor.name


# -- the calibrated codec: symbols and their bytes exact, reconstruction to a tolerance


def frozen(name):
    with np.load(golden.FOLDER / f"calibrated-{name}.npz") as file:
        return dict(file)


def coded(name):
    """Each coded block of a payload: tensor, step index, data, and the symbols it must give."""
    file = frozen(name)
    specs = [s for s in calibrated.SPECS if f"{s.name}.symbols" in file]
    blocks = [b for b in calibrated.blocks(file["payload"].tobytes())
              if b[0] in (Encoding.TRANSFORMED, Encoding.BASE)]
    for spec, (_, index, data) in zip(specs, blocks, strict=True):
        yield spec.name, index, np.frombuffer(data, np.uint8), file[f"{spec.name}.symbols"]


def refinements(name):
    """Each block of a refinement: base's symbols, step index, data, and the fine symbols."""
    file = frozen(name)
    names = [k.removesuffix(".fine") for k in file if k.endswith(".fine")]
    for tensor, (code, index, data) in zip(
            names, calibrated.blocks(file["refinement"].tobytes()), strict=True):
        assert code == Encoding.REFINEMENT
        yield (tensor, file[f"{tensor}.symbols"], index, np.frombuffer(data, np.uint8),
               file[f"{tensor}.fine"])


@pytest.fixture(scope="module")
def exponents():
    return {n: c.exponents() for n, c in calibrated.stored_codings().items()}


@pytest.mark.parametrize("name", calibrated.STEPS)
@pytest.mark.parametrize("coder", [cext, reference_codec], ids=["compiled", "reference"])
def test_frozen_bytes_are_the_frozen_symbols_and_back(coder, name, exponents):
    for tensor, index, data, symbols in coded(name):
        e, out = exponents[tensor], np.empty(cext.max_coded_bytes(symbols.size), np.uint8)
        found = np.empty_like(symbols)
        coder.decode_symbols(data, e, index, found)
        assert np.array_equal(found, symbols), tensor
        size = coder.encode_symbols(symbols, e, index, out)
        assert out[:size].tobytes() == data.tobytes(), tensor


@pytest.mark.parametrize("name", ["layers", "fine-layers"])
@pytest.mark.parametrize("coder", [cext, reference_codec], ids=["compiled", "reference"])
def test_frozen_refinements_are_the_frozen_symbols_and_back(coder, name, exponents):
    for tensor, base, index, data, fine in refinements(name):
        e, out = exponents[tensor], np.empty(cext.max_coded_bytes(fine.size), np.uint8)
        found = np.empty_like(fine)
        coder.decode_refinement(data, base, e, index, found)
        assert np.array_equal(found, fine), tensor
        size = coder.encode_refinement(fine, base, e, index, out)
        assert out[:size].tobytes() == data.tobytes(), tensor


def assert_near(arrays, file, suffix=""):
    """Floats to 1e-4 of the largest, integers to one stored unit."""
    for spec, array in zip(calibrated.SPECS, arrays, strict=True):
        wanted = file[spec.name + suffix]
        assert (array.shape, array.dtype) == (wanted.shape, wanted.dtype)
        error = np.abs(array.astype(np.float64) - wanted.astype(np.float64)).max()
        most = 1e-4 * np.abs(wanted).max() if spec.dtype == "float32" else spec.dtype != "int64"
        assert error <= most, spec.name


@pytest.mark.parametrize("name", calibrated.STEPS)
def test_frozen_calibrated_payloads_decode_to_the_frozen_tensors(name):
    file, coder = frozen(name), Coder(codings=calibrated.stored_codings())
    arrays, layers = coder.decode_layers(file["payload"].tobytes(), calibrated.SPECS)
    assert_near(arrays, file)
    assert (layers is not None) == ("layers" in name)
    if layers is not None:
        assert layers.margin == calibrated.MARGIN
        assert_near(coder.refine(layers, file["refinement"].tobytes()), file, ".refined")


def test_the_golden_set_has_every_kind_of_symbol(exponents):
    """Dead ones, plain ones, escapes, raw bits, and escapes with raw bits."""
    kinds = set()
    for name in calibrated.STEPS:
        for tensor, index, _, symbols in coded(name):
            for e, q in zip(exponents[tensor].tolist(), symbols.tolist()):
                t = (e - index + 4) >> 3
                shift = max(t - T_MAX + 3 >> 2, 0)
                hi = (q + (1 << shift >> 1)) >> shift
                escaped = t >= T_MIN and abs(hi) >= len(SYMBOLS[t - 4 * shift - T_MIN])
                kinds.add((t >= T_MIN, shift > 0, escaped))
    assert kinds == {(False, False, False), (True, False, False), (True, False, True),
                     (True, True, False), (True, True, True)}
    codes = [b[0] for n in calibrated.STEPS for part in ("payload", "refinement")
             for b in calibrated.blocks(frozen(n)[part].tobytes())]
    assert {Encoding.TRANSFORMED, Encoding.BASE, Encoding.REFINEMENT} <= set(codes)
