"""status, agents and models: tables without colours on a pipe, JSON as it came, and untrusted names kept harmless."""

from __future__ import annotations

import json
import os

from .conftest import Api, Command

MODEL = {
    "name": "bundled",
    "state": "quarantined",
    "pid": 12,
    "rss_bytes": 71 << 20,
    "load_seconds": 0.38,
    "requests": 2,
    "restarts": 0,
    "mode": "default",
    "context_length": 1024,
    "quantization": "Q8_0",
    "retry_after": 41.7,
}
PLUGIN = {"name": "clock", "state": "ready", "rss_bytes": 16 << 20, "calls": 5, "tools": ["get_time", "set_timer"]}
STATUS = {
    "device": "demo",
    "version": "0.1.0",
    "pid": 7,
    "uptime_seconds": 93784.0,
    "rss_bytes": 53 << 20,
    "health": {"state": "degraded", "reasons": ["mqtt: refused"]},
    "busy": 1,
    "requests": {"queued": 3, "done": 4},
    "escalations": {"waiting": 2},
    "memory": {"budget": 1 << 30, "allowed": 300 << 20, "by": "available", "held": 71 << 20, "pressure": "some"},
    "models": [MODEL],
    "plugins": [PLUGIN],
    "power": {
        "state": "saver",
        "since": 0.0,
        "why": "on battery with 24 %",
        "sensors": [
            {
                "name": "BAT0",
                "quality": "good",
                "values": {"percent": 24.0, "watts": 8.4},
                "source": "class/power_supply/BAT0",
            },
            {"name": "package-0", "quality": "unreadable", "note": "no permission", "source": "class/powercap/x"},
        ],
        "energy": {
            "day": "2025-11-22",
            "agents": {
                "kiosk": {"measured": {"requests": 2, "joules": 3.25}, "estimated": {"requests": 1, "joules": 0.5}},
                "home": {"measured": {"requests": 1, "joules": 1.0}},
            },
        },
    },
    "meters": {"requests.http": 6, "requests.mqtt": 2, "other": 1},
}


def rows(out: str) -> list[list[str]]:
    return [line.split() for line in out.splitlines()]


async def test_status(api: Api, edged: Command) -> None:
    api.answers(STATUS)
    ran = await edged("status", "--socket", api.socket)
    assert (ran.status, ran.err, api.paths) == (0, "", ["GET /v1/status"])
    assert "\x1b" not in ran.out
    told = {row[0]: " ".join(row[1:]) for row in rows(ran.out) if row}
    assert told["device"] == "demo"
    assert told["daemon"] == "edged 0.1.0, pid 7, up 1d 2h"
    assert told["health"] == "degraded: mqtt: refused"
    assert told["queue"] == "working now 1, queued 3, done 4"
    assert told["escalations"] == "waiting 2"
    assert told["doors"] == "http 6, mqtt 2"
    assert told["memory"] == "daemon 53 MiB, models 71 MiB, plugins 16 MiB"
    assert told["power"].startswith("saver: on battery with 24 %, for ")
    assert told["power"].endswith("; today 4.2 J measured, 0.5 J estimated")
    assert told["BAT0"] == "good percent 24, watts 8.4 class/power_supply/BAT0"
    assert told["package-0"] == "unreadable: no permission - class/powercap/x"
    assert told["budget"] == "300 MiB (what others leave), 71 MiB held by models, pressure some"
    assert told["bundled"] == "quarantined: 42 s 71 MiB 1024 Q8_0 default 0.38 s 2 0"
    assert told["clock"] == "ready 16 MiB 5 - - - get_time, set_timer"


async def test_an_empty_status_of_another_version_is_shown(api: Api, edged: Command) -> None:
    api.answers({})
    ran = await edged("status", "--socket", api.socket)
    assert (ran.status, ran.err) == (0, "")
    assert ["escalations", "none"] in rows(ran.out)
    assert ["power", "-"] in rows(ran.out)


async def test_agents_and_models(api: Api, edged: Command) -> None:
    agent = {"name": "home", "model": "bundled", "tools": ["home.*"], "tiers": ["reflex", "model"], "local_only": True}
    api.answers({"agents": [agent]})
    ran = await edged("agents", "--socket", api.socket)
    header, row = rows(ran.out)
    assert header == ["agent", "model", "tools", "tiers", "cloud"]
    assert row == ["home", "bundled", "home.*", "reflex,", "model", "never"]
    api.answers({"models": [MODEL]})
    ran = await edged("models", "--socket", api.socket)
    assert rows(ran.out)[1][0] == "bundled"
    assert api.paths == ["GET /v1/agents", "GET /v1/models"]


async def test_json_is_what_came(api: Api, edged: Command) -> None:
    for command, body in (("status", STATUS), ("models", {"models": [MODEL]}), ("agents", {"agents": []})):
        api.answers(body)
        ran = await edged(command, "--json", "--socket", api.socket)
        assert json.loads(ran.out) == body


async def test_long_lines_are_whole_on_a_pipe(api: Api, edged: Command) -> None:
    tools = [f"a_tool_with_a_long_name_{n}" for n in range(20)]
    api.answers({"agents": [{"name": "many", "tools": tools}]})
    ran = await edged("agents", "--socket", api.socket)
    assert ", ".join(tools) in ran.out.splitlines()[1]


async def test_names_are_neither_markup_nor_escape_sequences(api: Api, edged: Command) -> None:
    api.answers({"agents": [{"name": "[red]x[/red]\x1b[31m", "model": "m"}]})
    ran = await edged("agents", "--socket", api.socket)
    assert "[red]x[/red]\N{REPLACEMENT CHARACTER}[31m" in ran.out


async def test_a_terminal_gets_colours(api: Api, edged: Command) -> None:
    api.answers({"models": [{**MODEL, "state": "ready", "retry_after": None}]})
    edged.environment["TERM"] = "xterm-256color"
    main, side = os.openpty()
    child = await edged.start("models", "--socket", api.socket, stdout=side)
    await child.communicate()
    os.close(side)
    shown = os.read(main, 8192).decode()
    os.close(main)
    assert "\x1b[32mready" in shown


async def test_a_reader_that_leaves_is_no_error(api: Api, edged: Command) -> None:
    api.answers({"agents": [{"name": f"agent{n}"} for n in range(50)]})
    for command in (("agents",), ("agents", "--json")):
        read, write = os.pipe()
        os.close(read)
        child = await edged.start(*command, "--socket", api.socket, stdout=write)
        os.close(write)
        _, err = await child.communicate()
        assert (child.returncode, err) == (1, b"")
