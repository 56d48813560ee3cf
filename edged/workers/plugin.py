"""The child of one plugin: fences itself in, imports the plugin's module, then serves its tools, each call on a thread.

Verbs: `describe` -> list of tool maps; `call` {tool, arguments, token} -> result map; `settle` {token, seconds} -> whether
the call with that token has ended, waiting that long for it. What `edged.plugin.emit` is told goes out as event "emit".
The fence comes before the import, so a plugin's module body runs inside it too.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import resource
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

from edged import plugin
from edged.domain.errors import ConfigError, ToolFailed
from edged.ipc.frames import encode
from edged.workers.serve import Call, arguments, serve

_PR_SET_NO_NEW_PRIVS = 38
_CAPABILITY_VERSION_3 = 0x20080522
_STACK = 2 << 20
_RESULT_LIMIT = 256 << 10


def fence(memory: int, files: int, file_size: int) -> None:
    """Give up what a tool does not need. Irreversible; each step that this kernel refuses is left to `observe` to show."""
    limits = {
        resource.RLIMIT_DATA: memory,
        resource.RLIMIT_NOFILE: files,
        resource.RLIMIT_FSIZE: file_size,
        resource.RLIMIT_CORE: 0,
    }
    for what, most in limits.items():
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(what, (most, most))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    libc.capset(ctypes.byref(header), ctypes.byref((ctypes.c_uint32 * 6)()))


class Tools:
    """The handlers. `broken` says why the module could not be imported."""

    def __init__(self, name: str, broken: str | None) -> None:
        self._name = name
        self._broken = broken
        self._running: dict[int, threading.Event] = {}

    def describe(self, call: Call) -> list[dict[str, Any]]:
        if self._broken is not None:
            raise ConfigError(f"the {self._name} plugin cannot be imported: {self._broken}", plugin=self._name)
        return [tool.describe() for tool in plugin.binding.tools.values()]

    def call(self, call: Call) -> dict[str, Any]:
        name, token = call.params["tool"], call.params["token"]
        ended = self._running[token] = threading.Event()
        try:
            return self._invoke(name, call)
        finally:
            self._running.pop(token, None)
            ended.set()

    def settle(self, call: Call) -> bool:
        running = self._running.get(call.params["token"])
        return running is None or running.wait(call.params["seconds"])

    def _invoke(self, name: str, call: Call) -> dict[str, Any]:
        tool = plugin.binding.tools.get(name)
        if tool is None:
            raise ToolFailed(f"The {self._name} plugin has no tool {name}.")
        plugin.binding.local.cancelled = call.cancelled.is_set
        try:
            result = tool.invoke(call.params["arguments"])
            if len(encode(result)) > _RESULT_LIMIT:
                raise ToolFailed(f"The answer of {name} is too long.")
            return result
        except plugin.ToolError as refusal:
            raise ToolFailed(str(refusal)) from refusal
        except ToolFailed:
            raise
        except BaseException as bug:  # a SystemExit on a thread would leave the daemon without an answer
            traceback.print_exc()
            raise ToolFailed(f"The tool {name} broke ({type(bug).__name__}: {str(bug)[:200]}).", bug=True) from bug


def main() -> None:
    connection, rest = arguments()
    name, directory, module, state, *limits = rest
    Path(state).mkdir(parents=True, exist_ok=True)
    os.chdir(state)
    fence(*map(int, limits))
    threading.stack_size(_STACK)
    plugin.bind(Path(state), lambda event: connection.event("emit", event))
    sys.path.insert(0, directory)
    broken = None
    try:
        importlib.import_module(module)
        for hook in plugin.binding.start_hooks:
            hook()
    except BaseException as error:  # told in `describe`, so that the operator reads the reason and not an exit status
        traceback.print_exc()
        broken = f"{type(error).__name__}: {error}"
    tools = Tools(name, broken)
    serve(connection, {"describe": tools.describe, "call": tools.call, "settle": tools.settle}, threads=True)


if __name__ == "__main__":
    main()
