"""The cascade: a request goes through its agent's tiers, cheapest first, until one answers or all are spent."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Protocol

from edged.agent import wording
from edged.agent.asked import Asked, Question, is_yes
from edged.agent.dialect import DIALECTS, Dialect
from edged.agent.intent import Act, AskBack, Decision, NoTool, PassOn
from edged.agent.questions import without_model
from edged.agent.reader import Reader, plain
from edged.agent.reflex import Reflex, compile_book, match
from edged.agent.runner import Outcome, Runner, Toolbox, reflex_reply
from edged.agent.turn import Escalate, Transcript
from edged.device.energy import Bill
from edged.domain.errors import BadRequest, DeadlineExceeded, NotFound, PowerSaving, Unavailable
from edged.domain.messages import Message, Priority, Reply, ReplyStatus, Request, Stage, Tier
from edged.domain.ports import ChatModel
from edged.domain.resources import Agent, Phrasebook, ToolSpec

__all__ = ["History", "Router", "Tools"]

log = logging.getLogger("edged.agent")

_HISTORY_CHARACTERS = 2000


class Tools(Toolbox, Protocol):
    """Where tools are listed and run: the plugin host."""

    async def specs(self, names: list[str]) -> list[ToolSpec]: ...


class History(Protocol):
    """Where sessions are kept: the store."""

    async def load(self, session: str, caller_id: str, limit: int) -> list[Message]: ...
    async def append(self, session: str, caller_id: str, messages: list[Message]) -> None: ...


class Lessons(Protocol):
    """Where it is kept what sentences mean: the store."""

    async def add(self, agent: str, tool: str, text: str) -> None: ...


class Router:
    """All agents of the device and the ways to answer for them. `cloud` is None where none is configured.

    `dialects` maps a model's name to its dialect's name; what is not named speaks "json". `phrases` are the plugins' sentence
    patterns, tried after the agent's own. `lessons` keep what callers confirm. `saving` says why a request of some priority gets no
    local model now, or None. `billing` opens an agent's bill for a request's energy; None where nobody counts. Raises ConfigError
    for patterns that cannot be read.
    """

    def __init__(
        self,
        agents: Mapping[str, Agent],
        tools: Tools,
        runner: Runner,
        local: ChatModel,
        cloud: ChatModel | None,
        history: History,
        dialects: Callable[[str], str],
        reader: Reader | None = None,
        phrases: Sequence[Phrasebook] = (),
        lessons: Lessons | None = None,
        saving: Callable[[Priority], PowerSaving | None] = lambda _: None,
        billing: Callable[[str], AbstractContextManager[Bill]] | None = None,
    ) -> None:
        self._agents = agents
        self._tools = tools
        self._runner = runner
        self._local = local
        self._cloud = cloud
        self._history = history
        self._dialects = dialects
        self._reader = reader
        self._lessons = lessons
        self._saving = saving
        self._billing = billing
        self._asked = Asked()
        self._spoken: dict[str, Dialect] = {}
        shared = [reflex for book in phrases for reflex in compile_book(book)]
        self._reflexes: dict[str, tuple[Reflex, ...]] = {
            name: (*compile_book(agent.phrases), *shared) for name, agent in agents.items()
        }

    @property
    def agents(self) -> Mapping[str, Agent]:
        return self._agents

    def agent(self, name: str) -> Agent:
        """Raises NotFound."""
        if name not in self._agents:
            raise NotFound(f"There is no agent {name!r} here.", agent=name, agents=sorted(self._agents))
        return self._agents[name]

    async def tools_of(self, name: str) -> list[str]:
        """The names of an agent's tools now. Raises NotFound."""
        return [spec.name for spec in await self._tools.specs(list(self.agent(name).tools))]

    def may_escalate(self, agent: Agent) -> bool:
        return self._cloud is not None and not agent.local_only and Tier.CLOUD in agent.tiers

    async def answer(
        self, request: Request, deadline_monotonic: float | None, on_text: Callable[[str], None] | None = None
    ) -> Outcome:
        """What this device can say. Raises what tools and models raise, and PowerSaving where the local model rests."""
        if self._billing is None:
            return await self._answer(request, deadline_monotonic, on_text)
        with self._billing(request.agent) as bill:
            outcome = await self._answer(request, deadline_monotonic, on_text)
        return replace(outcome, reply=replace(outcome.reply, energy=bill.energy))

    async def _answer(
        self, request: Request, deadline_monotonic: float | None, on_text: Callable[[str], None] | None
    ) -> Outcome:
        agent = self.agent(request.agent)
        if request.escalate:
            return Outcome(_nothing(request), Escalate("caller_asked", "The caller asked for the cloud."))
        specs = await self._specs(agent, deadline_monotonic)
        conversation = _conversation(request)
        question = (
            self._asked.take(conversation) if conversation else None
        )  # whatever is said next, it is open no longer
        if Tier.REFLEX in agent.tiers:
            reply = await self._reflex(request, agent, specs, deadline_monotonic)
            if reply is not None:
                return await self._kept(request, agent, Outcome(reply))
        began = time.perf_counter()
        decided = await self._understood(request, agent, specs, question, deadline_monotonic)
        stages = () if decided is None else (Stage("intent", time.perf_counter() - began),)
        # A call that is decided on needs no way of writing calls, nor a look at a model file that may be large or broken.
        settled = isinstance(decided, Act | AskBack | NoTool) or Tier.MODEL not in agent.tiers
        dialect = DIALECTS["edged"] if settled else await self._dialect(agent.model)
        step = without_model(decided, Tier.MODEL in agent.tiers, dialect)
        if step is not None:
            self._note(request, agent, decided, step)
            return Outcome(replace(_nothing(request), stages=stages), step)
        saving = self._saving(request.priority)
        if saving is not None and not isinstance(decided, Act):
            raise saving
        transcript = Transcript(
            agent if saving is None else _without_model(agent),
            request.text,
            _shortlist(specs, decided),
            dialect,
            Tier.INTENT if isinstance(decided, Act) else Tier.MODEL,
            history=await self._past(request, agent),
            chosen=decided.call if isinstance(decided, Act) else None,
        )
        outcome = await self._runner.run(
            request, transcript, self._local, deadline_monotonic=deadline_monotonic, on_text=on_text
        )
        outcome = replace(outcome, reply=replace(outcome.reply, stages=stages + outcome.reply.stages))
        if question is not None and isinstance(decided, Act) and decided.call is question.call:
            await self._learn(agent, question.text, outcome.reply)
        return await self._kept(request, agent, outcome)

    async def _learn(self, agent: Agent, text: str, reply: Reply) -> None:
        """The caller confirmed what `text` meant, and it worked. A lesson that cannot be kept fails no answer."""
        worked = [result for result in reply.tool_results if result.ok]
        if self._lessons is None or not agent.learn or not worked or not plain(text):
            return
        try:
            await self._lessons.add(agent.name, worked[0].name, plain(text))
        except Unavailable as error:
            log.warning("a confirmed call was not learnt: %s", error.detail)

    async def _understood(
        self, request: Request, agent: Agent, specs: Sequence[ToolSpec], open_: Question | None, deadline: float | None
    ) -> Decision | None:
        """What the intent tier makes of it; None where there is none, or where its encoder cannot run now: a slower tier can.

        A request that is no call by itself may be the answer to the question that is open.
        """
        if self._reader is None or not specs or Tier.INTENT not in agent.tiers:
            return None
        if open_ is not None and open_.call is not None and is_yes(request.text):
            return Act(open_.call, 1.0)
        try:
            decided = await self._reader.read(agent.name, specs, request.text, deadline)
            if open_ is not None and open_.call is None and not isinstance(decided, Act):
                both = f"{open_.text}, {request.text}"
                joined = await self._reader.read(agent.name, specs, both, deadline)
                if isinstance(joined, AskBack):
                    decided = replace(joined, said=both)
                elif isinstance(joined, Act):
                    decided = joined
            return decided
        except DeadlineExceeded:
            raise
        except Unavailable as error:
            log.warning("the intent tier is skipped: %s", error.detail)
            return None

    def _note(self, request: Request, agent: Agent, decided: Decision | None, step: Escalate) -> None:
        """Keep the question that the caller is asked now, if there is a conversation in which to answer it."""
        conversation = _conversation(request)
        if conversation is None:
            return
        if isinstance(decided, AskBack):
            self._asked.note(conversation, Question(decided.said or request.text))
        elif isinstance(decided, PassOn) and step.reason == "missing_argument":
            self._asked.note(conversation, Question(request.text))
        elif isinstance(decided, PassOn) and decided.guess and step.reason == "unsure" and not self.may_escalate(agent):
            self._asked.note(conversation, Question(request.text, decided.guess))

    async def ask_cloud(self, request: Request) -> Reply:
        """The same agent with the cloud as its model. Raises `Unavailable` kinds; BadRequest when the cloud comes to no end."""
        assert self._cloud is not None
        agent = self.agent(request.agent)
        transcript = Transcript(
            agent,
            request.text,
            tuple(await self._tools.specs(list(agent.tools))),
            DIALECTS["hermes"],
            tier=Tier.CLOUD,
            history=await self._past(request, agent),
        )
        outcome = await self._runner.run(request, transcript, self._cloud)
        if outcome.escalate is not None:
            raise BadRequest(outcome.escalate.text, reason=outcome.escalate.reason)
        return (await self._kept(request, agent, outcome)).reply

    async def _specs(self, agent: Agent, deadline: float | None) -> list[ToolSpec]:
        """A plugin that hangs may take its whole starting time to be found out; the caller's deadline comes first."""
        try:
            async with asyncio.timeout_at(deadline) as limit:
                return await self._tools.specs(list(agent.tools))
        except TimeoutError:
            if not limit.expired():
                raise
            raise DeadlineExceeded("the deadline passed before the plugins had told their tools") from None

    async def _reflex(
        self, request: Request, agent: Agent, specs: list[ToolSpec], deadline: float | None
    ) -> Reply | None:
        began = time.perf_counter()
        known = {spec.name: spec for spec in specs}
        call = match(self._reflexes[agent.name], request.text, known)
        if call is None:
            return None
        [result] = await self._runner.call(request, specs, [call], 0, deadline)
        text = wording.said(known[call.name], call, result, agent.language) or wording.bare(result)
        return reflex_reply(request, call, result, text, time.perf_counter() - began)

    async def _dialect(self, model: str) -> Dialect:
        if model not in self._spoken:  # a thread, since the first look at a large model file takes seconds
            name = await asyncio.to_thread(self._dialects, model)
            self._spoken[model] = DIALECTS.get(name, DIALECTS["json"])
        return self._spoken[model]

    async def _past(self, request: Request, agent: Agent) -> tuple[Message, ...]:
        """The session's latest messages, as many as the agent remembers and a small context bears."""
        if request.session is None or agent.memory == 0:
            return ()
        past = await self._history.load(request.session, request.caller.id, agent.memory)
        while sum(len(message.content) for message in past) > _HISTORY_CHARACTERS:
            past = past[1:]
        return tuple(past)

    async def _kept(self, request: Request, agent: Agent, outcome: Outcome) -> Outcome:
        if request.session is not None and agent.memory and outcome.escalate is None:
            said = [Message("user", request.text), Message("assistant", outcome.reply.text)]
            await self._history.append(request.session, request.caller.id, said)
        return outcome


def _conversation(request: Request) -> str | None:
    """Where a question can be answered: a caller's session with an agent."""
    if request.session is None:
        return None
    return f"{request.agent} {request.caller.door} {request.caller.id} {request.session}"


def _shortlist(specs: Sequence[ToolSpec], decided: Decision | None) -> tuple[ToolSpec, ...]:
    """The tools that a model is shown: the likely ones, where the intent tier has an opinion."""
    if not isinstance(decided, PassOn):
        return tuple(specs)
    return tuple(spec for spec in specs if spec.name in decided.tools)


def _without_model(agent: Agent) -> Agent:
    """For a call that is decided on: no model words its result."""
    return replace(agent, tiers=tuple(tier for tier in agent.tiers if tier != Tier.MODEL))


def _nothing(request: Request) -> Reply:
    return Reply(request.id, request.agent, ReplyStatus.DONE)
