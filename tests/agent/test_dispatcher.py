"""The dispatcher over a real store: one final reply a request, whatever the router does and whenever it stops."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import pytest

from edged.domain.errors import (
    BadRequest,
    Cancelled,
    CloudUnreachable,
    DeadlineExceeded,
    EdgedError,
    EngineCrashed,
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
from edged.domain.messages import Reply, ReplyStatus
from edged.store.inbox import Inbox

from .desk import CALLER, Clock, Scripted, ask, site

PASSING: list[type[Unavailable]] = [
    *(Unavailable, QueueFull, RateLimited, ModelWontFit, ModelBroken, EngineCrashed, PowerSaving, CloudUnreachable),
    StoreUnavailable,
]
FINAL: list[type[EdgedError]] = [BadRequest, NotFound, Cancelled, ToolFailed, DeadlineExceeded]


def names(kinds: list[Any]) -> list[str]:
    return [kind.__name__ for kind in kinds]


# durable


async def test_an_accepted_request_gets_one_final_reply(tmp_path: Path) -> None:
    router = Scripted("Three.")
    async with site(tmp_path, router) as here:
        assert (await here.dispatcher.accept(ask())).state == "new"
        reply = await here.dispatcher.lookup("r", CALLER, 10)
        assert reply is not None
        assert (reply.status, reply.text) == (ReplyStatus.DONE, "Three.")
        again = await here.dispatcher.accept(ask())
        assert (again.state, again.reply) == ("answered", reply)
        assert await here.kinds() == [("r", "final", "done")]
        assert len(router.asked) == 1
        assert here.meters.snapshot()["replies.done"] == 1


@pytest.mark.parametrize("kind", PASSING, ids=names(PASSING))
async def test_what_time_mends_is_tried_again(tmp_path: Path, kind: type[Unavailable]) -> None:
    router = Scripted(kind("not now"), "Three.")
    async with site(tmp_path, router, clock=Clock(tick=0.5)) as here:
        await here.dispatcher.accept(ask(deadline=time.time() + 1000))
        reply = await here.dispatcher.lookup("r", CALLER, 10)
        assert reply is not None
        assert reply.text == "Three."
        assert await here.kinds() == [("r", "final", "done")]
        assert len(router.asked) == 2


@pytest.mark.parametrize("kind", FINAL, ids=names(FINAL))
async def test_what_time_does_not_mend_fails_at_once(tmp_path: Path, kind: type[EdgedError]) -> None:
    router = Scripted(kind("never"))
    async with site(tmp_path, router) as here:
        await here.dispatcher.accept(ask())
        reply = await here.dispatcher.lookup("r", CALLER, 10)
        assert reply is not None
        assert reply.error is not None
        assert (reply.status, reply.error["code"], reply.text) == (ReplyStatus.FAILED, kind.code, "never")
        assert await here.kinds() == [("r", "final", "failed")]
        assert len(router.asked) == 1


async def test_attempts_are_bounded_and_delays_grow(tmp_path: Path) -> None:
    clock, times = Clock(tick=2.0), []

    class Noting(Scripted):
        async def answer(self, *args: Any, **more: Any) -> Any:
            times.append(clock.now)
            return await super().answer(*args, **more)

    async with site(tmp_path, Noting(EngineCrashed("crashed")), clock=clock) as here:
        await here.dispatcher.accept(ask(deadline=clock.now + 1000))
        reply = await here.dispatcher.lookup("r", CALLER, 15)
        assert reply is not None
        assert reply.error is not None
        assert reply.error["code"] == "engine_crashed"
        assert await here.kinds() == [("r", "final", "failed")]
    gaps = [after - before for before, after in pairwise(times)]
    assert len(times) == 5
    assert all(gap >= 0.2 * 2**n for n, gap in enumerate(gaps, 1))


async def test_a_stated_retry_after_is_kept(tmp_path: Path) -> None:
    clock = Clock()
    async with site(tmp_path, Scripted(ModelBroken("resting", retry_after=30.0)), clock=clock) as here:
        seen = here.inbox.version()
        await here.dispatcher.accept(ask(deadline=clock.now + 1000))
        seen = await here.inbox.wait_changed(seen)  # accepted
        await here.inbox.wait_changed(seen)  # released
        assert await here.inbox.next_due(clock.now) == clock.now + 30
        assert await here.kinds() == []


async def test_no_retry_that_would_come_too_late(tmp_path: Path) -> None:
    router = Scripted(ModelBroken("resting", retry_after=30.0))
    async with site(tmp_path, router) as here:
        await here.dispatcher.accept(ask(deadline=time.time() + 20))
        reply = await here.dispatcher.lookup("r", CALLER, 10)
        assert reply is not None
        assert reply.error is not None
        assert reply.error["code"] == "model_broken"
        assert len(router.asked) == 1


async def test_a_store_that_is_full_for_a_moment_loses_nothing(tmp_path: Path) -> None:
    class Full(Inbox):
        """Refuses the first of each write that ends an attempt."""

        refusals: ClassVar[set[str]] = {"release", "finish"}

        def _refuse(self, name: str) -> None:
            if name in self.refusals:
                self.refusals.remove(name)
                raise StoreUnavailable("disk full", retry_after=0.01)

        async def release(self, key: str, error: EdgedError, delay: float) -> int:
            self._refuse("release")
            return await super().release(key, error, delay)

        async def finish(self, request: Any, reply: Reply) -> bool:
            self._refuse("finish")
            return await super().finish(request, reply)

    router = Scripted(StoreUnavailable("disk full"), "Three.")
    async with site(tmp_path, router, clock=Clock(tick=0.5), inbox=Full) as here:
        await here.dispatcher.accept(ask(deadline=time.time() + 1000))
        reply = await here.dispatcher.lookup("r", CALLER, 10)
        assert reply is not None
        assert reply.text == "Three."
        assert not Full.refusals


# restarts


async def test_a_request_that_a_stop_interrupted_is_run_again(tmp_path: Path) -> None:
    hanging = Scripted(asyncio.Event())
    async with site(tmp_path, hanging) as here:
        await here.dispatcher.accept(ask())
        await hanging.begun.get()
    assert hanging.cancelled == 1
    async with site(tmp_path, Scripted("Three.")) as here:
        reply = await here.dispatcher.lookup("r", CALLER, 10)
        assert reply is not None
        assert reply.text == "Three."
        assert await here.kinds() == [("r", "final", "done")]


async def test_an_answered_request_is_not_run_after_a_restart(tmp_path: Path) -> None:
    async with site(tmp_path, Scripted("Three.")) as here:
        await here.dispatcher.accept(ask())
        await here.dispatcher.lookup("r", CALLER, 10)
    idle = Scripted("Four.")
    async with site(tmp_path, idle) as here:
        assert (await here.dispatcher.accept(ask())).state == "answered"
        await here.dispatcher.accept(ask("next"))
        await here.dispatcher.lookup("next", CALLER, 10)
    assert [request.id for request in idle.asked] == ["next"]


# deadlines


@pytest.mark.parametrize("durable", [True, False])
async def test_a_deadline_that_has_passed_is_not_run(tmp_path: Path, durable: bool) -> None:
    router = Scripted("Three.")
    async with site(tmp_path, router) as here:
        late = ask(deadline=time.time() - 1)
        if durable:
            await here.dispatcher.accept(late)
            reply = await here.dispatcher.lookup("r", CALLER, 10)
            assert reply is not None
            assert reply.error is not None
            assert reply.error["code"] == "deadline_exceeded"
        else:
            with pytest.raises(DeadlineExceeded):
                await here.dispatcher.submit(late)
    assert router.asked == []


@pytest.mark.parametrize(("deadline", "left"), [(None, 30.0), (5.0, 5.0)])
async def test_the_router_gets_what_is_left(tmp_path: Path, deadline: float | None, left: float) -> None:
    router, clock = Scripted("x"), Clock()
    async with site(tmp_path, router, clock=clock) as here:
        await here.dispatcher.submit(ask(at=clock.now, deadline=None if deadline is None else clock.now + deadline))
    [end] = router.ends
    assert end is not None
    assert left - 5 < end - time.monotonic() <= left


async def test_the_deadline_counts_in_line_too(tmp_path: Path) -> None:
    router = Scripted(asyncio.Event())
    async with site(tmp_path, router, width=1) as here:
        first = asyncio.ensure_future(here.dispatcher.submit(ask("1")))
        await router.begun.get()
        with pytest.raises(DeadlineExceeded):
            await here.dispatcher.submit(ask("2", deadline=time.time() + 0.05))
        first.cancel()
    assert [request.id for request in router.asked] == ["1"]
