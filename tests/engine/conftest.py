"""A pool over scripted workers: real processes, real frames, pretended models."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from edged.domain.messages import Message, Priority
from edged.domain.meters import Meters
from edged.domain.ports import Generation
from edged.domain.resources import Budget, Headroom, ModelSpec
from edged.engine.allowance import Surroundings
from edged.engine.pool import Pool
from edged.engine.quarantine import Quarantine

from .gguf_header import write

WORKER = "fake_worker"
MakePool = Callable[..., AbstractAsyncContextManager[Pool]]


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> str:
    """The scripted worker's module name, importable in children."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))
    return WORKER


@pytest.fixture
def make_pool(tmp_path: Path, worker: str) -> MakePool:
    """make_pool("a", "b", script={...}, budget=bytes, spec={...}): models are files of 1 MB in tmp_path."""

    @asynccontextmanager
    async def make(
        *names: str,
        script: dict[str, Any] | None = None,
        budget: int = 1 << 40,
        rest: float = 30.0,
        spec: dict[str, Any] | None = None,
        walls: bool = True,
        headroom: Callable[[], Headroom] = Headroom,
        clock: Callable[[], float] = time.monotonic,
    ) -> AsyncIterator[Pool]:
        models = {}
        for name in names:
            file = write(tmp_path / f"{name}.gguf", size=1 << 20, general__name=name)
            if script is not None:
                file.with_suffix(".json").write_text(json.dumps(script))
            models[name] = ModelSpec(name, str(file), **{"streams": 1, **(spec or {})})
        quarantine = Quarantine(base=rest)
        state = tmp_path / "state"
        kills = state.parent / "a.kills"
        around = Surroundings(headroom, lambda: kills.stat().st_size if kills.exists() else 0)
        async with Pool(
            models,
            Budget(budget, walls=walls),
            state,
            Meters(),
            clock=clock,
            worker_module=worker,
            quarantine=quarantine,
            surroundings=around,
        ) as pool:
            yield pool

    return make


def ask(text: str, model: str = "a", priority: Priority = Priority.NORMAL, **more: Any) -> Generation:
    return Generation(model, (Message("user", text),), priority=priority, **more)


async def until(check: Callable[[], bool]) -> None:
    """Until another process, or the pool's own bookkeeping, has come so far; neither has an event to offer."""
    async with asyncio.timeout(10):
        while not check():  # noqa: ASYNC110
            await asyncio.sleep(0.001)
