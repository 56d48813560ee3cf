"""Plugins for the host's tests, written to a folder as a real plugin is: each behaves or misbehaves in one way."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from edged.domain.messages import Event
from edged.domain.meters import Meters
from edged.tools.host import Host

WILD = '''
import ctypes, os, sys, time
from typing import Annotated, Literal
from edged.plugin import Choice, Number, Span, ToolError, cancelled, emit, state_dir, tool

def pets() -> list[str]:
    return sorted(path.name for path in state_dir().glob("pet-*"))

@tool(say="{a} and {b} are {sum}.", examples=["add"])
def add(a: Annotated[int, Number(0, 100)], b: Annotated[int, Number()] = 1) -> dict[str, object]:
    """Add two numbers"""
    return {"a": a, "b": b, "sum": a + b}

@tool(timeout=0.3)
def hang() -> dict[str, object]:
    """Never answer"""
    while True:
        time.sleep(3600)

@tool(timeout=0.3)
def polite() -> dict[str, object]:
    """Run until nobody waits"""
    while not cancelled():
        time.sleep(0.005)
    emit("stopped", "polite", "stopped")
    return {}

@tool()
def crash() -> dict[str, object]:
    """Fault"""
    ctypes.string_at(0)
    return {}

@tool()
def leave() -> dict[str, object]:
    """Exit"""
    sys.exit(3)

@tool(idempotent=False)
def adopt(name: Annotated[str, Span()]) -> dict[str, object]:
    """Take in a pet"""
    (state_dir() / f"pet-{name}").touch()
    emit("adopted", name, f"{name} is here.", name=name)
    return {"name": name}

@tool()
def feed(pet: Annotated[str, Choice(pets)], meal: Literal["fish", "seeds"] | None = None) -> dict[str, object]:
    """Feed a pet"""
    if meal == "seeds":
        raise ToolError(f"{pet} does not eat seeds.")
    return {"pet": pet, "meal": meal or "fish"}

@tool()
def odd() -> dict[str, object]:
    """Return what no frame can carry"""
    return {"it": object()}

@tool()
def where() -> dict[str, object]:
    """Tell what the process has"""
    return {"env": dict(os.environ), "fds": sorted(os.listdir("/proc/self/fd")), "cwd": os.getcwd()}

@tool()
def greedy() -> dict[str, object]:
    """Take a lot of memory"""
    return {"size": len(bytearray(1 << 30))}
'''


def plugin(root: Path, name: str, source: str, manifest: str = "") -> Path:
    """Write a plugin; returns the folder of plugins."""
    folder = root / name
    folder.mkdir(parents=True)
    (folder / f"{name}.py").write_text(source)
    (folder / "plugin.toml").write_text(f'module = "{name}"\n{manifest}')
    return root


@contextlib.asynccontextmanager
async def host(plugins: Path, state: Path, events: list[Event] | None = None) -> AsyncIterator[Host]:
    async with Host([plugins], state, (events if events is not None else []).append, Meters()) as running:
        yield running
