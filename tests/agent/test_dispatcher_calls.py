"""Callers who wait on their connection, requests that the device cannot answer, and those who ask later."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edged.agent.runner import Outcome
from edged.agent.turn import Escalate
from edged.domain.errors import (
    BadRequest,
    Cancelled,
    CloudUnreachable,
    DeadlineExceeded,
    EdgedError,
    EngineCrashed,
    Forbidden,
    ModelBroken,
    ModelWontFit,
    NotFound,
    PowerSaving,
    QueueFull,
    RateLimited,
    StoreUnavailable,
    ToolFailed,
    Unavailable,
)
from edged.domain.messages import Caller, Reply, ReplyStatus, Request

from .desk import BEYOND, CALLER, Scripted, ask, site

PASSING: list[type[Unavailable]] = [
    *(Unavailable, QueueFull, RateLimited, ModelWontFit, ModelBroken, EngineCrashed, PowerSaving, CloudUnreachable),
    StoreUnavailable,
]
FINAL: list[type[EdgedError]] = [BadRequest, NotFound, Cancelled, ToolFailed, DeadlineExceeded]


def names(kinds: list[Any]) -> list[str]:
    return [kind.__name__ for kind in kinds]


# on the connection


class Speaking(Scripted):
    """Says its answer in pieces."""

    async def answer(
        self, request: Request, deadline_monotonic: float | None, on_text: Callable[[str], None] | None = None
    ) -> Outcome:
        if on_text is not None:
            on_text("Th")
            on_text("ree.")
        return await super().answer(request, deadline_monotonic)


@pytest.mark.parametrize(("router", "heard"), [(Speaking("Three."), ["Th", "ree."]), (Scripted("Three."), ["Three."])])
async def test_an_answer_is_heard_once(tmp_path: Path, router: Scripted, heard: list[str]) -> None:
    pieces: list[str] = []
    async with site(tmp_path, router) as here:
        await here.dispatcher.submit(ask(), pieces.append)
    assert pieces == heard


async def test_submit_answers_and_leaves_no_trace(tmp_path: Path) -> None:
    async with site(tmp_path, Scripted("Three.")) as here:
        assert (await here.dispatcher.submit(ask())).text == "Three."
        assert (await here.inbox.counts(), await here.kinds()) == ({}, [])
        assert here.meters.snapshot() == {"requests.mqtt": 1, "tier.model": 1, "replies.done": 1}


@pytest.mark.parametrize("kind", [*PASSING, *FINAL], ids=names([*PASSING, *FINAL]))
async def test_submit_raises_what_the_router_raises(tmp_path: Path, kind: type[EdgedError]) -> None:
    async with site(tmp_path, Scripted(kind("no", retry_after=3.0))) as here:
        with pytest.raises(kind) as caught:
            await here.dispatcher.submit(ask())
        assert type(caught.value) is kind
        assert here.dispatcher.busy == 0


async def test_cancelling_submit_cancels_the_work(tmp_path: Path) -> None:
    router = Scripted(asyncio.Event(), "next")
    async with site(tmp_path, router, width=1) as here:
        task = asyncio.ensure_future(here.dispatcher.submit(ask()))
        await router.begun.get()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (router.cancelled, here.dispatcher.busy) == (1, 0)
        assert (await here.dispatcher.submit(ask())).text == "next"  # its place is free again


async def test_too_many_are_refused_and_the_others_served(tmp_path: Path) -> None:
    gate = asyncio.Event()
    router = Scripted(gate)
    async with site(tmp_path, router, width=1, line=1) as here:
        waiting = [asyncio.ensure_future(here.dispatcher.submit(ask(str(n)))) for n in range(2)]
        await router.begun.get()
        with pytest.raises(QueueFull) as caught:
            await here.dispatcher.submit(ask("3"))
        assert caught.value.retry_after is not None
        gate.set()
        assert [reply.request_id for reply in await asyncio.gather(*waiting)] == ["0", "1"]


async def test_a_full_inbox_refuses(tmp_path: Path) -> None:
    router = Scripted(asyncio.Event())
    async with site(tmp_path, router, limit_rows=1) as here:
        await here.dispatcher.accept(ask("1"))
        with pytest.raises(QueueFull):
            await here.dispatcher.accept(ask("2"))
        assert (await here.dispatcher.accept(ask("1"))).state == "pending"


REFUSED: list[tuple[dict[str, Any], type[EdgedError]]] = [
    ({"agent": "nobody"}, NotFound),
    ({"text": " \n"}, BadRequest),
    ({"agent": "staff"}, Forbidden),
    ({"agent": "home", "escalate": True}, BadRequest),
]


@pytest.mark.parametrize("way", ["submit", "accept"])
@pytest.mark.parametrize(("what", "kind"), REFUSED, ids=["agent", "text", "role", "escalate"])
async def test_what_is_refused_at_the_door(
    tmp_path: Path, way: str, what: dict[str, Any], kind: type[EdgedError]
) -> None:
    router = Scripted("x")
    async with site(tmp_path, router) as here:
        with pytest.raises(kind) as caught:
            await getattr(here.dispatcher, way)(ask(**what))
        assert type(caught.value) is kind
        assert await here.inbox.counts() == {}
    assert router.asked == []


async def test_a_role_that_is_named_may_pass(tmp_path: Path) -> None:
    async with site(tmp_path, Scripted("x")) as here:
        caller = Caller("boss", "staff", "mqtt")
        assert (await here.dispatcher.submit(ask(agent="staff", caller=caller))).text == "x"


# escalation


async def test_submit_that_escalates_is_written_with_its_ticket(tmp_path: Path) -> None:
    async with site(tmp_path, Scripted(BEYOND)) as here:
        interim = await here.dispatcher.submit(ask())
        assert interim.ticket is not None
        assert interim.ticket in interim.text
        assert (interim.status, interim.tier) == (ReplyStatus.ESCALATED, None)
        assert await here.kinds() == [("r", "interim", "escalated")]
        held = await here.escalations.get(interim.ticket)
        assert held is not None
        assert (held.state, held.request.id, held.expires_at - held.created) == ("waiting", "r", 7 * 86400.0)
        for name in ("r", interim.ticket):
            assert await here.dispatcher.lookup(name, CALLER) == interim


async def test_a_durable_request_that_escalates_ends_with_the_clouds_answer(tmp_path: Path) -> None:
    router = Scripted(BEYOND)
    async with site(tmp_path, router) as here:
        seen = here.outbox.version("mqtt")
        await here.dispatcher.accept(ask())
        await here.outbox.wait_changed("mqtt", seen)
        interim = await here.dispatcher.lookup("r", CALLER)
        assert interim is not None
        assert interim.ticket is not None
        assert await here.inbox.counts() == {"escalated": 1}
        waiting = asyncio.ensure_future(here.dispatcher.lookup(interim.ticket, CALLER, 10))
        final = Reply("r", "kiosk", ReplyStatus.DONE, "From afar.")
        assert await here.escalations.finish(interim.ticket, final)
        assert await waiting == final
        assert await here.kinds() == [("r", "interim", "escalated"), ("r", "final", "done")]
    assert len(router.asked) == 1


async def test_the_same_id_escalates_once(tmp_path: Path) -> None:
    async with site(tmp_path, Scripted(BEYOND)) as here:
        first, second = await here.dispatcher.submit(ask()), await here.dispatcher.submit(ask())
        assert first.ticket == second.ticket
        assert await here.escalations.counts() == {"waiting": 1}


async def test_what_only_the_caller_knows_is_not_asked_of_the_cloud(tmp_path: Path) -> None:
    async with site(tmp_path, Scripted(Escalate("missing_argument", "Which minutes?"))) as here:
        reply = await here.dispatcher.submit(ask())
        assert (reply.status, reply.text, reply.ticket) == (ReplyStatus.FAILED, "Which minutes?", None)
        assert await here.escalations.counts() == {}


@pytest.mark.parametrize(("agent", "cloud"), [("home", True), ("kiosk", False)], ids=["local_only", "no cloud"])
@pytest.mark.parametrize("durable", [True, False])
async def test_what_may_not_escalate_is_beyond_the_device(
    tmp_path: Path, agent: str, cloud: bool, durable: bool
) -> None:
    async with site(tmp_path, Scripted(BEYOND, cloud=cloud)) as here:
        request = ask(agent=agent)
        if durable:
            await here.dispatcher.accept(request)
            reply = await here.dispatcher.lookup("r", CALLER, 10)
        else:
            reply = await here.dispatcher.submit(request)
        assert reply is not None
        assert reply.error is not None
        assert (reply.status, reply.error["code"], reply.ticket) == (ReplyStatus.FAILED, "beyond_device", None)
        assert reply.error["fields"] == {"reason": "no_tool_fits"}
        assert await here.escalations.counts() == {}
        assert await here.kinds() == ([("r", "final", "failed")] if durable else [])


# lookup


async def test_lookup_of_what_is_not_there_and_of_what_is_not_done(tmp_path: Path) -> None:
    router = Scripted(asyncio.Event())
    async with site(tmp_path, router) as here:
        await here.dispatcher.accept(ask())
        for wait in (0.0, 0.02):
            assert await here.dispatcher.lookup("r", CALLER, wait) is None
        for name, caller in (("q", CALLER), ("r", Caller("other", door="mqtt")), ("r", Caller("till"))):
            with pytest.raises(NotFound):
                await here.dispatcher.lookup(name, caller, 5)


async def test_lookup_wakes_with_the_reply(tmp_path: Path) -> None:
    gate = asyncio.Event()
    router = Scripted(gate)
    async with site(tmp_path, router) as here:
        await here.dispatcher.accept(ask())
        await router.begun.get()
        waiting = asyncio.ensure_future(here.dispatcher.lookup("r", CALLER, 10))
        gate.set()
        reply = await waiting
        assert reply is not None
        assert reply.text == "late"
