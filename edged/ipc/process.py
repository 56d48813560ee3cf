"""Child processes as context managers: started with a socket, ended by hanging up, killed if they do not listen.

A child is `python -m edged.workers.NAME --fd N --parent PID ...`. It ends by itself when its socket closes and is
killed by the kernel when the daemon dies (PDEATHSIG, set by the child: see `workers/serve`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Any, Self

from edged.ipc.channel import Channel

__all__ = ["Child", "ChildExit", "ChildState", "plain_environment"]


class ChildState(StrEnum):
    NEW = "new"
    RUNNING = "running"
    STOPPING = "stopping"
    ENDED = "ended"


# What a child needs of the daemon's environment; keys and tokens are none of it.
_KEPT = ("PATH", "HOME", "LANG", "TZ", "TMPDIR", "VIRTUAL_ENV", "LD_LIBRARY_PATH")
_KEPT_FAMILIES = ("LC_", "PYTHON", "OMP_", "GOMP_", "GGML_", "MALLOC_")


def plain_environment(inherited: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The daemon's environment without what is nobody else's business, and without onnxruntime's reports to its makers."""
    kept = {k: v for k, v in inherited.items() if k in _KEPT or k.startswith(_KEPT_FAMILIES)}
    return {**kept, "ORT_DISABLE_TELEMETRY": "1"}


@dataclass(frozen=True, slots=True)
class ChildExit:
    """How a child ended: an exit status, or the signal that killed it."""

    status: int | None
    signal: int | None

    def __str__(self) -> str:
        if self.signal is None:
            return f"exit status {self.status}"
        with contextlib.suppress(ValueError):
            return signal.Signals(self.signal).name
        return f"signal {self.signal}"


class Child:
    """One worker process and its channel.

    `module` is "edged.workers.NAME"; `extra` are further arguments; `env` replaces `plain_environment()` when given. Entering
    starts it, leaving hangs up, waits `grace` seconds, kills and reaps. `exited` is done as soon as the process has ended.
    """

    def __init__(
        self,
        module: str,
        extra: Sequence[str] = (),
        *,
        env: Mapping[str, str] | None = None,
        on_event: Callable[[str, Any], None] | None = None,
        grace: float = 1.0,
    ) -> None:
        self._module = module
        self._extra = extra
        self._env = env
        self._on_event = on_event
        self._grace = grace
        self._process: asyncio.subprocess.Process | None = None
        self._reaper: asyncio.Task[None] | None = None
        self._channel: Channel | None = None
        self.state = ChildState.NEW
        self.exited: asyncio.Future[ChildExit] = asyncio.get_running_loop().create_future()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def __aenter__(self) -> Self:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            ours.setblocking(False)
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", self._module, "--fd", str(theirs.fileno()), "--parent", str(os.getpid())),
                *self._extra,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=sys.__stderr__.fileno() if sys.__stderr__ else None,
                pass_fds=(theirs.fileno(),),
                env=plain_environment() if self._env is None else self._env,
                start_new_session=True,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self.state = ChildState.RUNNING
        self._reaper = asyncio.create_task(self._reap(self._process), name=f"reap:{self._module}")
        self._channel = await Channel.over(ours, self._on_event)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.state is ChildState.RUNNING:
            self.state = ChildState.STOPPING
        if self._channel is not None:
            self._channel.close()
        assert self._reaper is not None
        try:
            await asyncio.wait([self._reaper], timeout=self._grace)
        finally:
            self.kill()
            await asyncio.shield(self._reaper)

    async def call(self, verb: str, params: Any = None, on_chunk: Callable[[Any], None] | None = None) -> Any:
        """See `Channel.call`."""
        assert self._channel is not None
        return await self._channel.call(verb, params, on_chunk)

    def kill(self) -> None:
        """SIGKILL, at once; harmless when it has ended."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                # Not Process.kill: it polls first, and so steals a crashed child's exit status from asyncio's watcher.
                os.kill(self._process.pid, signal.SIGKILL)

    async def _reap(self, process: asyncio.subprocess.Process) -> None:
        code = await process.wait()
        self.state = ChildState.ENDED
        if not self.exited.done():
            self.exited.set_result(ChildExit(code, None) if code >= 0 else ChildExit(None, -code))
