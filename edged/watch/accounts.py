"""Counts energy around the pool and the plugin host, so that neither knows of it: whoever calls them says so, worker by worker."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any

from edged.device.energy import DAEMON, Bill, Billing, Gauge
from edged.domain.messages import ToolCall, ToolResult
from edged.domain.ports import Completion, Generation
from edged.domain.power import Energy, PowerPlan
from edged.engine.pool import Pool
from edged.tools.host import Host

__all__ = ["Accounts", "Models", "Toolbox"]

Using = Callable[[str], AbstractContextManager[None]]

_TOOLS = "tools"  # all plugins together: which of them has a tool is the host's to know


class Models:
    """The pool, with its work on the callers' bills."""

    def __init__(self, pool: Pool, using: Using) -> None:
        self._pool = pool
        self._using = using

    async def generate(self, generation: Generation) -> Completion:
        with self._using(f"model:{generation.model}"):
            return await self._pool.generate(generation)

    async def infer(
        self, model: str, verb: str, params: dict[str, Any], deadline_monotonic: float | None = None
    ) -> Any:
        with self._using(f"model:{model}"):
            return await self._pool.infer(model, verb, params, deadline_monotonic)


class Toolbox:
    """The host's calls, on the callers' bills."""

    def __init__(self, host: Host, using: Using) -> None:
        self._host = host
        self._using = using

    async def call(self, call: ToolCall, *, request_id: str, deadline_monotonic: float | None = None) -> ToolResult:
        with self._using(_TOOLS):
            return await self._host.call(call, request_id=request_id, deadline_monotonic=deadline_monotonic)


class Accounts:
    """What the agents get instead of the pool and the host. Without accounting it is these two, and `billing` is None."""

    def __init__(
        self, plan: PowerPlan, gauge: Gauge, pool: Pool, host: Host, booked: Callable[[str, Energy], None]
    ) -> None:
        self._pool = pool
        self._host = host
        self.models: Pool | Models = pool
        self.tools: Host | Toolbox = host
        self.billing: Callable[[str], AbstractContextManager[Bill]] | None = None
        if plan.account:
            bills = Billing(gauge, plan, self._pids, booked)
            self.models, self.tools = Models(pool, bills.using), Toolbox(host, bills.using)
            self.billing = bills.request

    def _pids(self, worker: str) -> Iterable[int]:
        if worker == DAEMON:
            return [os.getpid()]
        kind, _, name = worker.partition(":")
        entries = self._host.status() if kind == _TOOLS else [m for m in self._pool.status() if m["name"] == name]
        return [entry["pid"] for entry in entries if entry["pid"]]
