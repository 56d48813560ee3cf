"""Ending a step of the batch for which nobody waits any more."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence

from edged.workers.generation import Generation
from edged.workers.llama import Llama

__all__ = ["Abort", "over"]

_LONGEST_STEP = 60.0  # seconds; a deadline later than this needs no alarm


def over(g: Generation) -> bool:
    """Taken back, or its time is up."""
    return g.cancelled() or time.monotonic() >= g.ask.deadline


class Abort:
    """Tells llama.cpp to stop in the middle of a step. `poke` may be called from any thread."""

    def __init__(self, llama: Llama) -> None:
        self._llama = llama
        self._watch = threading.Lock()
        self._who: Sequence[Generation] = ()

    def poke(self) -> None:
        """Somebody was taken back: end the step if it computes for nobody else."""
        with self._watch:
            if self._who and all(map(over, self._who)):
                self._llama.stop(True)

    @contextlib.contextmanager
    def during(self, who: Sequence[Generation]) -> Iterator[None]:
        """A step that may be ended when all of `who` have been taken back or their time is up; of nobody: one that may not."""
        with self._watch:
            self._who = who
        self.poke()
        last = max((g.ask.deadline for g in who), default=float("inf")) - time.monotonic()
        alarm = threading.Timer(max(0.0, last), self.poke) if last < _LONGEST_STEP else None
        if alarm is not None:
            alarm.daemon = True
            alarm.start()
        try:
            yield
        finally:
            if alarm is not None:
                alarm.cancel()
            with self._watch:
                self._who = ()
                self._llama.stop(False)
