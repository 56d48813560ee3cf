"""Carries escalated requests to the cloud and brings the answer back: once, however often it has to try.

The rules of the file:

* A ticket moves only by a commit, and nothing is done on the strength of a move that is not committed: lease, then run,
  then one of finish, dead, release. While the disk is full the courier holds the answer in its hand and tries the commit
  again; it does not ask the cloud a second time.
* The one courier of the store owns every lease, and a lease outlives any run: it ends by a commit, or by `recover` at
  the next start. A lease that could lapse (a stepped clock, a slow cloud) would answer a ticket twice.
* A dead line is probed by one ticket, not by all that wait: after a failure the whole line holds. Success ends
  the hold; a ticket's own back-off stays.
* Attempts that never reached the cloud are not counted against a ticket: a week without network is what the queue is
  for. They are bounded by the expiry. What the cloud answered badly, and what took the daemon down, is counted.
* The wall clock decides what is due and what has expired, since rows outlive the process; the monotonic clock decides
  how long to sleep. No delay is longer than `Backoff.longest`, so a row that is due later than that was written before
  the clock was set back, and is due now. Nothing expires while the clock is not known to be set.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import NoReturn, TypeVar

from edged.domain.errors import (
    BadRequest,
    CloudUnreachable,
    DeadlineExceeded,
    EdgedError,
    PowerSaving,
    QueueFull,
    StoreUnavailable,
    Unavailable,
    error_from_wire,
)
from edged.domain.messages import Reply, ReplyStatus, Request, Stage, Tier
from edged.domain.meters import Meters
from edged.escalation.backoff import Backoff
from edged.store.escalations import Escalation, Escalations

__all__ = ["Courier", "CourierSettings"]

log = logging.getLogger(__name__)
T = TypeVar("T")

_LEASE_SECONDS = 100 * 365 * 86400.0  # see the second rule
_STORE_PAUSE = 5.0
_NOTE = re.compile(r" \((\d+) uncounted\)\Z")


@dataclass(frozen=True, slots=True)
class CourierSettings:
    """`max_attempts` counts as the file's rules say; `attempt_seconds` bounds one run of the agent's loop."""

    max_attempts: int = 50
    attempt_seconds: float = 600.0
    concurrency: int = 1
    backoff: Backoff = field(default_factory=Backoff)


class Courier:
    """One per store. `carry` runs until it is cancelled; a run that it interrupts goes back to the queue.

    `run` is "this agent's loop with the cloud as its model": it returns a final reply or raises an `EdgedError`
    (`Unavailable` kinds are tried again, others are final). The request it gets has no deadline, since the caller's has
    passed long ago. `clock_is_set` says whether the wall clock can be trusted to judge expiry.
    """

    def __init__(
        self,
        escalations: Escalations,
        run: Callable[[Request], Awaitable[Reply]],
        settings: CourierSettings | None = None,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        roll: Callable[[], float] = random.random,
        clock_is_set: Callable[[], bool] = lambda: True,
        meters: Meters | None = None,
    ) -> None:
        self._escalations = escalations
        self._run = run
        self._settings = settings or CourierSettings()
        self._clock = clock
        self._monotonic = monotonic
        self._roll = roll
        self._clock_is_set = clock_is_set
        self._meters = meters or Meters()
        self._wake = asyncio.Event()
        self._picking = asyncio.Lock()
        self._carried = 0
        self._failures = 0
        self._hold_until = 0.0
        self._poked = False
        self._eager = False

    def poke(self) -> None:
        """Connectivity may have returned: one ticket is tried now, whatever its back-off says, and then the rest."""
        self._poked = True
        self._wake.set()

    async def carry(self) -> NoReturn:
        """Frees what a former process held, then works until cancelled. Errors that are no `EdgedError` climb."""
        await self._durably(self._escalations.recover)
        seen = self._escalations.version()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen(seen), name="courier:listen")
            for lane in range(self._settings.concurrency):
                group.create_task(self._lane(), name=f"courier:{lane}")
        raise AssertionError("the courier's tasks never end by themselves")

    async def _listen(self, seen: int) -> NoReturn:
        while True:
            seen = await self._escalations.wait_changed(seen)
            self._wake.set()

    async def _lane(self) -> NoReturn:
        while True:
            escalation = await self._next()
            try:
                await self._deliver(escalation)
            finally:
                self._carried -= 1
                self._wake.set()

    # Which ticket, and when

    async def _next(self) -> Escalation:
        """Sleeps until a ticket can be leased: no timer runs but the one to the next due row."""
        async with self._picking:
            while True:
                self._wake.clear()  # before looking, so that a change after the look is seen
                pause: float | None = self._held()
                if not pause:
                    now = self._horizon(due := await self._durably(self._next_due))
                    if due is not None and due <= now and (found := await self._lease(now)) is not None:
                        return found
                    self._eager = self._eager and self._carried > 0
                    pause = None if due is None else self._pause(due - now)
                # Not `wait_for`: Python 3.11's swallows a cancellation that comes together with the wake.
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._wake.wait()

    def _pause(self, ahead: float) -> float:
        return min(ahead, self._settings.backoff.longest) if ahead > 0 else _STORE_PAUSE

    def _held(self) -> float:
        """Seconds that the line still holds. A poke that comes during an attempt outlives that attempt's failure."""
        if self._poked:
            self._poked, self._eager = False, True
        return 0.0 if self._eager else max(self._hold_until - self._monotonic(), 0.0)

    def _horizon(self, due: float | None) -> float:
        """The time to lease at: now, or later if the next row must not wait for its own time.

        Only while no ticket is carried: then all that lies ahead is waiting rows, never a lease of our own.
        """
        now = self._clock()
        if due is None or self._carried or due <= now:
            return now
        return due if self._eager or due - now > self._settings.backoff.longest else now

    async def _next_due(self) -> float | None:
        return await self._escalations.next_due(self._clock())

    async def _lease(self, now: float) -> Escalation | None:
        found = await self._durably(lambda: self._escalations.lease(now, _LEASE_SECONDS))
        if found is not None:
            self._carried += 1
        return found

    # What becomes of it

    async def _deliver(self, escalation: Escalation) -> None:
        if self._clock_is_set() and self._clock() >= escalation.expires_at:
            await self._bury(escalation, "escalation_expired", "The cloud did not answer before the ticket expired.")
            return
        if _tries(escalation) > self._settings.max_attempts:
            # Found so at its lease: every former try ended the process before it could be counted.
            await self._bury(escalation, "escalation_exhausted", "The request stopped the daemon too often.")
            return
        began = self._monotonic()
        try:
            reply = await self._attempt(escalation.request)
        except asyncio.CancelledError:
            with suppress(StoreUnavailable):  # once: a full disk must not hold up the exit, `recover` mends it
                await self._back(escalation, _interrupted(), 0.0)
            raise
        except Unavailable as error:
            await self._retry(escalation, error)
        except EdgedError as error:
            self._line_is_up()
            await self._bury(escalation, error.code, error.detail, error)
        else:
            self._line_is_up()
            await self._finish(escalation, reply, self._monotonic() - began)

    async def _attempt(self, request: Request) -> Reply:
        """A final DONE reply, or the error that a FAILED one carries: both ways to fail are judged in one place."""
        self._meters.count("escalation.attempts")
        try:
            async with asyncio.timeout(self._settings.attempt_seconds):
                reply = await self._run(replace(request, deadline=None))
        except TimeoutError:
            raise DeadlineExceeded("the attempt took too long") from None
        if reply.status is ReplyStatus.FAILED:
            raise error_from_wire(reply.error or {"code": "error", "detail": reply.text or "the cloud run failed"})
        if reply.status is not ReplyStatus.DONE:
            raise BadRequest("the cloud run escalated again", reason="escalated_twice")
        return reply

    async def _finish(self, escalation: Escalation, reply: Reply, seconds: float) -> None:
        waited = max(self._clock() - escalation.created - seconds, 0.0)
        final = replace(
            reply,
            request_id=escalation.request.id,
            ticket=escalation.ticket,
            tier=reply.tier or Tier.CLOUD,
            stages=(Stage("queue", waited), *reply.stages),
        )
        if await self._durably(lambda: self._escalations.finish(escalation.ticket, final)):
            self._meters.count("escalation.answered")

    async def _retry(self, escalation: Escalation, error: Unavailable) -> None:
        tries = _tries(escalation) if _counts(error) else _tries(escalation) - 1
        if tries >= self._settings.max_attempts:
            await self._bury(escalation, "escalation_exhausted", f"Tried {tries} times: {error.detail}", error)
            return
        self._failures += 1
        roll = self._roll()
        hold = self._settings.backoff.delay(self._failures, roll, error.retry_after)
        # A ticket that fails while others succeed must slow down too, so its own count has a say.
        wait = self._settings.backoff.delay(max(self._failures, tries), roll, error.retry_after)
        self._hold_until, self._eager = self._monotonic() + hold, False
        await self._durably(lambda: self._back(escalation, error, wait))
        self._meters.count("escalation.retries")
        log.info("escalation %s: attempt %d: %s; again in %.0f s", escalation.ticket, escalation.attempts, error, wait)

    async def _back(self, escalation: Escalation, error: EdgedError, wait: float) -> None:
        """To the queue, with the number of attempts that do not count kept at the end of the row's own last error."""
        free = escalation.attempts - _tries(escalation) + (0 if _counts(error) else 1)
        kept = error_from_wire({"code": error.code, "detail": f"{error.detail} ({free} uncounted)"})
        await self._escalations.release(escalation.ticket, kept, self._clock() + wait)

    async def _bury(self, escalation: Escalation, code: str, why: str, error: EdgedError | None = None) -> None:
        wire = {**(error.to_wire() if error else {}), "code": code, "detail": why}
        wire.pop("retry_after", None)
        reply = Reply(
            escalation.request.id,
            escalation.request.agent,
            ReplyStatus.FAILED,
            text=why,
            tier=Tier.CLOUD,
            finish_reason="error",
            ticket=escalation.ticket,
            error=wire,
        )
        if await self._durably(lambda: self._escalations.dead(escalation.ticket, code, reply)):
            self._meters.count("escalation.dead")
            log.warning("escalation %s is dead: %s: %s", escalation.ticket, code, why)

    def _line_is_up(self) -> None:
        self._failures, self._hold_until = 0, 0.0

    async def _durably(self, commit: Callable[[], Awaitable[T]]) -> T:
        """Until it is committed: there is nothing else that may be done meanwhile."""
        while True:
            try:
                return await commit()
            except StoreUnavailable as error:
                log.warning("the store cannot commit: %s", error)
                await asyncio.sleep(error.retry_after or _STORE_PAUSE)


def _interrupted() -> EdgedError:
    return CloudUnreachable("the daemon stopped during the attempt", reason="stopped", reached=False)


def _counts(error: EdgedError) -> bool:
    """Whether this failure says something about the ticket, and not only about the line or the device."""
    return (
        not isinstance(error, PowerSaving | QueueFull | StoreUnavailable) and error.fields.get("reached") is not False
    )


def _tries(escalation: Escalation) -> int:
    """Attempts that count, this one included. Only `_back` writes the note, always and last: no error's text can forge it."""
    noted = _NOTE.search(escalation.last_error or "")
    return escalation.attempts - (int(noted.group(1)) if noted else 0)
