"""Every message kind: there and back, every truncation, every wrong field."""

from __future__ import annotations

from dataclasses import replace

import pytest

from split_core.errors import MessageError
from split_core.wire import messages as m

DIGEST = bytes(range(32))
FRAME = m.Frame(DIGEST, 2**64 - 2, 7, 3, 250_000, 14, m.Codec.QUANTIZED, 2, b"payload")
RESULT = m.Result(5, 7, 3, m.StageTimes(1, 2, 3, 4, 5), 1, b"outputs")
REFUSAL = m.Refusal(5, 7, m.Reason.SHED, 1500, "busy")
REQUEST = m.BlobRequest(DIGEST, 2**40, 1000)
ASKED = m.RefinementRequest(5, 7, 0.25)
REFINEMENT = m.Refinement(5, 7, 250_000, b"second layer")
PART = m.BlobPart(DIGEST, 10, 20, b"0123456789")
PAIRS = [
    (m.push_frame, m.pull_frame, FRAME), (m.push_result, m.pull_result, RESULT),
    (m.push_refusal, m.pull_refusal, REFUSAL),
    (m.push_blob_request, m.pull_blob_request, REQUEST),
    (m.push_refinement_request, m.pull_refinement_request, ASKED),
    (m.push_refinement, m.pull_refinement, REFINEMENT),
    (m.push_blob_part, m.pull_blob_part, PART),
]


@pytest.mark.parametrize("push, pull, message", PAIRS)
def test_there_and_back(push, pull, message):
    assert pull(memoryview(push(message))) == message


@pytest.mark.parametrize("push, pull, message", PAIRS[:-1])
def test_every_truncation_is_refused(push, pull, message):
    data = memoryview(push(message))
    for n in range(len(data)):
        with pytest.raises(MessageError):
            pull(data[:n])


def test_a_blob_part_cut_short_is_a_shorter_part_or_refused():
    # Its chunk's checksum and message length catch a real truncation; on its own a part may
    # have any length up to the blob's.
    data = memoryview(m.push_blob_part(PART))
    for n in range(48):
        with pytest.raises(MessageError):
            m.pull_blob_part(data[:n])


@pytest.mark.parametrize("push, pull, message", PAIRS[:-1])
def test_a_byte_too_many_is_refused(push, pull, message):
    with pytest.raises(MessageError, match="follow"):
        pull(memoryview(push(message) + b"x"))


def test_reserved_bits_are_refused():
    data = bytearray(m.push_frame(FRAME))
    data[55] = 1                                   # flags
    with pytest.raises(MessageError, match="flags is 1"):
        m.pull_frame(memoryview(data))


def test_a_result_says_whether_it_was_refined_and_nothing_else_of_its_flags():
    data = bytearray(m.push_result(replace(RESULT, refined=True)))
    assert data[38:40] == b"\x01\x00" and m.pull_result(memoryview(data)).refined
    data[38] = 3
    with pytest.raises(MessageError, match="flags is 2"):
        m.pull_result(memoryview(data))


@pytest.mark.parametrize("margin", [-0.01, 1.01, float("nan"), float("inf")])
def test_a_margin_is_a_difference_of_probabilities(margin):
    with pytest.raises(MessageError, match="wanted 0 to 1"):
        m.pull_refinement_request(memoryview(m.push_refinement_request(
            replace(ASKED, margin=margin))))


def test_reserved_bytes_of_a_request_are_refused():
    data = bytearray(m.push_refinement_request(ASKED))
    data[19] = 1
    with pytest.raises(MessageError, match="reserved"):
        m.pull_refinement_request(memoryview(data))


def test_times_of_two_passes_add_up_and_stay_within_the_field():
    both = m.StageTimes(1, 2, 3, 4, 5) + m.StageTimes(10, 20, 30, 40, 2**32 - 1)
    assert both == m.StageTimes(11, 22, 33, 44, 2**32 - 1)


def test_unknown_codec_and_reason_name_those_known():
    data = bytearray(m.push_frame(FRAME))
    data[54] = 9
    with pytest.raises(MessageError, match=r"unknown codec 9; known are 0 \(RAW\)"):
        m.pull_frame(memoryview(data))
    data = bytearray(m.push_refusal(REFUSAL))
    data[12] = 0
    with pytest.raises(MessageError, match="unknown reason 0"):
        m.pull_refusal(memoryview(data))


def test_a_blob_part_stays_inside_its_blob():
    for part in (m.BlobPart(DIGEST, 11, 20, b"0123456789"), m.BlobPart(DIGEST, 2**64 - 1, 20, b"x"),
                 m.BlobPart(DIGEST, 0, 3, b"1234")):
        with pytest.raises(MessageError, match="blob part"):
            m.pull_blob_part(memoryview(m.push_blob_part(part)))


def test_a_long_detail_is_cut_between_characters():
    refusal = m.Refusal(1, 1, m.Reason.FAILED, 0, "é" * 400)
    back = m.pull_refusal(memoryview(m.push_refusal(refusal)))
    assert back.detail == "é" * 256


def test_times_are_clamped_to_what_fits():
    assert [m.clamp_us(s) for s in (-1.0, 0.0, 1.5e-6, 1.0, 1e9)] == [0, 0, 2, 1_000_000, 2**32 - 1]


def test_a_detail_that_is_no_text_is_sent_as_far_as_it_is():
    """Names of files come into messages, and may hold any bytes."""
    refusal = m.Refusal(1, 2, m.Reason.FAILED, 0, "no file b\udcffd")
    assert m.pull_refusal(memoryview(m.push_refusal(refusal))).detail == "no file b?d"
