"""Operators teach an agent what sentences mean: it counts with the next request, and no model is trained."""

from __future__ import annotations

from typing import Any

from edged.agent.reader import plain
from edged.agent.router import Router
from edged.domain.errors import BadRequest, Forbidden, NotFound
from edged.domain.messages import Caller
from edged.store.lessons import Lessons

__all__ = ["Teaching"]


class Teaching:
    """What is taught, and by whom. All methods raise BadRequest, NotFound and Forbidden."""

    def __init__(self, router: Router, lessons: Lessons) -> None:
        self._router = router
        self._lessons = lessons

    async def teach(self, caller: Caller, agent: str, tool: str, text: str) -> dict[str, Any]:
        """`text` asks for `tool`. Committed when it returns what `taught` shows."""
        _require_operator(caller)
        known = await self._router.tools_of(agent)
        if tool not in known:
            raise NotFound(f"The agent {agent!r} has no tool {tool!r}; it has {', '.join(known) or 'none'}.", tool=tool)
        await self._lessons.add(agent, tool, _words(text))
        return self.taught(caller, agent)

    async def forget(self, caller: Caller, agent: str, tool: str, text: str) -> dict[str, Any]:
        """Also of a tool that is no longer there."""
        _require_operator(caller)
        self._router.agent(agent)
        if not await self._lessons.forget(agent, tool, _words(text)):
            raise NotFound(f"Nobody taught {agent!r} that {text!r} asks for {tool!r}.", tool=tool)
        return self.taught(caller, agent)

    def taught(self, caller: Caller, agent: str) -> dict[str, Any]:
        """{agent, tools: {tool: [sentence, ...]}}, the newest sentence first: what others said is for operators."""
        _require_operator(caller)
        self._router.agent(agent)
        return {"agent": agent, "tools": {tool: list(texts) for tool, texts in self._lessons.all(agent).items()}}


def _require_operator(caller: Caller) -> None:
    if caller.role != "operator":
        raise Forbidden("Only operators teach: root, and the user the daemon runs as.", role=caller.role)


def _words(text: str) -> str:
    """As it is kept: letter case and punctuation are no other sentence, and what has no words would be like anything."""
    words = plain(text)
    if not words:
        raise BadRequest("The sentence has no words.", field="text")
    return words
