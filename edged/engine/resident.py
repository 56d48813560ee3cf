"""One resident model: its child, from loading to the end, and the generations that run in it.

The rule: a resident lives exactly as long as `live` runs; whoever wants it gone calls `leave` or `kill` and sees it end.
A generation that is taken back keeps its place until the worker has answered a ping, which it does between two steps; one that
does not in time is killed, for native code cannot be argued with.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from edged.domain.errors import BadRequest, EdgedError, EngineCrashed, Unavailable
from edged.domain.messages import Usage
from edged.domain.ports import Completion, Generation
from edged.domain.resources import ModelSpec
from edged.engine import scheduler
from edged.engine.catalog import ModelFacts
from edged.engine.proof import Prover
from edged.engine.wall import OPEN, By, Wall, crash_or_memory
from edged.ipc.channel import ChannelClosed
from edged.ipc.memory import private_bytes, resident_bytes
from edged.ipc.process import Child, ChildExit

__all__ = ["Ending", "Resident"]

State = Literal["loading", "idle", "busy", "leaving"]

_STOP_SECONDS = 2.0
_STEPS_LATE = 8.0  # of the slowest step seen: a worker of a large model on a small CPU is slow, not deaf
_LOAD_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Ending:
    """How a resident ended: as asked (`error` is None), or by `error`, how the process went, and who ended it for its memory."""

    error: EdgedError | None
    exit: str
    by: By | None = None


class Resident:
    """A model in memory. `state` is "loading", "idle", "busy" or "leaving"; times are of `clock` (monotonic seconds).

    `changed` is called whenever there is something new to decide.
    """

    def __init__(
        self,
        spec: ModelSpec,
        facts: ModelFacts,
        size: int,
        *,
        clock: Callable[[], float],
        changed: Callable[[], None],
        worker_module: str,
        state_dir: Path,
        wall: Wall = OPEN,
    ) -> None:
        self.spec = spec
        self.facts = facts
        self.size = size
        self.state: State = "loading"
        self.since = self.began = clock()
        self.ready_at: float | None = None
        self.mode: str | None = None
        self.ended: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        self._clock = clock
        self._changed = changed
        self._module = worker_module
        self._state_dir = state_dir
        self._wall = wall
        self._by: By | None = None
        self._ended_by: Callable[[ChildExit], By | None] = lambda ended: None
        self.ranks: list[int] = []  # of the jobs that it has
        self._returned: list[int] = []
        self._slowest = 0.0
        self._child: Child | None = None
        self._work: asyncio.Future[EdgedError] | None = None
        self._left = False
        self._draining = asyncio.Event()

    @property
    def pid(self) -> int | None:
        return None if self._child is None else self._child.pid

    @property
    def streams(self) -> int:
        """How many jobs it runs together: an encoder has one at a time."""
        return self.spec.streams if self.spec.kind == "language" else 1

    @property
    def load_seconds(self) -> float:
        return 0.0 if self.ready_at is None else self.ready_at - self.began

    def view(self) -> scheduler.Resident:
        """As the scheduler sees it."""
        return scheduler.Resident(
            self.spec.name,
            self.size,
            self.state,
            self.since,
            self.load_seconds,
            self.spec.keep_alive,
            self.streams,
            tuple(self.ranks),
        )

    def rss(self) -> int:
        """Resident bytes of the worker, file pages included; 0 when it is gone."""
        return resident_bytes(self.pid) if self.pid else 0

    def taken(self) -> int:
        """Bytes of its reservation that the worker has really taken, those of files apart."""
        return min(self.size, private_bytes(self.pid)) if self.pid else 0

    async def live(self, prover: Prover) -> Ending:
        """Start, prove, load, stay until told to leave or until the worker is gone. Never raises an `EdgedError`."""
        error: EdgedError | None = None
        exit_note = "not started"
        try:
            with ExitStack() as after:  # its group can go only when the process has
                async with Child(self._module, self._wall.arguments, grace=0.5) as child:
                    self._child = child
                    self._ended_by = after.enter_context(self._wall.around(child.pid))
                    error = await self._worked(child, prover)
                    self.state = "leaving"
                exit_note = str(child.exited.result())
        finally:
            ending = Ending(None if self._left else error, exit_note, self._by)
            self.ended.set_result(ending)
        return ending

    async def _worked(self, child: Child, prover: Prover) -> EdgedError | None:
        self._work = asyncio.ensure_future(self._serve(child, prover))
        if self._left:
            self._work.cancel()
        try:
            await asyncio.wait({self._work})
        finally:
            self._work.cancel()
        return None if self._work.cancelled() else self._work.result()

    async def _serve(self, child: Child, prover: Prover) -> EdgedError:
        """Load, then drain what is taken back, until the worker is gone; returns why. Cancelled to make it leave."""
        try:
            await self._load(child, prover)
            while await self._cancelled_work(child):
                await self._drain(child)
        except ChannelClosed:
            child.kill()
            return self._gone(await child.exited, "while it loaded")
        except EdgedError as failed:
            return failed
        return self._gone(child.exited.result(), "")

    def _gone(self, ended: ChildExit, doing: str) -> EngineCrashed:
        self._by = self._ended_by(ended)
        return crash_or_memory(self.spec.name, doing, str(ended), self._by)

    async def _load(self, child: Child, prover: Prover) -> None:
        language = self.spec.kind == "language"
        params: dict[str, Any] = {"path": self.facts.path, "threads": self.spec.threads}
        if language:
            params |= _load_params(self.spec)
        # The serving child is importing its libraries while the throw-away one proves. Encoders need no proof: onnxruntime's
        # kernels are chosen by the CPU at hand, and a crash of theirs costs one attempt like any other.
        mode = await prover.mode(self.facts, params, self._wall) if language else "default"
        if language and self.spec.snapshot_bytes:
            directory = self._state_dir / "prefixes" / self.spec.name
            params["snapshots"] = {"directory": str(directory), "bytes": self.spec.snapshot_bytes}
            params["digest"] = f"{self.facts.digest} {prover.engine}"
        try:
            async with asyncio.timeout(_LOAD_SECONDS):
                await child.call("load", {**params, "mode": mode})
        except TimeoutError:
            child.kill()
            raise EngineCrashed(f"{self.spec.name} did not load in {_LOAD_SECONDS:g} s") from None
        self.mode = mode
        self.ready_at = self.since = self._clock()
        self.state = "idle"
        self._changed()

    async def _cancelled_work(self, child: Child) -> bool:
        """Wait: True when a generation was taken back, False when the worker has ended."""
        drain = asyncio.ensure_future(self._draining.wait())
        either: set[asyncio.Future[Any]] = {drain, child.exited}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            drain.cancel()
        return not child.exited.done()

    async def _drain(self, child: Child) -> None:
        self._draining.clear()
        returned, self._returned = self._returned, []
        try:
            async with asyncio.timeout(_STOP_SECONDS + _STEPS_LATE * self._slowest):
                await child.call("ping")
        except (TimeoutError, ChannelClosed):
            child.kill()
            await child.exited
        else:
            self.release(*returned)

    def take(self, rank: int) -> None:
        """Reserve a place in the worker for a job of this rank."""
        assert self.state in ("idle", "busy")
        self.state = "busy"
        self.ranks.append(rank)

    def release(self, *ranks: int) -> None:
        """The places of jobs of these ranks are free again."""
        for rank in ranks:
            self.ranks.remove(rank)
        if self.state == "busy":
            if not self.ranks:
                self.state, self.since = "idle", self._clock()
            self._changed()

    def leave(self) -> None:
        """End the worker; `live` returns when it has ended."""
        self.state = "leaving"
        self._left = True
        if self._work is not None:
            self._work.cancel()

    def kill(self) -> None:
        if self._child is not None:
            self._child.kill()

    async def generate(self, generation: Generation) -> Completion:
        """One generation; see `run`."""
        result = await self.run("generate", _params(generation), generation.priority.rank, _on_chunk(generation))
        if result["completion_tokens"]:
            self._slowest = max(self._slowest, result["decode_seconds"] / result["completion_tokens"])
        return _completion(generation.model, result)

    async def run(
        self, verb: str, params: dict[str, Any], rank: int, on_chunk: Callable[[Any], None] | None = None
    ) -> Any:
        """Call the worker that was taken for a job of this rank; its place is released in the end, or drained. Raises what
        the worker says."""
        assert self._child is not None
        try:
            result = await self._child.call(verb, params, on_chunk)
        except asyncio.CancelledError:
            self._returned.append(rank)
            self._draining.set()
            raise
        except ChannelClosed:
            self.kill()
            ending = await asyncio.shield(self.ended)
            raise crash_or_memory(self.spec.name, "while it computed", ending.exit, ending.by) from None
        except (BadRequest, Unavailable):
            self.release(rank)
            raise
        except EdgedError as error:  # a bug in the worker: its state is not to be trusted
            self.kill()
            await asyncio.shield(self.ended)
            raise EngineCrashed(f"the worker of {self.spec.name} failed: {error.detail}", retry_after=1.0) from error
        self.release(rank)
        return result


def _params(generation: Generation) -> dict[str, Any]:
    return {
        "messages": [message.to_wire() for message in generation.messages],
        "tools": [tool.to_openai() for tool in generation.tools],
        "grammar": generation.grammar,
        "triggers": generation.triggers,
        "max_tokens": generation.max_tokens,
        "sampling": asdict(generation.sampling),
        "rank": generation.priority.rank,
        "agent": generation.agent,
        "fixed": generation.fixed,
        "adapter": generation.adapter,
        "overflow": generation.overflow,
        "deadline_monotonic": generation.deadline_monotonic,
    }


def _load_params(spec: ModelSpec) -> dict[str, Any]:
    return {
        "context_length": spec.context_length,
        "batch_size": spec.batch_size,
        "slots": spec.streams,
        "cells": spec.cache_length,
        "kv_type": spec.kv_type,
        "adapters": dict(spec.adapters),
    }


def _on_chunk(generation: Generation) -> Callable[[Any], None] | None:
    on_text = generation.on_text
    return None if on_text is None else lambda chunk: on_text(chunk["text"])


def _completion(model: str, result: dict[str, Any]) -> Completion:
    return Completion(
        text=result["text"],
        finish_reason=result["finish_reason"],
        usage=Usage(result["prompt_tokens"], result["cached_tokens"], result["completion_tokens"]),
        queued_seconds=result.get("queued_seconds", 0.0),
        prefill_seconds=result["prefill_seconds"],
        decode_seconds=result["decode_seconds"],
        model=model,
        dropped_messages=result.get("dropped_messages", 0),
        logprobs=tuple(result.get("logprobs", ())),
    )
