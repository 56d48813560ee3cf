"""Executes the steps that `turn` decides: asks the model, runs the tools, keeps the time of each stage."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from edged.agent import turn
from edged.agent.turn import Answer, CallTools, Escalate, Generate, Transcript
from edged.domain.messages import Reply, ReplyStatus, Request, Stage, Tier, ToolCall, ToolResult, Usage
from edged.domain.ports import ChatModel, Completion, Generation
from edged.domain.resources import ToolSpec

__all__ = ["Effects", "Outcome", "Runner", "Toolbox", "reflex_reply"]


class Toolbox(Protocol):
    """Where tools run: the plugin host."""

    async def call(self, call: ToolCall, *, request_id: str, deadline_monotonic: float | None = None) -> ToolResult: ...


class Effects(Protocol):
    """Where calls with effects are recorded: the store."""

    async def begin(self, request_key: str, index: int, call: ToolCall) -> str | ToolResult: ...
    async def end(self, request_key: str, index: int, result: ToolResult) -> None: ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """A final reply, or why this device cannot give one; `reply` then holds the stages and tokens spent so far."""

    reply: Reply
    escalate: Escalate | None = None


@dataclass(slots=True)
class _Tally:
    """What a turn has cost so far."""

    stages: list[Stage] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)
    model: str | None = None
    first_token: float | None = None
    dropped: int = 0

    def add(self, completion: Completion, model: str) -> None:
        self.usage += completion.usage
        self.model = completion.model or model
        self.dropped += completion.dropped_messages
        waited = completion.queued_seconds + completion.load_seconds
        if self.first_token is None and completion.usage.completion:
            self.first_token = waited + completion.prefill_seconds
        self.took("queue", completion.queued_seconds)
        self.took("load", completion.load_seconds)
        self.took("prefill", completion.prefill_seconds)
        self.took("decode", completion.decode_seconds)

    def took(self, name: str, seconds: float) -> None:
        if seconds > 0:
            self.stages.append(Stage(name, seconds))


class Runner:
    """Runs one turn at a time for each caller of `run`; holds no state between turns."""

    def __init__(self, tools: Toolbox, effects: Effects) -> None:
        self._tools = tools
        self._effects = effects
        self._open: set[asyncio.Task[ToolResult]] = set()

    async def settled(self) -> None:
        """When every effect that has begun is recorded. Tools' own time limits bound it."""
        while self._open:
            await asyncio.wait(self._open)

    async def run(
        self,
        request: Request,
        transcript: Transcript,
        model: ChatModel,
        *,
        deadline_monotonic: float | None = None,
        on_text: Callable[[str], None] | None = None,
    ) -> Outcome:
        """Drive `transcript` to its end. Raises what the model raises (`Unavailable` kinds, `BadRequest`)."""
        tally = _Tally()
        transcript, step = turn.begin(transcript)
        while True:
            match step:
                case Generate():
                    completion = await model.generate(
                        self._generation(request, transcript, step, deadline_monotonic, on_text)
                    )
                    tally.add(completion, transcript.agent.model)
                    transcript, step = turn.on_generated(transcript, completion)
                case CallTools(calls):
                    results = await self.call(
                        request, transcript.specs, calls, len(transcript.results), deadline_monotonic
                    )
                    for result in results:
                        tally.took(f"tool:{result.name}", result.seconds)
                    transcript, step = turn.on_results(transcript, results)
                case Answer(text):
                    return Outcome(_reply(request, transcript, tally, text))
                case Escalate():
                    return Outcome(_reply(request, transcript, tally, step.text), step)

    async def call(
        self, request: Request, specs: Sequence[ToolSpec], calls: Sequence[ToolCall], first: int, deadline: float | None
    ) -> list[ToolResult]:
        """Run calls in order. One with effects is recorded first; one that was interrupted is reported, never run again."""
        return [await self._one(request, specs, call, first + index, deadline) for index, call in enumerate(calls)]

    async def _one(
        self, request: Request, specs: Sequence[ToolSpec], call: ToolCall, index: int, deadline: float | None
    ) -> ToolResult:
        spec = next((spec for spec in specs if spec.name == call.name), None)
        if spec is None:
            return ToolResult(call.id, call.name, False, error=f"There is no tool {call.name!r} here.")
        if spec.idempotent:
            return await self._tools.call(call, request_id=request.key, deadline_monotonic=deadline)
        known = await self._effects.begin(request.key, index, call)
        if isinstance(known, ToolResult):
            return known
        if known == "interrupted":
            sentence = (
                f"{call.name} was interrupted by a restart; whether it took effect is unknown. It was not run again."
            )
            return ToolResult(call.id, call.name, False, error=sentence)
        # An effect that has begun is seen through to its record, also when the caller hangs up meanwhile.
        task = asyncio.create_task(self._effect(request, call, index, deadline), name=f"effect:{request.key}")
        self._open.add(task)
        task.add_done_callback(self._open.discard)
        return await asyncio.shield(task)

    async def _effect(self, request: Request, call: ToolCall, index: int, deadline: float | None) -> ToolResult:
        result = await self._tools.call(call, request_id=request.key, deadline_monotonic=deadline)
        await self._effects.end(request.key, index, result)
        return result

    def _generation(
        self,
        request: Request,
        transcript: Transcript,
        step: Generate,
        deadline: float | None,
        on_text: Callable[[str], None] | None,
    ) -> Generation:
        return Generation(
            model=transcript.agent.model,
            messages=step.messages,
            tools=step.tools,
            grammar=step.grammar,
            max_tokens=step.max_tokens,
            agent=transcript.agent.name,
            fixed=step.fixed,
            adapter=transcript.agent.adapter,
            overflow=transcript.agent.overflow,
            priority=request.priority,
            deadline_monotonic=deadline,
            request_id=request.key,
            # a local draft of a result may still be replaced by the bare result; what no grammar binds is the answer itself
            on_text=on_text if step.spoken and step.grammar is None else None,
        )


def _reply(request: Request, transcript: Transcript, tally: _Tally, text: str) -> Reply:
    return Reply(
        request.id,
        request.agent,
        ReplyStatus.DONE,
        text,
        tier=transcript.tier,
        finish_reason="stop",
        tool_calls=transcript.calls,
        tool_results=transcript.results,
        stages=tuple(tally.stages),
        usage=tally.usage,
        model=tally.model,
        first_token_seconds=tally.first_token,
        dropped_messages=tally.dropped,
    )


def reflex_reply(request: Request, call: ToolCall, result: ToolResult, text: str, seconds: float) -> Reply:
    """The reply of a request that a pattern answered."""
    stages = (Stage("reflex", max(0.0, seconds - result.seconds)), Stage(f"tool:{call.name}", result.seconds))
    reply = Reply(request.id, request.agent, ReplyStatus.DONE, text, tier=Tier.REFLEX, stages=stages)
    return replace(reply, tool_calls=(call,), tool_results=(result,))
