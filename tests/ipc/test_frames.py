"""The codec, without a socket: however the bytes are cut, the same values come out, or the peer is refused."""

from __future__ import annotations

import random
import struct
from typing import Any

import msgpack
import pytest

from edged.ipc.frames import LIMIT, FrameDecoder, FrameError, encode

VALUES: list[Any] = [
    ["call", 1, "generate", {"text": "Grüße, 中文 \N{HONEYBEE}", "n": [1, -1, 2**63, 0.5, None, True]}],
    ["chunk", 1, {"text": ""}],
    ["event", "raw", b"\x00\xff"],
    [],
    ["cancel", 2**32],
    ["done", 7, {3: "an integer key"}],
]
STREAM = b"".join(encode(value) for value in VALUES)


@pytest.mark.parametrize("cut", range(len(STREAM) + 1))
def test_a_cut_anywhere_changes_nothing(cut: int) -> None:
    decoder = FrameDecoder()
    assert decoder.feed(STREAM[:cut]) + decoder.feed(STREAM[cut:]) == VALUES


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 64])
def test_pieces_of_any_size_change_nothing(size: int) -> None:
    decoder = FrameDecoder()
    pieces = [STREAM[at : at + size] for at in range(0, len(STREAM), size)]
    assert [value for piece in pieces for value in decoder.feed(piece)] == VALUES


@pytest.mark.parametrize("length", [65, 2**31, 2**32 - 1])
def test_an_oversize_frame_is_refused_at_its_header(length: int) -> None:
    with pytest.raises(FrameError, match=str(length)):
        FrameDecoder(limit=64).feed(struct.pack(">I", length))


def test_the_limit_is_inclusive_at_both_ends() -> None:
    value = b"x" * 62  # and two bytes in which msgpack says so
    frame = encode(value, limit=64)
    assert FrameDecoder(limit=64).feed(frame) == [value]
    with pytest.raises(FrameError):
        encode(b"x" * 63, limit=64)


def test_the_default_limit_refuses_more() -> None:
    with pytest.raises(FrameError, match=str(LIMIT)):
        FrameDecoder().feed(struct.pack(">I", LIMIT + 1))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",  # never used by msgpack
        b"\x93\x01",  # a list that ends too early
        b"\x01\x02",  # two values
        b"\xa2\xff\xfe",  # no UTF-8
        b"\x81\x90\x01",  # a map whose key is a list
        b"\x91" * 5000,  # deeper than anybody means
    ],
)
def test_a_body_that_is_not_msgpack_is_a_frame_error(body: bytes) -> None:
    with pytest.raises(FrameError):
        FrameDecoder().feed(struct.pack(">I", len(body)) + body)


@pytest.mark.parametrize("seed", range(20))
def test_garbage_gives_values_or_a_frame_error_and_nothing_else(seed: int) -> None:
    dice = random.Random(seed)
    for _ in range(100):
        body = dice.randbytes(dice.randrange(1, 24))
        try:
            [value] = FrameDecoder().feed(struct.pack(">I", len(body)) + body)
        except FrameError:
            continue
        assert value is None or msgpack.packb(value) is not None


@pytest.mark.parametrize("value", ["\ud800", 2**64, -(2**63) - 1, object(), {1, 2}])
def test_what_cannot_be_sent_is_a_frame_error(value: object) -> None:
    with pytest.raises(FrameError):
        encode(["call", 1, value])
