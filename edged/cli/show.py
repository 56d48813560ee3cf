"""`edged status`, `edged agents`, and the table of `edged models`: what the daemon says of itself, as tables.

Unknown keys are left out and missing ones are shown as "-", so that this command and a daemon of another version get along.
On a pipe there are no colours, and no line is broken or cut.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from edged.cli.client import Client
from edged.cli.screen import echo_json, harmless, json_option, socket_option

__all__ = ["Column", "agents", "print_models", "print_table", "status"]

_Map = Mapping[str, Any]
Column = tuple[str, Callable[[_Map], object]]

_PIPE_WIDTH: Final = 4096
# These columns give way on a narrow terminal.
_LONG: Final = ("tools", "last error")
_COLOURS: Final = {
    **dict.fromkeys(("healthy", "ready", "online", "busy"), "green"),
    **dict.fromkeys(("degraded", "loading", "starting", "leaving"), "yellow"),
    **dict.fromkeys(("unhealthy", "quarantined", "resting"), "red"),
}

_LIMITS: Final = {
    "configured": "memory.budget",
    "cgroup": "the service's memory limit",
    "available": "what others leave",
}


@click.command()
@socket_option
@json_option
def status(socket: Path, as_json: bool) -> int:
    """Show health, queue, doors, memory, models and plugins."""
    seen = Client(socket).view("status")
    if as_json:
        echo_json(seen)
        return 0
    console = _console()
    console.print(_pairs(_overview(seen)))
    tables = [
        (title, columns, _entries(seen, title)) for title, columns in (("models", _MODELS), ("plugins", _PLUGINS))
    ]
    if sensors := _entries(seen.get("power") or {}, "sensors"):
        tables.append(("sensors", _SENSORS, sensors))
    for title, columns, entries in tables:
        console.print()
        console.print(_table(title, columns, entries))
    return 0


@click.command()
@socket_option
@json_option
def agents(socket: Path, as_json: bool) -> int:
    """List the agents."""
    return _list(socket, as_json, "agents", _AGENTS)


def print_models(seen: Any) -> None:
    """What GET /v1/models shows."""
    print_table("models", _MODELS, _entries(seen, "models"))


def print_table(title: str, columns: Sequence[Column], rows: Iterable[_Map]) -> None:
    """The first column is named after the title, without its s."""
    _console().print(_table(title, columns, rows))


def _list(socket: Path, as_json: bool, name: str, columns: Sequence[Column]) -> int:
    seen = Client(socket).view(name)
    if as_json:
        echo_json(seen)
    else:
        print_table(name, columns, _entries(seen, name))
    return 0


def _console() -> Console:
    if sys.stdout.isatty():
        return Console(markup=False, highlight=False, emoji=False)
    return Console(markup=False, highlight=False, emoji=False, force_terminal=False, width=_PIPE_WIDTH)


def _table(title: str, columns: Sequence[Column], rows: Iterable[_Map]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for index, (name, _) in enumerate(columns):
        table.add_column(title.removesuffix("s") if index == 0 else name, overflow="fold", no_wrap=name not in _LONG)
    for row in rows:
        table.add_row(*(_cell(read(row)) for _, read in columns))
    return table


def _pairs(lines: Iterable[tuple[str, object]]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in lines:
        table.add_row(Text(name), _cell(value))
    return table


def _cell(value: object) -> Text:
    text = "-" if value is None or value == "" else harmless(str(value))
    return Text(text, style=_COLOURS.get(text.partition(":")[0], ""))


def _entries(seen: Any, key: str) -> list[_Map]:
    found = seen.get(key, []) if isinstance(seen, dict) else seen
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def _overview(seen: _Map) -> list[tuple[str, object]]:
    health = seen.get("health") or {}
    reasons = "; ".join(map(str, health.get("reasons", ())))
    doors = seen.get("doors") or _doors(seen.get("meters") or {})
    return [
        ("device", seen.get("device")),
        (
            "daemon",
            f"edged {seen.get('version', '?')}, pid {seen.get('pid', '?')}, up {_span(seen.get('uptime_seconds'))}",
        ),
        ("health", f"{health.get('state', '?')}: {reasons}" if reasons else health.get("state")),
        ("queue", _counts({"working now": seen.get("busy", 0), **(seen.get("requests") or {})})),
        ("escalations", _counts(seen.get("escalations") or {}) or "none"),
        ("doors", _counts(doors) or "no requests yet"),
        ("memory", _memory(seen)),
        ("budget", _budget(seen.get("memory") or {})),
        ("power", _power(seen.get("power") or {})),
    ]


def _doors(meters: _Map) -> dict[str, object]:
    """Requests that came in by each door since the start."""
    return {key.removeprefix("requests."): n for key, n in meters.items() if key in ("requests.http", "requests.mqtt")}


def _memory(seen: _Map) -> str:
    daemon = seen.get("rss_bytes") or 0
    of_models = sum(entry.get("rss_bytes") or 0 for entry in _entries(seen, "models"))
    of_plugins = sum(entry.get("rss_bytes") or 0 for entry in _entries(seen, "plugins"))
    return f"daemon {_size(daemon)}, models {_size(of_models)}, plugins {_size(of_plugins)}"


def _power(power: _Map) -> str | None:
    """The state, for how long, why, and what was spent today, measured and estimated apart."""
    if "state" not in power:
        return None
    since = power.get("since")
    lasts = _span(max(0.0, time.time() - since)) if isinstance(since, int | float) else "?"
    agents = (power.get("energy") or {}).get("agents") or {}
    spent = {s: sum(agent[s]["joules"] for agent in agents.values() if s in agent) for s in ("measured", "estimated")}
    today = ", ".join(f"{joules:.1f} J {source}" for source, joules in spent.items() if joules)
    return f"{power['state']}: {power.get('why')}, for {lasts}" + (f"; today {today}" if today else "")


def _budget(memory: _Map) -> str | None:
    """What models may hold now, what says so, and the pressure."""
    if not memory:
        return None
    by = _LIMITS.get(str(memory.get("by")), str(memory.get("by")))
    held, pressure = _size(memory.get("held")), memory.get("pressure")
    return f"{_size(memory.get('allowed'))} ({by}), {held} held by models, pressure {pressure}"


def _counts(counts: object) -> str:
    if not isinstance(counts, Mapping):
        return str(counts)
    return ", ".join(
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in counts.items()
    )


def _size(value: object) -> str:
    return f"{value / (1 << 20):.0f} MiB" if isinstance(value, int | float) and value else "0 MiB"


def _span(seconds: object) -> str:
    if not isinstance(seconds, int | float):
        return "?"
    hours, rest = divmod(int(seconds), 3600)
    days, hours = divmod(hours, 24)
    return f"{days}d {hours}h" if days else f"{hours}h {rest // 60}m" if hours else f"{rest // 60}m {rest % 60}s"


def _of(key: str) -> Callable[[_Map], object]:
    return lambda row: row.get(key)


def _listed(key: str) -> Callable[[_Map], object]:
    return lambda row: ", ".join(map(str, row.get(key) or ()))


def _mib(key: str) -> Callable[[_Map], object]:
    return lambda row: _size(row[key]) if row.get(key) else None


def _resting(row: _Map) -> object:
    after = row.get("retry_after")
    return f"{row.get('state')}: {after:.0f} s" if isinstance(after, int | float) and after else row.get("state")


_MODELS: Final[Sequence[Column]] = (
    ("name", _of("name")),
    ("state", _resting),
    ("memory", _mib("rss_bytes")),
    ("context", _of("context_length")),
    ("weights", _of("quantization")),
    ("mode", _of("mode")),
    ("load", lambda row: f"{row['load_seconds']:.2f} s" if row.get("load_seconds") else None),
    ("requests", _of("requests")),
    ("restarts", _of("restarts")),
)
_PLUGINS: Final[Sequence[Column]] = (
    ("name", _of("name")),
    ("state", _resting),
    ("memory", _mib("rss_bytes")),
    ("calls", _of("calls")),
    ("failures", _of("failures")),
    ("restarts", _of("restarts")),
    ("last error", _of("last_error")),
    ("tools", _listed("tools")),
)
_SENSORS: Final[Sequence[Column]] = (
    ("name", _of("name")),
    ("quality", lambda row: f"{row.get('quality')}: {row['note']}" if row.get("note") else row.get("quality")),
    ("values", lambda row: _counts(row.get("values") or {})),
    ("source", _of("source")),
)
_AGENTS: Final[Sequence[Column]] = (
    ("name", _of("name")),
    ("model", _of("model")),
    ("tools", _listed("tools")),
    ("tiers", _listed("tiers")),
    ("cloud", lambda row: "never" if row.get("local_only") else "allowed"),
)
