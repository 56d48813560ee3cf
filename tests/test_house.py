"""The table of the house: who may import whom. Read with ast, so a late import counts too."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "edged"
LAYERS = [
    {"domain", "plugin"},
    {"ipc"},
    {"engine", "tools", "store", "device", "workers"},
    {"agent"},
    {"gateway", "escalation", "fleet", "watch"},
    {"daemon"},
    {"cli"},  # reaches the daemon by a late import: `edged run`
    {"__main__"},
]
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}
FILES = sorted(ROOT.rglob("*.py"))
FORBIDDEN = {  # top-level packages that a room must never know
    "domain": {"asyncio", "aiohttp", "pydantic", "sqlite3", "aiosqlite", "msgpack", "socket", "subprocess"},
    "workers": {"asyncio", "pydantic", "sqlite3", "aiohttp", "aiosqlite"},
    "plugin": {"pydantic", "aiohttp", "msgpack"},
    "agent": {"aiohttp", "pydantic", "paho", "sqlite3", "llama_cpp", "llguidance"},
    "engine": {"llama_cpp", "llguidance", "numpy", "jinja2", "aiohttp", "pydantic"},
}


def room_of(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if parts[0] == "edged" and len(parts) > 1 else None


def imports(file: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            found.add(node.module or "")
            if node.module == "edged":
                found |= {f"edged.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_imports_go_down(file: Path) -> None:
    relative = file.relative_to(ROOT)
    own = relative.parts[0].removesuffix(".py")
    if own == "__init__":
        return
    for module in imports(file):
        other = room_of(module)
        if other is None or other == own or other == "__version__":
            continue
        assert other != "workers", f"{relative} imports a worker"
        assert LEVEL[other] < LEVEL[own], f"{relative} imports {module}"


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_rooms_do_not_know_what_they_must_not(file: Path) -> None:
    own = file.relative_to(ROOT).parts[0].removesuffix(".py")
    known = {module.split(".")[0] for module in imports(file)}
    assert not known & FORBIDDEN.get(own, set())


def test_every_room_has_a_level() -> None:
    rooms = {f.relative_to(ROOT).parts[0].removesuffix(".py") for f in FILES} - {"__init__"}
    assert rooms <= LEVEL.keys()


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_modules_say_what_they_are(file: Path) -> None:
    text = file.read_text()
    assert ast.get_docstring(ast.parse(text)), f"{file} has no docstring"
    assert text.count("\n") <= 320, f"{file} is too long"
