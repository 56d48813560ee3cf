"""The loop of a child process: frames in, a handler a verb, frames out.

Calls run on the main thread, one after another, or, with `threads`, each on its own. Frames are taken off the socket by a reader
thread, so a cancel is seen while native code computes, and the process ends as soon as the daemon hangs up; where calls are too
short for that (`brief`) the main thread reads them itself, which saves two changes of thread a call.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import queue
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from edged.domain.errors import EdgedError, ModelBroken
from edged.ipc.frames import FrameDecoder, encode
from edged.workers import wall

__all__ = ["LATER", "Call", "Connection", "Handler", "arguments", "serve"]

LATER = object()  # a handler's word that the call goes on and `Connection.end` will be called for it
_PR_SET_PDEATHSIG = 1


class Call:
    """One call being served. `cancelled` is set from the reader thread; `chunk` sends a part of the answer."""

    __slots__ = ("_connection", "cancelled", "id", "params", "verb")

    def __init__(self, connection: Connection, call_id: int, verb: str, params: Any) -> None:
        self._connection = connection
        self.id = call_id
        self.verb = verb
        self.params = params
        self.cancelled = threading.Event()

    def chunk(self, data: Any) -> None:
        self._connection.send(["chunk", self.id, data])


Handler = Callable[[Call], Any]


class Connection:
    """The child's end of the socket. `send` may be called from any thread."""

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)
        self._socket.setblocking(True)
        self._lock = threading.Lock()
        self._gathered: bytearray | None = None
        self._calls: dict[int, Call] = {}
        self.on_cancel: Callable[[], None] | None = None
        self.on_hangup: Callable[[], None] | None = None
        self.inbox: queue.SimpleQueue[Call] = queue.SimpleQueue()

    def send(self, frame: list[Any]) -> None:
        data = encode(frame)
        with self._lock, contextlib.suppress(OSError):
            if self._gathered is None:
                self._socket.sendall(data)
            else:
                self._gathered += data

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """What is sent meanwhile goes out as one: the daemon wakes up once."""
        with self._lock:
            self._gathered = bytearray()
        try:
            yield
        finally:
            with self._lock, contextlib.suppress(OSError):
                gathered, self._gathered = self._gathered, None
                if gathered:
                    self._socket.sendall(gathered)

    def event(self, name: str, data: Any) -> None:
        """Tell the daemon something that it did not ask for."""
        self.send(["event", name, data])

    def run(self, call: Call, handler: Handler | None) -> None:
        """Serve one call and send its outcome; an unexpected error is reported, and its trace goes to the log."""
        try:
            if handler is None:
                raise LookupError(f"unknown verb {call.verb!r}")
            outcome = handler(call)
        except EdgedError as error:
            if isinstance(error, ModelBroken) and wall.looks_like_it(error):
                wall.fell()
            outcome = error
        except Exception as error:
            if wall.looks_like_it(error):
                wall.fell()
            traceback.print_exc()
            outcome = EdgedError(f"{type(error).__name__}: {error}")
        if outcome is not LATER:
            self.end(call, outcome)

    def end(self, call: Call, outcome: Any) -> None:
        """Send a call's outcome: a result, or the `EdgedError` that it failed with."""
        self._calls.pop(call.id, None)
        failed = isinstance(outcome, EdgedError)
        self.send(["fail", call.id, outcome.to_wire()] if failed else ["done", call.id, outcome])

    def calls(self) -> Iterator[Call]:
        """As they come, until the daemon is gone."""
        decoder = FrameDecoder()
        while data := self._receive():
            for kind, call_id, *rest in decoder.feed(data):
                if kind == "call":
                    call = self._calls[call_id] = Call(self, call_id, *rest)
                    yield call
                elif kind == "cancel" and (running := self._calls.get(call_id)):
                    running.cancelled.set()
                    if self.on_cancel is not None:
                        self.on_cancel()

    def read_forever(self) -> None:
        """The reader thread. Ends the process when the daemon is gone."""
        for call in self.calls():
            self.inbox.put(call)
        if self.on_hangup is not None:
            self.on_hangup()
        os._exit(0)

    def _receive(self) -> bytes:
        try:
            return self._socket.recv(1 << 16)
        except OSError:
            return b""


def arguments(argv: Sequence[str] | None = None) -> tuple[Connection, list[str]]:
    """Read the daemon's arguments, tie this process's life to the daemon's, return the connection and what is left."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--wall", type=int)
    known, rest = parser.parse_known_args(argv)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; only the daemon decides
    _die_with(known.parent)
    with contextlib.suppress(OSError):  # the kernel should take a child before it takes the daemon
        Path("/proc/self/oom_score_adj").write_text("500")
    if known.wall is not None:
        wall.stand(known.wall)
    return Connection(known.fd), rest


def serve(
    connection: Connection, handlers: Mapping[str, Handler], *, threads: bool = False, brief: bool = False
) -> None:
    """Serve until the daemon hangs up. Never returns."""
    if brief:
        for call in connection.calls():
            connection.run(call, handlers.get(call.verb))
        os._exit(0)
    threading.Thread(target=connection.read_forever, name="reader", daemon=True).start()
    while True:
        call = connection.inbox.get()
        handler = handlers.get(call.verb)
        if threads:
            threading.Thread(target=connection.run, args=(call, handler), name=call.verb, daemon=True).start()
        else:
            connection.run(call, handler)


def _die_with(parent: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before the request took hold
        sys.exit(0)
