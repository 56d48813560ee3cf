"""The real cascade over held-out sentences: the router with its reflexes, its reader and its model; only the tools do nothing."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bench.heldout_samples import Sample
from edged.agent.reader import Reader
from edged.agent.router import Router
from edged.agent.runner import Outcome, Runner
from edged.domain.messages import Caller, Message, Request, ToolCall, ToolResult
from edged.domain.resources import Agent, ToolSpec
from edged.engine.pool import Pool
from edged.fleet.settings import ENCODER

__all__ = ["Score", "ask_cascade", "same"]

_ARTICLE = re.compile(r"^(?:the|an?) ")
_BEYOND = ("no_tool_fits", "malformed", "too_many_steps")


class _Tools:
    """Shows the sample's tools and takes any call."""

    def __init__(self, specs: tuple[ToolSpec, ...]) -> None:
        self._specs = specs

    async def specs(self, names: list[str]) -> list[ToolSpec]:
        return list(self._specs)

    async def call(self, call: ToolCall, *, request_id: str, deadline_monotonic: float | None = None) -> ToolResult:
        return ToolResult(call.id, call.name, False, error="A bench does nothing.")


class _NoEffects:
    async def begin(self, request_key: str, index: int, call: ToolCall) -> str | ToolResult:
        return "fresh"

    async def end(self, request_key: str, index: int, result: ToolResult) -> None: ...


class _NoHistory:
    async def load(self, session: str, caller_id: str, limit: int) -> list[Message]:
        return []

    async def append(self, session: str, caller_id: str, messages: list[Message]) -> None: ...


@dataclass(slots=True)
class Score:
    """Counts over one set of samples, and the seconds of the intent tier."""

    counts: Counter[str] = field(default_factory=Counter)
    misses: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def add(self, sample: Sample, outcome: Outcome) -> None:
        c, calls = self.counts, outcome.reply.tool_calls
        said = (calls[0].name, calls[0].arguments) if calls else None
        reason = outcome.escalate.reason if outcome.escalate else ""
        exact = said is not None and sample.wanted is not None and same(said, sample.wanted)
        c["all"] += 1
        c["calls"] += sample.wanted is not None
        c["right tool"] += said is not None and sample.wanted is not None and said[0] == sample.wanted[0]
        c["exact"] += exact
        c["wrong"] += said is not None and not exact
        c["asked back"] += reason == "missing_argument"
        c["unsure"] += reason == "unsure"
        c[f"exact by {outcome.reply.tier}"] += exact
        c[f"wrong by {outcome.reply.tier}"] += said is not None and not exact
        claimed = said is None and reason in _BEYOND
        c["claimed none"] += claimed
        c["claimed none rightly"] += claimed and sample.wanted is None
        if sample.wanted is None:
            c[sample.kind] += 1
            c[f"{sample.kind} seen"] += claimed
        self.seconds += [stage.seconds for stage in outcome.reply.stages if stage.name == "intent"]
        if not exact and not (claimed and sample.wanted is None):
            self.misses.append(
                f"{sample.sentence!r}: wanted {sample.wanted}, {outcome.reply.tier} said {said} {reason}"
            )

    def share(self, part: str, whole: str) -> float:
        return self.counts[part] / max(1, self.counts[whole])

    @property
    def none_recall(self) -> float:
        seen = self.counts["near miss seen"] + self.counts["beyond seen"]
        return seen / max(1, self.counts["near miss"] + self.counts["beyond"])


async def ask_cascade(pool: Pool, samples: list[Sample], agents: Mapping[str, Agent]) -> Score:
    """`agents` by name, with their reflexes; a sample is asked of the one whose tools it shows ("bench" where there is none)."""
    score, reader = Score(), Reader(pool.infer, ENCODER)
    for number, sample in enumerate(samples):
        agent = agents.get(sample.agent) or Agent("bench", "bundled")
        tools = _Tools(sample.specs)
        runner = Runner(tools, _NoEffects())
        router = Router({agent.name: agent}, tools, runner, pool, None, _NoHistory(), lambda model: "edged", reader)
        request = Request(f"r{number}", agent.name, sample.sentence, Caller("bench"), time.time())
        score.add(sample, await router.answer(request, None))
    return score


def same(said: tuple[str, dict[str, Any]], wanted: tuple[str, dict[str, Any]]) -> bool:
    """Letter case and an article before a value are the sentence's, not the tool's: "The grow lamp" is the grow lamp. Answers read
    off a text are compared so since SQuAD (arXiv:1606.05250)."""

    def fold(arguments: dict[str, Any]) -> dict[str, Any]:
        return {k: _ARTICLE.sub("", v.lower()) if isinstance(v, str) else v for k, v in arguments.items()}

    return said[0] == wanted[0] and fold(said[1]) == fold(wanted[1])
