"""The codec between the daemon and its children, without I/O.

A frame is a 4-byte big-endian length and that many bytes of msgpack. Both ends state the longest frame they take; a longer
one is refused when its header arrives, before a byte of it is buffered. A frame's value is a list that starts with its kind.
"""

from __future__ import annotations

import struct
from typing import Any

import msgpack

__all__ = ["LIMIT", "FrameDecoder", "FrameError", "encode"]

LIMIT = 16 * 1024 * 1024
_HEADER = struct.Struct(">I")


class FrameError(Exception):
    """The peer broke the framing; the connection cannot go on."""


def encode(value: Any, limit: int = LIMIT) -> bytes:
    """One frame. Raises `FrameError` if it would exceed `limit` bytes, or holds what msgpack cannot say."""
    try:
        body: bytes = msgpack.packb(value, use_bin_type=True)
    except (ValueError, TypeError, OverflowError) as error:
        raise FrameError(f"a value cannot be sent: {error}") from error
    if len(body) > limit:
        raise FrameError(f"a frame of {len(body)} bytes exceeds the limit of {limit}")
    return _HEADER.pack(len(body)) + body


class FrameDecoder:
    """Feed bytes as they come, get whole values. After a `FrameError` the decoder is spent."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Any]:
        self._buffer += data
        values = []
        while len(self._buffer) >= _HEADER.size:
            (length,) = _HEADER.unpack_from(self._buffer)
            if length > self._limit:
                raise FrameError(f"a frame of {length} bytes exceeds the limit of {self._limit}")
            end = _HEADER.size + length
            if len(self._buffer) < end:
                break
            body = bytes(self._buffer[_HEADER.size : end])
            del self._buffer[:end]
            try:
                values.append(msgpack.unpackb(body, raw=False, strict_map_key=False))
            except (ValueError, TypeError, OverflowError, msgpack.UnpackException) as error:
                raise FrameError(f"a frame is not msgpack: {error}") from error
        return values
