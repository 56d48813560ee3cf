"""Teaching over HTTP: what reaches the lessons, and what does not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from edged.domain.errors import Forbidden
from edged.domain.messages import Caller

from .conftest import Room, Rooms

PATH = "/v1/agents/echo/examples"
GOOD = {"tool": "dim", "text": "cosy time"}


class Lessons:
    """Remembers what it is asked; teaches nobody the tool "bomb"."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []

    def taught(self, caller: Caller, agent: str) -> dict[str, Any]:
        self.asked.append(("taught", caller.role, agent))
        return {"agent": agent, "tools": {}}

    async def teach(self, caller: Caller, agent: str, tool: str, text: str) -> dict[str, Any]:
        if tool == "bomb":
            raise Forbidden("not that")
        self.asked.append(("teach", caller.role, agent, tool, text))
        return {"agent": agent, "tools": {tool: [text]}}

    async def forget(self, caller: Caller, agent: str, tool: str, text: str) -> dict[str, Any]:
        self.asked.append(("forget", caller.role, agent, tool, text))
        return {"agent": agent, "tools": {}}


async def test_the_three_methods(open_room: Rooms) -> None:
    lessons = Lessons()
    async with open_room(lessons=lessons) as room:
        assert (await room.curl(PATH)).json == {"agent": "echo", "tools": {}}
        taught = await room.curl(PATH, "-d", json.dumps(GOOD))
        assert (taught.status, taught.json["tools"]) == (200, {"dim": ["cosy time"]})
        assert (await room.curl(PATH, "-X", "DELETE", "-d", json.dumps(GOOD))).status == 200
        other = await room.curl(PATH, "-X", "PUT", "-d", "{}")
        assert (other.status, other.headers["allow"]) == (405, "GET, POST, DELETE")
    said = ("operator", "echo", "dim", "cosy time")
    assert lessons.asked == [("taught", "operator", "echo"), ("teach", *said), ("forget", *said)]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"tool": "dim"}, 400, "bad_request"),
        ({"text": "cosy time"}, 400, "bad_request"),
        ({**GOOD, "text": " "}, 400, "bad_request"),
        ({**GOOD, "text": "x" * 501}, 400, "bad_request"),
        ({**GOOD, "more": 1}, 400, "bad_request"),
        ({**GOOD, "tool": "bomb"}, 403, "forbidden"),
    ],
    ids=["no text", "no tool", "blank", "a novel", "more", "forbidden"],
)
async def test_what_is_refused(open_room: Rooms, body: dict[str, Any], status: int, code: str) -> None:
    lessons = Lessons()
    async with open_room(lessons=lessons) as room:
        answer = await room.curl(PATH, "-d", json.dumps(body))
        assert (answer.status, answer.json["code"]) == (status, code)
    assert lessons.asked == []


async def test_a_door_without_lessons(room: Room) -> None:
    assert (await room.curl(PATH)).status == 404
