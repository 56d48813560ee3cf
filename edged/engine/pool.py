"""The pool of resident models: a `ChatModel` that loads, runs, cancels, evicts and quarantines.

The rule of the file: all state changes happen on the event loop, between awaits; `scheduler.decide` says what to do and
`_tick` does it. Every child belongs to a task of the pool's TaskGroup, so leaving the pool leaves no process behind, and a bug
in here ends the daemon instead of hiding. Nothing wakes up by itself but for the next keep_alive, and each second while
a job waits for memory that others have.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import math
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from edged.domain.errors import (
    DeadlineExceeded,
    EdgedError,
    EngineCrashed,
    NotFound,
    OutOfMemory,
    QueueFull,
    Unavailable,
)
from edged.domain.messages import Priority
from edged.domain.meters import Meters
from edged.domain.ports import Completion, Generation
from edged.domain.resources import Budget, ModelSpec, Pressure
from edged.engine import scheduler
from edged.engine.allowance import Gauge, Surroundings
from edged.engine.ledger import Ledger
from edged.engine.proof import Prover
from edged.engine.quarantine import Quarantine
from edged.engine.records import Job, Record
from edged.engine.refusals import refusal
from edged.engine.resident import Resident
from edged.engine.wall import Kills, Wall

__all__ = ["Pool"]

log = logging.getLogger(__name__)

_WAITING_MAX = 256
_ENCODER_MODULE = "edged.workers.onnx"
_NOWHERE = Surroundings()


class Pool:
    """A `ChatModel` over local workers: `async with Pool(...) as pool`.

    `budget` bounds what residents hold together; `surroundings` say when it is less. `state_dir` keeps proofs and digests.
    `clock` is monotonic seconds.
    """

    def __init__(
        self,
        models: Mapping[str, ModelSpec],
        budget: Budget,
        state_dir: Path,
        meters: Meters,
        *,
        clock: Callable[[], float] = time.monotonic,
        worker_module: str = "edged.workers.gguf",
        quarantine: Quarantine | None = None,
        surroundings: Surroundings = _NOWHERE,
    ) -> None:
        self._state_dir = state_dir
        self._meters = meters
        self._clock = clock
        self._module = worker_module
        self._ledger = Ledger(budget)
        self._budget, self._surroundings = budget, surroundings
        self._gauge = Gauge(budget, surroundings, lambda: sum(r.taken() for r in self._residents.values()), clock)
        self._kills = Kills(surroundings.oom_kills)
        self._prover = Prover(state_dir, worker_module)
        self._quarantine = quarantine or Quarantine()
        self._records = {name: Record(spec) for name, spec in models.items()}
        self._residents: dict[str, Resident] = {}
        self._waiting: dict[int, Job] = {}
        self._ids = itertools.count(1)
        self._group = asyncio.TaskGroup()
        self._timer: asyncio.TimerHandle | None = None
        self._closing = False
        self._pressure = Pressure.NONE

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing = True
        if self._timer is not None:
            self._timer.cancel()
        for job in list(self._waiting.values()):
            self._refuse(job, Unavailable("the daemon is stopping", retry_after=5.0))
        for resident in self._residents.values():
            resident.leave()
        if isinstance(error, asyncio.CancelledError):
            await self._group.__aexit__(kind, error, trace)
        else:  # the body's own error must not come out wrapped in a group; the residents are leaving already
            await self._group.__aexit__(None, None, None)

    async def generate(self, generation: Generation) -> Completion:
        """One assistant turn.

        Raises NotFound, BadRequest (a prompt too long, a bad grammar), DeadlineExceeded, ModelWontFit, ModelBroken,
        EngineCrashed, QueueFull, Unavailable. Cancelling the task stops the work in the worker too.
        """
        async with self._within(generation.deadline_monotonic):
            return await self._generate(generation)

    async def infer(
        self, model: str, verb: str, params: dict[str, Any], deadline_monotonic: float | None = None
    ) -> Any:
        """Have an encoder do one thing: `verb` and `params` are those of `workers/onnx`. Raises as `generate` does."""
        async with self._within(deadline_monotonic):
            resident = await self._admit(model, Priority.NORMAL, deadline_monotonic)
            with self._serving(model, "inferences"):
                return await resident.run(verb, params, Priority.NORMAL.rank)

    @contextlib.contextmanager
    def _serving(self, model: str, what: str) -> Iterator[None]:
        """Counts it, and what became of it."""
        self._records[model].requests += 1
        self._meters.count(f"engine.{what}")
        try:
            yield
        except EngineCrashed as error:
            error.retry_after = max(error.retry_after or 0.0, self._rest(model))
            raise
        self._quarantine.answered(model)

    @contextlib.asynccontextmanager
    async def _within(self, deadline: float | None) -> AsyncIterator[None]:
        delay = None if deadline is None else max(0.0, deadline - self._clock())
        try:
            async with asyncio.timeout(delay) as limit:
                yield
        except TimeoutError:
            if not limit.expired():
                raise
            self._meters.count("engine.deadlines")
            raise DeadlineExceeded("the deadline passed before the model had answered") from None

    async def _generate(self, generation: Generation) -> Completion:
        arrived = self._clock()
        resident = await self._admit(generation.model, generation.priority, generation.deadline_monotonic)
        granted = self._clock()
        loading = max(0.0, (resident.ready_at or 0.0) - max(arrived, resident.began))
        with self._serving(generation.model, "generations"):
            completion = await resident.generate(generation)
        self._meters.count("engine.tokens", completion.usage.completion)
        queued = completion.queued_seconds + max(0.0, granted - arrived - loading)
        return replace(completion, queued_seconds=queued, load_seconds=loading)

    async def warm(self, name: str) -> None:
        """Load a model now, so that the first request does not pay for it. Raises as `generate` does."""
        resident = await self._admit(name, Priority.LOW, None)
        resident.release(Priority.LOW.rank)

    def relieve(self, pressure: Pressure) -> None:
        """SOME: idle models are evicted, at once and as they become idle. FULL: and nothing is loaded. NONE ends both."""
        self._pressure = pressure
        self._meters.count(f"engine.pressure.{pressure.name.lower()}")
        self._gauge.stale()
        self._tick()

    def memory(self) -> dict[str, Any]:
        """What models may hold and do; see `Gauge.report`."""
        return self._gauge.report(self._ledger.held)

    def proofs(self) -> list[dict[str, Any]]:
        """How models were proven on this device; see `Prover.proofs`."""
        return self._prover.proofs()

    def status(self) -> list[dict[str, Any]]:
        """One entry a configured model: name, state (cold, loading, ready, busy, leaving, quarantined), pid, rss and bytes
        (measured and reserved), load_seconds, requests, restarts, mode, context_length, quantization, retry_after."""
        now = self._clock()
        rests = {name: until - now for name, until in self._quarantine.until.items() if until > now}
        return [record.entry(self._residents.get(name), rests.get(name)) for name, record in self._records.items()]

    async def _admit(self, name: str, priority: Priority, deadline: float | None) -> Resident:
        """Wait for the model, taken for the caller. Raises what `generate` says about models."""
        record = self._records.get(name)
        if record is None:
            raise NotFound(f"there is no model {name!r}", model=name)
        if self._closing:
            raise Unavailable("the daemon is stopping", retry_after=5.0)
        if len(self._waiting) >= _WAITING_MAX:
            raise QueueFull("too many generations wait for a model", retry_after=2.0)
        if name not in self._residents:  # what is resident is served as it was loaded, also when its file was replaced
            await record.read(self._state_dir)
        arrived = self._clock()
        granted: asyncio.Future[Resident] = asyncio.get_running_loop().create_future()
        limit = math.inf if deadline is None else deadline
        job = Job(next(self._ids), name, record.size(), priority.rank, limit, arrived, granted)
        self._waiting[job.id] = job
        self._tick()
        try:
            return await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled() and granted.exception() is None:
                granted.result().release(priority.rank)  # granted in the very moment the caller left
            raise
        finally:
            self._waiting.pop(job.id, None)

    def _tick(self) -> None:
        """Decide and do. Called after everything that may change a decision."""
        if self._closing:
            return
        decisions = scheduler.decide(
            [resident.view() for resident in self._residents.values()],
            [job.view() for job in self._waiting.values() if not job.granted.done()],
            self._ledger.budget,
            self._clock(),
            allowed=self._gauge.now().bytes,
            quarantined=self._quarantine.until,
            pressure=self._pressure,
        )
        for decision in decisions:
            self._do(decision)

    def _do(self, decision: scheduler.Decision) -> None:
        match decision:
            case scheduler.Run(job, model):
                self._residents[model].take(self._waiting[job].rank)
                self._waiting[job].granted.set_result(self._residents[model])
            case scheduler.Load(model):
                self._start(model)
            case scheduler.Evict(model, why):
                self._meters.count(f"engine.evictions.{why}")
                self._residents[model].leave()
            case scheduler.Refuse(job, why, until):
                one, seconds = self._waiting[job], max(1.0, round(until - self._clock(), 1))
                self._refuse(one, refusal(one, why, self._ledger.budget, self._gauge.now(), seconds))
            case scheduler.Wait(until):
                self._sleep(until)

    def _rest(self, name: str) -> float:
        """Seconds after which another attempt makes sense."""
        return max(1.0, round(self._quarantine.until.get(name, 0.0) - self._clock(), 1))

    def _refuse(self, job: Job, error: EdgedError) -> None:
        if not job.granted.done():
            job.granted.set_exception(error)
        self._waiting.pop(job.id, None)

    def _sleep(self, until: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if math.isfinite(until):
            delay = max(0.0, until - self._clock())
            self._timer = asyncio.get_running_loop().call_later(delay, self._tick)

    def _start(self, name: str) -> None:
        job = next(j for j in self._waiting.values() if j.model == name)
        record = self._records[name]
        assert record.facts is not None
        self._ledger.reserve(name, job.size)
        resident = Resident(
            record.spec,
            record.facts,
            job.size,
            clock=self._clock,
            changed=self._tick,
            worker_module=self._module if record.spec.kind == "language" else _ENCODER_MODULE,
            state_dir=self._state_dir,
            wall=Wall(name, job.size, self._surroundings, self._kills, on=self._budget.walls),
        )
        self._residents[name] = resident
        self._meters.count("engine.loads")
        self._group.create_task(self._live(resident), name=f"model:{name}")

    async def _live(self, resident: Resident) -> None:
        """A resident's whole life, and the bookkeeping of its end."""
        name = resident.spec.name
        record = self._records[name]
        try:
            ending = await resident.live(self._prover)
        finally:
            self._ledger.release(name)
            self._residents.pop(name, None)
        record.note(resident)
        if ending.error is not None:
            self._failed(resident, ending.error)
        self._tick()

    def _failed(self, resident: Resident, error: EdgedError) -> None:
        name = resident.spec.name
        record = self._records[name]
        record.restarts += 1
        if self._starved(resident, error):
            log.warning("%s; it is given %d MiB next time", error.detail, record.size() >> 20)
        elif self._quarantine.crashed(name, self._clock()) is not None:
            self._meters.count("engine.quarantines")
            self._prover.forget(resident.facts.digest)
        if resident.ready_at is None:  # it never came up: those who wait for it are told why
            error.retry_after = error.retry_after or self._rest(name)
            for job in [j for j in self._waiting.values() if j.model == name]:
                self._refuse(job, error)

    def _starved(self, resident: Resident, error: EdgedError) -> bool:
        """Did it die of memory, and can it be given more? One that had all there is counts as crashed."""
        if not isinstance(error, OutOfMemory):
            self._meters.count("engine.crashes")
            return False
        self._meters.count("engine.oom_kills" if error.fields["by"] == "kernel" else "engine.wall_hits")
        return self._records[resident.spec.name].starved(resident.size, self._ledger.budget)
