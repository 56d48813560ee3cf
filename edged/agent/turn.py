"""One request's conversation with a model, as a pure state machine: transcript and event in, next step out.

A local model chooses one call (or says that nothing fits) under a grammar, and words the result where the tool has no template;
one that has no tools to choose from just answers.
The cloud is a free model: it may call several tools, in several rounds, and its text is the answer. No await, no clock, no log.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from edged.agent import wording
from edged.agent.dialect import Dialect, parse
from edged.agent.grammar import choosing, phrasing
from edged.agent.grounding import ground
from edged.domain.messages import Message, Tier, ToolCall, ToolResult
from edged.domain.ports import Completion
from edged.domain.resources import Agent, ToolSpec

__all__ = ["Answer", "CallTools", "Escalate", "Generate", "Step", "Transcript", "begin", "on_generated", "on_results"]


@dataclass(frozen=True, slots=True)
class Generate:
    """Ask the model. `spoken` says that its text is (a draft of) the answer; without a grammar it is the answer itself. The first
    `fixed` messages are the agent's own and the same in all its requests."""

    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...]
    grammar: str | None
    max_tokens: int
    spoken: bool = False
    fixed: int = 0


@dataclass(frozen=True, slots=True)
class CallTools:
    """Run these calls; results come back in the same order."""

    calls: tuple[ToolCall, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """The end: this is what the caller is told."""

    text: str


@dataclass(frozen=True, slots=True)
class Escalate:
    """The end of what this device can do. `reason` is a stable word: "no_tool_fits", "unsure", "missing_argument",
    "several_requests", "malformed", "too_many_steps", "caller_asked"; `text` says it to a person."""

    reason: str
    text: str


Step = Generate | CallTools | Answer | Escalate


@dataclass(frozen=True, slots=True)
class Transcript:
    """All that is known of a turn. `generations` counts towards the agent's `max_steps`; `chosen` is a call that an earlier tier
    has decided on, so that a model has at most its result to word."""

    agent: Agent
    text: str
    specs: tuple[ToolSpec, ...]
    dialect: Dialect
    tier: Tier = Tier.MODEL
    history: tuple[Message, ...] = ()
    added: tuple[Message, ...] = ()
    calls: tuple[ToolCall, ...] = ()
    results: tuple[ToolResult, ...] = ()
    waiting: tuple[ToolCall, ...] = ()
    generations: int = 0
    chosen: ToolCall | None = None
    phase: Literal["choose", "word"] = "choose"
    draft: tuple[ToolCall, ToolResult] | None = field(default=None)

    @property
    def free(self) -> bool:
        return self.tier is Tier.CLOUD

    @property
    def chats(self) -> bool:
        """A local model that is of use for more than choosing, and has nothing to choose from."""
        return not self.free and not self.specs and self.dialect.sound

    def spec(self, name: str) -> ToolSpec | None:
        return next((spec for spec in self.specs if spec.name == name), None)


def begin(transcript: Transcript) -> tuple[Transcript, Step]:
    """The first step."""
    if transcript.chosen is not None:
        return _call(transcript, (transcript.chosen,), "")
    if not transcript.free and not transcript.specs and not transcript.chats:
        return transcript, Escalate("no_tool_fits", "This agent has no tools on this device.")
    return _generate(transcript)


def on_generated(transcript: Transcript, completion: Completion) -> tuple[Transcript, Step]:
    """The model has spoken."""
    if transcript.phase == "word":
        return transcript, Answer(_worded(transcript, completion.text))
    if transcript.free and completion.tool_calls:
        return _call(transcript, completion.tool_calls, completion.text)
    if transcript.free or transcript.chats:
        return transcript, Answer(completion.text.strip())
    if completion.finish_reason == "length":
        return transcript, Escalate("malformed", "The local model did not come to an end.")
    parsed = parse(completion.text, f"call-{transcript.generations}", transcript.dialect)
    if parsed.malformed:
        return transcript, Escalate("malformed", "The local model gave no usable answer.")
    if parsed.calls:
        return _call(transcript, parsed.calls, parsed.text)
    if parsed.wanted is not None:
        lacking = " and ".join(name.replace("_", " ") for name in parsed.missing)
        return transcript, Escalate("missing_argument", f"The request does not say which {lacking} is meant.")
    if parsed.escalate:
        return transcript, Escalate("no_tool_fits", "No tool on this device fits the request.")
    return transcript, Escalate("malformed", "The local model gave no usable answer.")


def on_results(transcript: Transcript, results: Sequence[ToolResult]) -> tuple[Transcript, Step]:
    """The tools have run."""
    transcript = replace(
        transcript,
        results=transcript.results + tuple(results),
        added=transcript.added + tuple(_tool_message(result) for result in results),
        waiting=(),
    )
    if transcript.free:
        return _generate(transcript)
    call, result = transcript.calls[-1], results[-1]
    spec = transcript.spec(call.name)
    said = wording.said(spec, call, result, transcript.agent.language) if spec is not None else None
    if said is not None or not result.ok or Tier.MODEL not in transcript.agent.tiers:
        return transcript, Answer(said or wording.bare(result))
    return _generate(replace(transcript, phase="word", draft=(call, result)))


def _generate(transcript: Transcript) -> tuple[Transcript, Step]:
    if transcript.generations >= transcript.agent.max_steps:
        if transcript.phase == "word":
            return transcript, Answer(_worded(transcript, ""))
        return transcript, Escalate("too_many_steps", f"No answer after {transcript.generations} steps.")
    loose = transcript.free or transcript.chats
    messages = _messages(transcript)
    step = Generate(
        messages=messages,
        tools=transcript.specs,
        grammar=None if loose else _grammar(transcript),
        max_tokens=transcript.agent.max_tokens * (8 if transcript.free else 1),
        spoken=loose or transcript.phase == "word",
        fixed=int(messages[0].role == "system"),
    )
    return replace(transcript, generations=transcript.generations + 1), step


def _grammar(transcript: Transcript) -> str:
    if transcript.phase == "word":
        assert transcript.draft is not None
        return phrasing(wording.facts(*transcript.draft))
    return choosing([ground(spec, transcript.text) for spec in transcript.specs], transcript.dialect)


def _messages(transcript: Transcript) -> tuple[Message, ...]:
    hint = transcript.dialect.hint if transcript.specs and not transcript.free else ""
    told = "\n\n".join(part for part in (transcript.agent.instructions, hint) if part)
    system = (Message("system", told),) if told else ()
    return (*system, *transcript.history, Message("user", transcript.text), *transcript.added)


def _call(transcript: Transcript, calls: tuple[ToolCall, ...], text: str) -> tuple[Transcript, Step]:
    said = Message("assistant", text, tool_calls=calls)
    after = replace(
        transcript, calls=transcript.calls + calls, added=(*transcript.added, said), waiting=calls, phase="choose"
    )
    return after, CallTools(calls)


def _tool_message(result: ToolResult) -> Message:
    content: Any = result.content if result.ok else {"error": result.error}
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), default=str)
    return Message("tool", text, tool_call_id=result.call_id)


def _worded(transcript: Transcript, text: str) -> str:
    """The model's wording if it is faithful, else the bare result."""
    assert transcript.draft is not None
    call, result = transcript.draft
    names = {c for spec in transcript.specs for g in spec.grounding.values() for c in g.choices}
    if wording.faithful(text, wording.facts(call, result), names):
        return text.strip()
    return wording.bare(result)
