"""The daemon's end of a child's socket: calls with streamed parts, cancellation, and events.

Frames to the child: `["call", id, verb, params]`, `["cancel", id]`.
Frames from it: `["chunk", id, data]`, `["done", id, result]`, `["fail", id, error]`, `["event", name, data]`.
A call that is cancelled here is cancelled there and forgotten; what the child still sends for it is dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
from collections.abc import Callable
from typing import Any

from edged.domain.errors import error_from_wire
from edged.ipc.frames import LIMIT, FrameDecoder, FrameError, encode

__all__ = ["Channel", "ChannelClosed"]


class ChannelClosed(Exception):
    """The child's end is gone: it ended, crashed, or broke the framing."""


class _Pending:
    __slots__ = ("future", "on_chunk")

    def __init__(self, future: asyncio.Future[Any], on_chunk: Callable[[Any], None] | None) -> None:
        self.future = future
        self.on_chunk = on_chunk


class Channel:
    """One child's connection; owned by one event loop. `closed` is done when the peer is gone."""

    def __init__(self, on_event: Callable[[str, Any], None] | None = None, limit: int = LIMIT) -> None:
        self._on_event = on_event
        self._decoder = FrameDecoder(limit)
        self._limit = limit
        self._pending: dict[int, _Pending] = {}
        self._ids = itertools.count(1)
        self._transport: asyncio.Transport | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @classmethod
    async def over(cls, sock: socket.socket, on_event: Callable[[str, Any], None] | None = None) -> Channel:
        """Take over a connected stream socket."""
        channel = cls(on_event)
        await asyncio.get_running_loop().create_unix_connection(lambda: _Protocol(channel), sock=sock)
        return channel

    async def call(self, verb: str, params: Any = None, on_chunk: Callable[[Any], None] | None = None) -> Any:
        """The child's result. Raises what it raised (an `EdgedError`), or `ChannelClosed`."""
        if self._transport is None or self.closed.done():
            raise ChannelClosed(verb)
        call_id = next(self._ids)
        pending = self._pending[call_id] = _Pending(asyncio.get_running_loop().create_future(), on_chunk)
        try:
            await self._writable.wait()
            self._send(["call", call_id, verb, params])
            return await pending.future
        except asyncio.CancelledError:
            with contextlib.suppress(ChannelClosed):  # a call that cannot be cancelled there is over there
                self._send(["cancel", call_id])
            raise
        finally:
            self._pending.pop(call_id, None)

    def close(self) -> None:
        """Hang up; the child ends when it sees it."""
        if self._transport is not None:
            self._transport.close()

    def _send(self, frame: list[Any]) -> None:
        data = encode(frame, self._limit)
        if self._transport is None or self._transport.is_closing():
            raise ChannelClosed("the channel is closing")
        self._transport.write(data)

    def _received(self, data: bytes) -> None:
        try:
            for frame in self._decoder.feed(data):
                self._dispatch(frame)
        except (FrameError, ValueError, TypeError, LookupError, AttributeError) as error:
            self._lost(ChannelClosed(f"the child broke the protocol: {error}"))
            self.close()

    def _dispatch(self, frame: Any) -> None:
        if not isinstance(frame, list):
            raise TypeError("a frame is not a list")
        kind = frame[0]
        if kind == "event":
            if self._on_event is not None:
                self._on_event(frame[1], frame[2])
            return
        pending = self._pending.get(frame[1])
        if pending is None or pending.future.done():
            return
        if kind == "chunk":
            if pending.on_chunk is not None:
                pending.on_chunk(frame[2])
        elif kind == "done":
            pending.future.set_result(frame[2])
        elif kind == "fail":
            pending.future.set_exception(error_from_wire(frame[2]))
        else:
            raise ValueError(f"unknown frame kind {kind!r}")

    def _lost(self, error: ChannelClosed) -> None:
        for pending in self._pending.values():
            if not pending.future.done():
                pending.future.set_exception(error)
        if not self.closed.done():
            self.closed.set_result(None)


class _Protocol(asyncio.Protocol):
    """Hands the transport's callbacks to its channel."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._channel._transport = transport

    def data_received(self, data: bytes) -> None:
        self._channel._received(data)

    def pause_writing(self) -> None:
        self._channel._writable.clear()

    def resume_writing(self) -> None:
        self._channel._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._channel._writable.set()
        self._channel._lost(ChannelClosed("the child hung up"))
