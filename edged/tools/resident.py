"""One plugin's child through its lives: started when wanted, rested after crashes, ended when idle or stuck.

One task (`live`) owns the child; everything else asks it. A tool that overruns is told so (cancel) and given a grace; if it
is still running then, the whole child is killed, because a Python thread cannot be. Calls beside it fail with it.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edged.domain.errors import ConfigError, EdgedError, ToolFailed, Unavailable
from edged.domain.messages import Event, ToolCall
from edged.domain.resources import ToolSpec
from edged.ipc.channel import ChannelClosed
from edged.ipc.frames import FrameError
from edged.ipc.memory import resident_bytes
from edged.ipc.process import Child
from edged.tools.manifest import Manifest
from edged.tools.sandbox import Fence, environment, observe

__all__ = ["Resident", "rest_seconds"]

GRACE = 0.5
LONGEST_REST = 60.0
_log = logging.getLogger("edged.tools")


def rest_seconds(faults: int) -> float:
    """How long a plugin rests after its nth fault in a row: none after the first, then 0.5 s doubling to a minute."""
    return 0.0 if faults < 2 else min(LONGEST_REST, 0.25 * 2.0 ** min(faults - 1, 16))


class Resident:
    """A plugin with or without a child. `on_event` gets its events on the event loop."""

    def __init__(
        self,
        manifest: Manifest,
        state_dir: Path,
        on_event: Callable[[Event], None],
        spawn: Callable[[Any], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`state_dir` is this plugin's own; `spawn` runs a coroutine in the host's task group."""
        self.manifest = manifest
        self.specs: tuple[ToolSpec, ...] | None = None
        self.calls = self.failures = self.lives = 0
        self.last_error: str | None = None
        self._state_dir = state_dir
        self._on_event = on_event
        self._spawn = spawn
        self._clock = clock
        self._tokens = itertools.count(1)
        self._wanted = asyncio.Event()
        self._keep = False
        self._child: Child | None = None
        self._starting: asyncio.Future[Child] | None = None
        self._over: asyncio.Future[None] | None = None
        self._idle_timer: asyncio.TimerHandle | None = None
        self._busy = self._faults = 0
        self._stale = False
        self._resume_at = 0.0
        self._blame: str | None = None

    def keep(self) -> None:
        """Start now, and again whenever the child ends."""
        self._keep = True
        self._wanted.set()

    async def live(self) -> None:
        """The owner. Runs until cancelled; then the child is ended."""
        while True:
            await self._wanted.wait()
            await asyncio.sleep(max(0.0, self._resume_at - self._clock()))
            await self._life()
            if not self._keep and self._starting is None:  # someone may have asked while the child was being ended
                self._wanted.clear()

    async def describe(self) -> tuple[ToolSpec, ...]:
        """The tools with the choices of now; of a child that has ended, as it last told. Raises Unavailable."""
        if self.specs is not None and (self._child is None or not self._stale):
            return self.specs
        child = await self._running()
        if self._stale:
            await self._refresh(child)
        assert self.specs is not None
        return self.specs

    async def call(self, call: ToolCall, timeout: float, deadline: float | None) -> dict[str, Any]:
        """The result map. `deadline` is on the loop's clock. Raises ToolFailed or Unavailable with a sentence."""
        latest = asyncio.get_running_loop().time() + self.manifest.start_timeout
        try:
            async with asyncio.timeout_at(latest if deadline is None else min(latest, deadline)):
                child = await self._running()
        except TimeoutError:
            raise ToolFailed(f"The {self.manifest.name} plugin did not start in time.") from None
        end = asyncio.get_running_loop().time() + min(timeout, self.manifest.timeout)
        self._busy += 1
        self.calls += 1
        try:
            result = await self._call(child, call, end if deadline is None else min(end, deadline))
        except EdgedError as error:
            if error.fields.get("fault"):
                self.failures += 1
                self.last_error = error.detail
            raise
        finally:
            self._busy -= 1
            self._stale = True
            self._arm()
        self._faults = 0
        return result

    def status(self) -> dict[str, Any]:
        child = self._child
        resting = max(0.0, self._resume_at - self._clock())
        state = "ready" if child else "resting" if resting else "starting" if self._over or self._starting else "cold"
        return {
            "name": self.manifest.name,
            "state": state,
            "pid": child.pid if child else None,
            "rss_bytes": resident_bytes(child.pid) if child else 0,
            "calls": self.calls,
            "failures": self.failures,
            "restarts": max(0, self.lives - 1),
            "last_error": self.last_error,
            "retry_after": resting or None,
            "tools": [spec.name for spec in self.specs or ()],
            "sandbox": observe(child.pid) if child else {},
        }

    async def _running(self) -> Child:
        if self._child is not None:
            return self._child
        rest = self._resume_at - self._clock()
        if rest > 0:
            name = self.manifest.name
            raise Unavailable(
                f"The {name} plugin keeps failing and rests for {rest:.0f} s.", retry_after=rest, plugin=name
            )
        if self._starting is None:
            self._starting = asyncio.get_running_loop().create_future()
        self._wanted.set()
        return await asyncio.shield(self._starting)

    async def _life(self) -> None:
        loop = asyncio.get_running_loop()
        began = self._clock()
        starting = self._starting = self._starting or loop.create_future()
        over = self._over = loop.create_future()
        self._blame = None
        error: Unavailable | None = None
        try:
            async with self._new_child() as child:
                child.exited.add_done_callback(lambda _: self._end_life(over))
                async with asyncio.timeout(self.manifest.start_timeout):
                    await self._ask(child)
                self._child, self._starting = child, None
                self.lives += 1
                starting.set_result(child)
                self._arm()
                await over
                if child.exited.done():
                    self._fault(self._blame or f"ended by itself: {child.exited.result()}", began)
        except (TimeoutError, ChannelClosed, EdgedError, OSError) as cause:
            error = self._would_not_start(cause, began)
        finally:
            self._child = self._over = None
            self._disarm()
            if self._starting is starting:
                self._starting = None
            if not starting.done():
                starting.set_exception(error or Unavailable("edged is stopping", retry_after=1.0))
                starting.exception()  # nobody may be waiting for it

    def _new_child(self) -> Child:
        manifest = self.manifest
        extra = [manifest.name, str(manifest.directory), manifest.module, str(self._state_dir)]
        return Child(
            "edged.workers.plugin",
            [*extra, *Fence(memory=manifest.memory_mb << 20).arguments()],
            env=environment(self._state_dir),
            on_event=self._heard,
        )

    async def _ask(self, child: Child) -> None:
        self._stale = False  # before the question: a call that ends meanwhile makes the answer stale again
        tools = await child.call("describe")
        try:
            self.specs = tuple(ToolSpec.from_wire({**tool, "plugin": self.manifest.name}) for tool in tools)
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            raise ConfigError(f"its tools cannot be read: {error!r}", plugin=self.manifest.name) from error

    async def _refresh(self, child: Child) -> None:
        """Ask again; a child that cannot say now leaves what is known, and one that does not answer is ended."""
        try:
            async with asyncio.timeout(self.manifest.start_timeout):
                await self._ask(child)
        except TimeoutError:
            self._blame = "killed: it did not describe its tools"
            child.kill()
        except asyncio.CancelledError:  # the caller's time is up, but a child that does not answer must be found out
            self._spawn(self._refresh(child))
            raise
        except (ChannelClosed, EdgedError) as error:
            self._stale = True
            _log.warning("plugin %s cannot describe its tools: %s", self.manifest.name, error)

    async def _call(self, child: Child, call: ToolCall, end: float) -> dict[str, Any]:
        token = next(self._tokens)
        seconds = end - asyncio.get_running_loop().time()
        if seconds <= 0:  # sent now, it would be cancelled at once, perhaps half through an effect
            raise ToolFailed(f"There was no time left for {call.name}.")
        params = {"tool": call.name, "arguments": call.arguments, "token": token}
        try:
            async with asyncio.timeout_at(end):
                result: dict[str, Any] = await child.call("call", params)
                return result
        except TimeoutError:
            self._spawn(self._settle(child, token, call.name, GRACE))
            raise ToolFailed(f"{call.name} did not answer within {max(0.0, seconds):.3g} s.", fault=True) from None
        except (
            asyncio.CancelledError
        ):  # nobody waits, but it may finish in its own time: it may be half through an effect
            self._spawn(self._settle(child, token, call.name, max(0.0, seconds) + GRACE))
            raise
        except ChannelClosed:
            await asyncio.wait([child.exited], timeout=1.0)
            how = self._blame or (child.exited.result() if child.exited.done() else "hung up")
            raise ToolFailed(
                f"The {self.manifest.name} plugin crashed during {call.name} ({how}).", fault=True
            ) from None
        except (FrameError, TypeError, OverflowError) as error:
            raise ToolFailed(f"The arguments of {call.name} cannot be sent: {error}.") from error

    async def _settle(self, child: Child, token: int, tool: str, seconds: float) -> None:
        """Wait for an abandoned call; end the child if the call does not end, or if nothing answers any more."""
        try:
            async with asyncio.timeout(seconds + GRACE):
                ended = await child.call("settle", {"token": token, "seconds": seconds})
        except (TimeoutError, ChannelClosed, EdgedError):
            ended = child.exited.done()
        if not ended and not child.exited.done():
            self._blame = f"killed: {tool} ran on after its time"
            child.kill()

    def _heard(self, name: str, data: Any) -> None:
        self._stale = True
        try:
            fields = {key: str(data[key]) for key in ("kind", "key", "text")}
            event = Event(source=self.manifest.name, at=float(data["at"]), data=dict(data["data"]), **fields)
        except (KeyError, TypeError, ValueError) as error:
            _log.warning("plugin %s sent a bad event %s: %r", self.manifest.name, name, error)
            return
        self._on_event(event)

    def _would_not_start(self, cause: Exception, began: float) -> Unavailable:
        why = "it took too long" if isinstance(cause, TimeoutError) else str(cause)
        self._fault(f"did not start: {why}", began)
        name = self.manifest.name
        rest = max(0.5, self._resume_at - self._clock())
        return Unavailable(f"The {name} plugin does not start: {why}.", retry_after=rest, plugin=name)

    def _fault(self, what: str, began: float) -> None:
        now = self._clock()
        self._faults = 1 if now - began > LONGEST_REST else self._faults + 1
        self._resume_at = now + rest_seconds(self._faults)
        self.last_error = what
        _log.warning("plugin %s: %s (fault %d in a row)", self.manifest.name, what, self._faults)

    def _arm(self) -> None:
        self._disarm()
        if self.manifest.idle and not self._keep and not self._busy and self._child is not None:
            self._idle_timer = asyncio.get_running_loop().call_later(self.manifest.idle, self._retire)

    def _disarm(self) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None

    def _retire(self) -> None:
        if not self._busy and self._over is not None:
            self._end_life(self._over)

    def _end_life(self, over: asyncio.Future[None]) -> None:
        if not over.done():
            self._child = None  # from here on a caller waits for the next life
            over.set_result(None)
