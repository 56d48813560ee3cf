"""What the pool knows of a configured model whether it is resident or not: its file's facts and its counts."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from edged.domain.errors import ModelBroken
from edged.domain.resources import ModelSpec
from edged.engine import scheduler
from edged.engine.catalog import ModelFacts, describe, need, resolve
from edged.engine.encoders import describe_encoder, need_of_encoder, stamp_of_encoder
from edged.engine.resident import Resident

__all__ = ["Job", "Record"]

_LOOK_SECONDS = 1.0  # a look is a dozen system calls, and a short sentence takes two milliseconds


@dataclass(slots=True)
class Job:
    """One caller that waits for a model. `granted` gets the resident, taken for it."""

    id: int
    model: str
    size: int
    rank: int
    deadline: float
    arrived: float
    granted: asyncio.Future[Resident]

    def view(self) -> scheduler.Waiting:
        return scheduler.Waiting(self.id, self.model, self.size, self.rank, self.deadline, self.arrived)


@dataclass(slots=True)
class Record:
    """One configured model. `facts` are None until somebody asked for them; `restarts` counts lost workers."""

    spec: ModelSpec
    requests: int = 0
    restarts: int = 0
    load_seconds: float = 0.0
    mode: str | None = None
    facts: ModelFacts | None = None
    _raised: int = 0
    _stamp: tuple[int, int] = (0, 0)
    _adapters: int = 0
    _looked: float = float("-inf")
    _reading: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def read(self, state_dir: Path) -> ModelFacts:
        """What the files say, read again when one was replaced, at the latest `_LOOK_SECONDS` later. Raises `ModelBroken`."""
        if self.facts is not None and time.monotonic() - self._looked < _LOOK_SECONDS:
            return self.facts
        encoder, path = self.spec.kind == "encoder", self.spec.path
        stamp = stamp_of_encoder(path) if encoder else _stamp_of(resolve(path))
        self._adapters = sum(_stamp_of(Path(file))[0] for file in self.spec.adapters.values())
        async with self._reading:  # a digest of gigabytes is made once, not once a caller
            if self.facts is None or self._stamp != stamp:
                look = partial(describe_encoder, path) if encoder else partial(describe, path, state_dir)
                self.facts, self._stamp = await asyncio.to_thread(look), stamp
                self._raised = 0
            self._looked = time.monotonic()
            return self.facts

    def size(self) -> int:
        """Bytes that it holds when resident, once `read`: what its files say, or more where that was not enough."""
        return max(self._stated(), self._raised)

    def _stated(self) -> int:
        assert self.facts is not None
        if self.spec.kind == "encoder":
            return need_of_encoder(self.facts)
        return need(self.facts, self.spec).total + self._adapters

    def starved(self, size: int, budget: int) -> bool:
        """A worker of `size` bytes died for want of memory: from now on it needs a quarter more, within the budget. False when
        that is no more than it had."""
        self._raised = max(self._raised, min(budget, size + size // 4))
        return self._raised > size

    def note(self, resident: Resident) -> None:
        """Keep what a resident found out."""
        self.mode = resident.mode or self.mode
        self.load_seconds = resident.load_seconds or self.load_seconds

    def entry(self, resident: Resident | None, rest: float | None) -> dict[str, Any]:
        """The model's line of `Pool.status`. `rest` is for how many seconds it is quarantined, or None."""
        if resident is not None:
            self.note(resident)
            state = {"idle": "ready"}.get(resident.state, resident.state)
        else:
            state = "cold" if rest is None else "quarantined"
        trained = self.facts.context_length if self.facts else self.spec.context_length
        return {
            "name": self.spec.name,
            "state": state,
            "pid": resident.pid if resident else None,
            "rss_bytes": resident.rss() if resident else 0,
            "bytes": resident.size if resident else 0,
            "load_seconds": round(self.load_seconds, 3),
            "requests": self.requests,
            "restarts": self.restarts,
            "mode": self.mode,
            "context_length": min(self.spec.context_length or trained, trained),
            "quantization": self.facts.quantization if self.facts else None,
            "retry_after": None if rest is None else round(rest, 1),
        }


def _stamp_of(file: Path) -> tuple[int, int]:
    try:
        status = file.stat()
    except (OSError, ValueError) as error:
        raise ModelBroken(f"cannot read the model {file.name}: {error}", path=str(file)) from error
    return status.st_size, status.st_mtime_ns
