"""A child with the real loop and verbs that misbehave in every way a child can.

With the argument "deaf" it does not end when the daemon hangs up.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Any

from edged.domain.errors import Cancelled, QueueFull
from edged.workers.serve import Call, Connection, arguments, serve


class Verbs:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def echo(self, call: Call) -> Any:
        return call.params

    def count(self, call: Call) -> str:
        for number in range(call.params):
            call.chunk(number)
        return "counted"

    def tell(self, call: Call) -> None:
        self._connection.event("told", call.params)

    def refuse(self, call: Call) -> None:
        raise QueueFull("no room", retry_after=2.5, limit=3)

    def bug(self, call: Call) -> None:
        raise RuntimeError("a bug")

    def wait(self, call: Call) -> None:
        """Says that it has begun, ends when it is cancelled, and tells about it."""
        call.chunk("begun")
        call.cancelled.wait()
        self._connection.event("cancelled", call.params)
        raise Cancelled("cancelled")

    def crash(self, call: Call) -> None:
        signal.raise_signal(call.params)  # at this thread, so that it does not come to an answer

    def leave(self, call: Call) -> None:
        os._exit(call.params)

    def garbage(self, call: Call) -> None:
        os.write(self._connection._socket.fileno(), call.params)


def be_deaf() -> None:
    """Hold a hang-up as a wedged driver would: nothing of Python runs any more when the reader wants to end."""
    end = os._exit

    def hold(status: int) -> None:
        if threading.current_thread().name == "reader":
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
            while True:
                time.sleep(3600)
        end(status)

    os._exit = hold  # type: ignore[assignment]


def main() -> None:
    connection, rest = arguments()
    if "deaf" in rest:
        be_deaf()
    verbs = Verbs(connection)
    names = ("echo", "count", "tell", "refuse", "bug", "wait", "crash", "leave", "garbage")
    serve(connection, {name: getattr(verbs, name) for name in names}, threads=True)


if __name__ == "__main__":
    main()
