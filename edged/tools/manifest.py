"""Reads `plugin.toml`: the one file of a plugin that the daemon itself looks at. Nothing of a plugin is imported here.

name = "kiosk"          # the folder's name when left out; "kiosk.*" names all its tools
module = "kiosk"        # the module in the plugin's folder that holds the tools
start = "lazy"          # or "boot": start with the daemon and stay (a plugin that keeps time or watches something)
idle = 300              # seconds without a call after which the child ends; 0: never
timeout = 30            # seconds; no tool of this plugin may take longer, whatever it asks for
start_timeout = 10      # seconds until the module must be imported
memory_mb = 256         # private memory that the child may take

[[reflexes]], [lists] and [rules] are sentence patterns for its tools, as an agent has them; the agent tier reads them.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from edged.domain.errors import ConfigError
from edged.domain.resources import Phrasebook

__all__ = ["Manifest", "discover", "read_manifest"]

_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
_NUMBERS = {"idle": (0, 86400 * 7), "timeout": (0.1, 3600), "start_timeout": (0.1, 300), "memory_mb": (32, 65536)}
_PHRASES = {"reflexes", "lists", "rules"}
_KEYS = {"name", "module", "start", *_NUMBERS, *_PHRASES}


@dataclass(frozen=True, slots=True)
class Manifest:
    """What `plugin.toml` says; times in seconds. `directory` is the plugin's folder, `phrases` are not looked into."""

    name: str
    module: str
    directory: Path
    start: Literal["lazy", "boot"] = "lazy"
    idle: float = 300.0
    timeout: float = 30.0
    start_timeout: float = 10.0
    memory_mb: int = 256
    phrases: Phrasebook = field(default_factory=Phrasebook)


def discover(plugin_dirs: Sequence[Path]) -> list[Manifest]:
    """All plugins in the folders, by name. An earlier folder's plugin hides a later one's of the same name.

    Raises ConfigError that names the file and the key. A folder that does not exist holds no plugins.
    """
    found: dict[str, Manifest] = {}
    for folder in plugin_dirs:
        for path in sorted(folder.glob("*/plugin.toml")):
            manifest = read_manifest(path)
            found.setdefault(manifest.name, manifest)
    return sorted(found.values(), key=lambda manifest: manifest.name)


def read_manifest(path: Path) -> Manifest:
    """One `plugin.toml`. Raises ConfigError that names the file and the key."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: {error}", file=str(path)) from error
    if extra := sorted(raw.keys() - _KEYS):
        raise _bad(path, extra[0], "is not a key of plugin.toml")
    start = raw.get("start", "lazy")
    if start not in ("lazy", "boot"):
        raise _bad(path, "start", 'must be "lazy" or "boot"')
    numbers = {key: _number(path, key, raw[key]) for key in _NUMBERS if key in raw}
    if "memory_mb" in numbers:
        numbers["memory_mb"] = int(numbers["memory_mb"])
    module = _word(path, "module", raw.get("module"))
    if not any((path.parent / module).with_suffix(s).exists() for s in (".py", "")):
        raise _bad(path, "module", f"names {module!r}, but there is no {module}.py beside it")
    name = _word(path, "name", raw.get("name", path.parent.name))
    phrases = _phrases(path, name, {key: raw[key] for key in _PHRASES if key in raw})
    return Manifest(name, module, path.parent.resolve(), start, **numbers, phrases=phrases)


def _phrases(path: Path, plugin: str, raw: dict[str, Any]) -> Phrasebook:
    reflexes = raw.get("reflexes", [])
    if not isinstance(reflexes, list):
        raise _bad(path, "reflexes", "must be [[reflexes]]")
    calls = tuple(_reflex(path, f"reflexes.{place}", reflex) for place, reflex in enumerate(reflexes))
    lists = {name: _words(path, f"lists.{name}", words) for name, words in _table(path, "lists", raw).items()}
    rules = _table(path, "rules", raw)
    for name, rule in rules.items():
        if not isinstance(rule, str):
            raise _bad(path, f"rules.{name}", "must be a part of a pattern")
    return Phrasebook(calls, lists, rules, plugin, str(path))


def _reflex(path: Path, key: str, raw: Any) -> tuple[str, str, dict[str, Any]]:
    if not isinstance(raw, dict):
        raise _bad(path, key, "must be a table")
    if extra := sorted(raw.keys() - {"pattern", "tool", "arguments"}):
        raise _bad(path, f"{key}.{extra[0]}", "is not a key of a reflex")
    for part in ("pattern", "tool"):
        if not isinstance(raw.get(part), str) or not raw[part]:
            raise _bad(path, f"{key}.{part}", "must be text")
    if not isinstance(raw.get("arguments", {}), dict):
        raise _bad(path, f"{key}.arguments", "must be a table")
    return raw["pattern"], raw["tool"], raw.get("arguments", {})


def _words(path: Path, key: str, raw: Any) -> dict[str, Any]:
    """Words and what they mean; those of a plain list mean themselves."""
    words = {word: word for word in raw} if isinstance(raw, list) and all(isinstance(w, str) for w in raw) else raw
    if not isinstance(words, dict) or not all(
        word and isinstance(value, str | int | float) for word, value in words.items()
    ):
        raise _bad(path, key, "must be a list of words, or a table of words and their values")
    return words


def _table(path: Path, key: str, raw: dict[str, Any]) -> dict[str, Any]:
    table = raw.get(key, {})
    if not isinstance(table, dict):
        raise _bad(path, key, "must be a table")
    return table


def _word(path: Path, key: str, value: Any) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise _bad(path, key, "must be a word of small letters, digits and _")
    return value


def _number(path: Path, key: str, value: Any) -> Any:
    low, high = _NUMBERS[key]
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise _bad(path, key, f"must be a number from {low:g} to {high:g}")
    return value


def _bad(path: Path, key: str, what: str) -> ConfigError:
    return ConfigError(f"{path}: {key} {what}", file=str(path), key=key)
