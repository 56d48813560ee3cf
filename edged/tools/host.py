"""The plugin children behind one door: which tools there are, and calls that always come back with a `ToolResult`."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from edged.domain.errors import EdgedError, NotFound, Unavailable
from edged.domain.messages import Event, ToolCall, ToolResult
from edged.domain.meters import Meters
from edged.domain.resources import Phrasebook, ToolSpec
from edged.tools.manifest import discover
from edged.tools.resident import Resident

__all__ = ["Host"]


class Host:
    """All plugins of the device; an async context manager. `on_event` is called on the event loop.

    Where two plugins have a tool of one name, the plain name means the one of the plugin that sorts first.
    """

    def __init__(
        self, plugin_dirs: Sequence[Path], state_dir: Path, on_event: Callable[[Event], None], meters: Meters
    ) -> None:
        """`plugin_dirs` are folders that hold NAME/plugin.toml. Raises ConfigError for a bad manifest."""
        self._manifests = discover(plugin_dirs)
        self._state_dir = state_dir
        self._on_event = on_event
        self._meters = meters
        self._plugins: dict[str, Resident] = {}
        self._group: asyncio.TaskGroup | None = None
        self._scope: contextlib.AbstractAsyncContextManager[None] | None = None

    async def __aenter__(self) -> Self:
        for manifest in self._manifests:
            state = self._state_dir / "plugins" / manifest.name
            self._plugins[manifest.name] = Resident(manifest, state, self._heard, self._spawn)
        self._scope = self._owners()
        await self._scope.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._scope is not None
        await self._scope.__aexit__(kind, error, trace)

    @property
    def phrases(self) -> list[Phrasebook]:
        """The sentence patterns of all plugins."""
        return [manifest.phrases for manifest in self._manifests]

    def boot(self) -> None:
        """Start the plugins with start="boot" in the background, and keep them."""
        for plugin in self._plugins.values():
            if plugin.manifest.start == "boot":
                plugin.keep()

    async def specs(self, names: Sequence[str]) -> list[ToolSpec]:
        """The named tools ("tool", "plugin.tool" or "plugin.*") with the choices of now, each once, in order.

        Raises NotFound for a name nobody has. Tools of a plugin that cannot start are left out (see `status`), unless they
        are known from before.
        """
        found: dict[tuple[str, str], ToolSpec] = {}
        for name in names:
            for spec in await self._named(name):
                found.setdefault((spec.plugin, spec.name), spec)
        return list(found.values())

    async def call(self, call: ToolCall, *, request_id: str, deadline_monotonic: float | None = None) -> ToolResult:
        """Run one call. Never raises for a tool's faults: they come back as ok=False with a sentence in `error`."""
        began = time.monotonic()
        try:
            plugin, spec = await self._find(call.name)
            bare = ToolCall(call.id, spec.name, call.arguments)
            content = await plugin.call(bare, spec.timeout, deadline_monotonic)
        except EdgedError as error:
            self._meters.count("tools.failed")
            return ToolResult(call.id, call.name, False, error=error.detail, seconds=time.monotonic() - began)
        self._meters.count("tools.calls")
        return ToolResult(call.id, call.name, True, content=content, seconds=time.monotonic() - began)

    def status(self) -> list[dict[str, Any]]:
        """One map a plugin: name, state (cold|starting|ready|resting), pid, rss_bytes, calls, failures, restarts,
        last_error, retry_after, tools, and `sandbox` as the kernel reports it."""
        return [plugin.status() for plugin in self._plugins.values()]

    @contextlib.asynccontextmanager
    async def _owners(self) -> AsyncIterator[None]:
        failure: Exception | None = None
        async with asyncio.TaskGroup() as group:
            self._group = group
            tasks = [group.create_task(p.live(), name=f"plugin:{name}") for name, p in self._plugins.items()]
            try:
                yield
            except Exception as error:  # the body's own error goes up as it is, not in a group
                failure = error
            finally:
                self._group = None
                for task in tasks:
                    task.cancel()
        if failure is not None:
            raise failure

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        if self._group is None:  # stopping: the children are being ended anyway
            work.close()
            return
        self._group.create_task(work, name="plugin:settle")

    def _heard(self, event: Event) -> None:
        self._meters.count("tools.events")
        self._on_event(event)

    async def _named(self, name: str) -> tuple[ToolSpec, ...]:
        owner, dot, tool = name.rpartition(".")
        if dot and tool == "*":
            return await self._told(self._plugin(owner))
        try:
            plugin, spec = await self._find(name)
        except Unavailable:
            self._meters.count("tools.left_out")
            return ()
        return tuple(now for now in await self._told(plugin) if now.name == spec.name)

    def _plugin(self, name: str) -> Resident:
        if name not in self._plugins:
            raise NotFound(f"There is no plugin {name}.", plugin=name)
        return self._plugins[name]

    async def _find(self, name: str) -> tuple[Resident, ToolSpec]:
        """Who has the tool, and the tool as last told; asks the plugins that never told.

        Raises NotFound, or Unavailable if a plugin that may have it could not tell.
        """
        owner, _, tool = name.rpartition(".")
        plugins = [self._plugin(owner)] if owner else list(self._plugins.values())
        for plugin in plugins:  # a tool that is known needs no other plugin to start
            for spec in plugin.specs or ():
                if spec.name == tool:
                    return plugin, spec
        silent: Unavailable | None = None
        for plugin in plugins:
            if plugin.specs is not None:
                continue
            try:
                for spec in await plugin.describe():
                    if spec.name == tool:
                        return plugin, spec
            except Unavailable as error:
                silent = error
        raise silent or NotFound(f"There is no tool {name}.", tool=name)

    async def _told(self, plugin: Resident) -> tuple[ToolSpec, ...]:
        try:
            return await plugin.describe()
        except Unavailable:
            self._meters.count("tools.left_out")
            return plugin.specs or ()
