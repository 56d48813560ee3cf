"""Takes requests from the doors and sees each to its end: exactly one final reply, whatever crashes in between.

A durable request lives in the inbox: accepted (committed), leased, run, finished in one transaction with its reply. A plain call
that waits on its connection skips the inbox; only if it escalates is it written, together with its ticket.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from types import TracebackType
from typing import Any, Self, TypeVar

from edged.agent import permit
from edged.agent.router import Router
from edged.agent.runner import Outcome
from edged.agent.turn import Escalate
from edged.domain.errors import (
    BadRequest,
    DeadlineExceeded,
    EdgedError,
    NotFound,
    PowerSaving,
    QueueFull,
    StoreUnavailable,
    Unavailable,
    error_from_wire,
)
from edged.domain.messages import Caller, Reply, ReplyStatus, Request
from edged.domain.meters import Meters
from edged.domain.resources import Agent
from edged.store.escalations import Escalation
from edged.store.inbox import Accepted, Inbox
from edged.store.outbox import Outbox

__all__ = ["Dispatcher"]

log = logging.getLogger(__name__)

T = TypeVar("T")

_ATTEMPTS = 5
_LEASE_SECONDS = 3600.0  # one daemon owns the store and `recover` frees leases at start, so this only bounds a bug
_TICKET_SECONDS = 7 * 86400.0
_CALLERS_TO_MEND = ("missing_argument", "several_requests", "unsure")  # the caller can say it better, and is told how
_ONLY_CALLERS_KNOW = ("missing_argument",)  # what was not said is not known in the cloud either
_BEYOND = "Sorry, this is beyond what this device can do."


class Dispatcher:
    """An async context manager that works while it is open. `width` requests run at once, `line` more may wait."""

    def __init__(
        self,
        router: Router,
        inbox: Inbox,
        outbox: Outbox,
        meters: Meters,
        *,
        width: int = 8,
        line: int = 64,
        ticket_seconds: float = _TICKET_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._router = router
        self._inbox = inbox
        self._outbox = outbox
        self._meters = meters
        self._width = asyncio.Semaphore(width)
        self._room = width + line
        self._busy = 0
        self._ticket_seconds = ticket_seconds
        self._clock = clock
        self._group = asyncio.TaskGroup()
        self._loop_task: asyncio.Task[None] | None = None
        self._running: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        recovered = await self._inbox.recover()
        if recovered:
            log.info("%d requests that a stop had interrupted are queued again", recovered)
        await self._group.__aenter__()
        self._loop_task = self._group.create_task(self._work(), name="dispatcher")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stops leasing; what runs for the inbox is cancelled and will be run again after the next start."""
        assert self._loop_task is not None
        self._loop_task.cancel()
        for task in self._running:
            task.cancel()
        await self._group.__aexit__(None, None, None)

    @property
    def busy(self) -> int:
        """Requests in hand."""
        return self._busy

    def agent(self, name: str) -> Agent:
        """Raises NotFound."""
        return self._router.agent(name)

    def agents(self) -> list[dict[str, Any]]:
        return [
            {
                "name": a.name,
                "model": a.model,
                "tools": list(a.tools),
                "tiers": list(a.tiers),
                "local_only": a.local_only,
            }
            for a in self._router.agents.values()
        ]

    async def accept(self, request: Request) -> Accepted:
        """Durable: committed when this returns; the reply comes as outbox rows. Raises BadRequest and Unavailable kinds."""
        agent = self._admit(request)
        self._meters.count(f"requests.{request.caller.door}")
        return await self._inbox.accept(self._with_deadline(request, agent))

    async def submit(self, request: Request, on_text: Callable[[str], None] | None = None) -> Reply:
        """Answer on the caller's connection: the final reply, or the interim one with a ticket.

        Raises BadRequest and Unavailable kinds. Cancelling it cancels the work.
        """
        agent = self._admit(request)
        self._meters.count(f"requests.{request.caller.door}")
        if self._busy >= self._room:
            raise QueueFull("Too many requests are waiting.", retry_after=1.0)
        return await self._through(self._with_deadline(request, agent), on_text)

    async def lookup(self, name: str, caller: Caller, wait: float = 0.0) -> Reply | None:
        """By ticket or by the caller's own request id: the final reply; when `wait` seconds bring none, the interim one or
        None. Raises NotFound."""
        key = await self._inbox.by_ticket(name) or f"{caller.door}:{caller.id}:{name}"
        door, end = key.partition(":")[0], time.monotonic() + wait
        while True:
            seen = self._outbox.version(door)
            status = await self._inbox.status(key)
            if status is None:
                raise NotFound(f"There is no request or ticket {name!r}.", id=name)
            _, final, interim = status
            left = end - time.monotonic()
            if final is not None or left <= 0:
                return final or interim
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._outbox.wait_changed(door, seen)

    async def cloud(self, request: Request) -> Reply:
        """What the courier runs for a ticket."""
        return await self._router.ask_cloud(request)

    # admission

    def _admit(self, request: Request) -> Agent:
        agent = self._router.agent(request.agent)
        permit.require(request.caller, agent)
        if not request.text.strip():
            raise BadRequest("The request has no text.", field="text")
        if request.escalate and not self._router.may_escalate(agent):
            raise BadRequest(f"The agent {agent.name!r} never asks the cloud.", field="escalate")
        return agent

    def _with_deadline(self, request: Request, agent: Agent) -> Request:
        if request.deadline is not None:
            return request
        return replace(request, deadline=request.accepted_at + agent.deadline)

    # the inbox

    async def _work(self) -> None:
        """Lease and run, as many at once as there is width; sleep until something is due."""
        while True:
            seen = self._inbox.version()
            try:
                await self._width.acquire()
                request = await self._lease()
            except StoreUnavailable as error:
                self._width.release()
                await asyncio.sleep(error.retry_after or 5.0)
                continue
            if request is None:
                self._width.release()
                await self._rest(seen)
                continue
            task = self._group.create_task(self._leased(request), name=f"request:{request.key}")
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _lease(self) -> Request | None:
        return await self._inbox.lease(self._clock(), _LEASE_SECONDS)

    async def _rest(self, seen: int) -> None:
        due = await self._inbox.next_due(self._clock())
        delay = None if due is None else max(0.05, due - self._clock())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay):
                await self._inbox.wait_changed(seen)

    async def _leased(self, request: Request) -> None:
        """Run one leased request to its final reply, or give it back."""
        self._busy += 1
        try:
            reply = await self._run(request, None)
            if reply is not None and reply.status is not ReplyStatus.ESCALATED:
                await self._finish(request, reply)
        except Unavailable as error:
            await self._again(request, error)
        except EdgedError as error:
            await self._finish(request, _failed(request, error))
        finally:
            self._busy -= 1
            self._width.release()

    async def _again(self, request: Request, error: Unavailable) -> None:
        """Back to the queue with growing delays, while there is time and the attempts last."""
        attempts = await self._inbox.attempts(request.key)
        delay = max(error.retry_after or 0.0, 0.2 * 2**attempts)
        late = request.deadline is not None and self._clock() + delay >= request.deadline
        tired = attempts >= _ATTEMPTS and not isinstance(error, PowerSaving)  # which is no attempt
        if tired or late or isinstance(error, DeadlineExceeded):
            await self._finish(request, _failed(request, error))
        else:
            log.info("request %s goes back to the queue for %.1f s: %s", request.key, delay, error.code)
            await self._insist(lambda: self._inbox.release(request.key, error, delay))

    async def _finish(self, request: Request, reply: Reply) -> None:
        if await self._insist(lambda: self._inbox.finish(request, reply)):
            self._meters.count(f"replies.{reply.status}")

    async def _insist(self, write: Callable[[], Awaitable[T]]) -> T:
        """The outcome is in hand; only the disk has to make room."""
        while True:
            try:
                return await write()
            except StoreUnavailable as error:
                log.warning("cannot write an outcome yet: %s", error.detail)
                await asyncio.sleep(error.retry_after or 5.0)

    # one request

    async def _through(self, request: Request, on_text: Callable[[str], None] | None) -> Reply:
        self._busy += 1
        heard: list[str] = []

        def hear(text: str) -> None:
            heard.append(text)
            if on_text is not None:
                on_text(text)

        try:
            await self._turn(request)
            try:
                reply = await self._run(request, None if on_text is None else hear)
            finally:
                self._width.release()
            error = reply.error or {}
            if reply.status is ReplyStatus.FAILED and error.get("code") != "beyond_device":
                raise error_from_wire(error)
            self._meters.count(f"replies.{reply.status}")
            if on_text is not None and not heard and reply.status is ReplyStatus.DONE:
                on_text(reply.text)  # in one piece: it is checked against the result before anybody hears it
            return reply
        finally:
            self._busy -= 1

    async def _turn(self, request: Request) -> None:
        """Wait in line for a place among `width`, no longer than the request has time."""
        left = None if request.deadline is None else request.deadline - self._clock()
        try:
            async with asyncio.timeout(left):
                await self._width.acquire()
        except TimeoutError:
            raise DeadlineExceeded("The deadline passed while the request waited in line.") from None

    async def _run(self, request: Request, on_text: Callable[[str], None] | None) -> Reply:
        left = (request.deadline or float("inf")) - self._clock()
        if left <= 0:
            raise DeadlineExceeded("The deadline passed before the request was run.")
        end = None if left == float("inf") else time.monotonic() + left
        outcome = await self._router.answer(request, end, on_text)
        if outcome.escalate is None:
            tier = outcome.reply.tier
            self._meters.count(f"tier.{tier}")
            return outcome.reply
        return await self._escalate(request, outcome, outcome.escalate)

    async def _escalate(self, request: Request, outcome: Outcome, why: Escalate) -> Reply:
        agent = self._router.agent(request.agent)
        if why.reason in _ONLY_CALLERS_KNOW or not self._router.may_escalate(agent):
            text = why.text if why.reason in _CALLERS_TO_MEND else _BEYOND
            error = {"code": "beyond_device", "detail": why.text, "fields": {"reason": why.reason}}
            return replace(outcome.reply, status=ReplyStatus.FAILED, text=text, finish_reason="error", error=error)
        ticket, now = secrets.token_hex(8), self._clock()
        text = f"This is beyond the device, so it waits for the cloud under ticket {ticket}."
        interim = replace(
            outcome.reply, status=ReplyStatus.ESCALATED, text=text, tier=None, finish_reason="escalated", ticket=ticket
        )
        escalation = Escalation(ticket, request, created=now, expires_at=now + self._ticket_seconds)
        if await self._inbox.escalate(request, interim, escalation):
            self._meters.count("escalations")
            return interim
        known = await self._inbox.status(request.key)  # an earlier attempt had got this far
        if known is None or (known[1] or known[2]) is None:
            raise Unavailable("The request is being answered already.", retry_after=1.0)
        return known[1] or known[2] or interim


def _failed(request: Request, error: EdgedError) -> Reply:
    wire = error.to_wire()
    return Reply(request.id, request.agent, ReplyStatus.FAILED, text=error.detail, finish_reason="error", error=wire)
