"""The wall around a worker's memory, and telling a worker that ran into it from one that crashed.

The stated need is an estimate; the wall stands a good way behind it, for what goes wrong: a leak, a file that lies. Where the
daemon may make control groups, the kernel counts what is really used. Else the worker limits its own RLIMIT_DATA, which counts what
it has asked for, touched or not: stacks of threads, and what allocators keep for themselves. Weights that are
mapped from their file are not in it, and in a group they can be taken back.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from edged.domain.errors import EngineCrashed, OutOfMemory
from edged.engine.allowance import Surroundings
from edged.ipc.memory import EX_MEMORY
from edged.ipc.process import ChildExit

__all__ = ["OPEN", "By", "Kills", "Wall", "crash_or_memory"]

_SIGKILL = 9
_MIB = 1 << 20
_MARGIN = 64 * _MIB
_ASKED_ONLY = 128 * _MIB  # asked for and never touched, as measured: Python, llama.cpp, its arenas
_ASKED_PER_CORE = 16 * _MIB  # a thread's stack and its arena


By = Literal["kernel", "wall"]


class Kills:
    """The kernel's kills for memory in the daemon's group, each of which explains the end of one worker."""

    def __init__(self, count: Callable[[], int]) -> None:
        self.count = count
        self._explained = 0

    def explain(self, before: int) -> bool:
        """Is there one that was not counted in `before` and has explained nothing yet?"""
        known = max(before, self._explained)
        if self.count() <= known:
            return False
        self._explained = known + 1
        return True


@dataclass(frozen=True, slots=True)
class Wall:
    """Holds the worker of one model to its stated need of `size` bytes and a margin; `on` false holds nobody."""

    name: str
    size: int
    surroundings: Surroundings
    kills: Kills
    on: bool = True

    @property
    def arguments(self) -> tuple[str, ...]:
        """For a worker that has to hold itself."""
        if not self.on or self.surroundings.around is not None:
            return ()
        cores = os.cpu_count() or 1
        return ("--wall", str(self._wide + _ASKED_ONLY + cores * _ASKED_PER_CORE))

    @property
    def _wide(self) -> int:
        return self.size + self.size // 4

    @contextmanager
    def around(self, pid: int) -> Iterator[Callable[[ChildExit], By | None]]:
        """While a worker lives. Yields what tells, once, when it has ended, who ended it for its memory; None: nobody did."""
        before, around = self.kills.count(), self.surroundings.around
        if not self.on or around is None:
            yield lambda ended: self._who(ended, before, 0)
            return
        with around(self.name, pid, self._wide + _MARGIN) as inside:
            yield lambda ended: self._who(ended, before, inside())

    def _who(self, ended: ChildExit, before: int, inside: int) -> By | None:
        if ended.status == EX_MEMORY:
            return "wall"
        if ended.signal != _SIGKILL or not (self.kills.explain(before) or inside):
            return None
        return "wall" if inside else "kernel"


OPEN = Wall("", 0, Surroundings(), Kills(lambda: 0), on=False)


def crash_or_memory(worker: str, doing: str, how: str, by: By | None) -> EngineCrashed:
    """The error of a worker that ended; `doing` says while it did what, or nothing; `how` is its exit."""
    doing = doing and f" {doing}"
    if by == "wall":
        return OutOfMemory(f"the worker of {worker} ran out of its memory wall{doing}", retry_after=1.0, by=by)
    if by == "kernel":
        return OutOfMemory(
            f"the kernel ended the worker of {worker}{doing}, for the device is out of memory", retry_after=5.0, by=by
        )
    return EngineCrashed(f"the worker of {worker} ended{doing} ({how})", retry_after=1.0)
