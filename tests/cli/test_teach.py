"""`edged teach`: what goes over the wire, and what is printed."""

from __future__ import annotations

import pytest

from .conftest import Api, Command

TAUGHT = {"agent": "home", "tools": {"dim": ["cosy time", "film night"], "alarm": ["wake me"]}}


@pytest.mark.parametrize(("options", "method"), [((), "POST"), (("--forget",), "DELETE")], ids=["teach", "forget"])
async def test_teaching_says_nothing_when_it_works(
    api: Api, edged: Command, options: tuple[str, ...], method: str
) -> None:
    api.answers(TAUGHT)
    ran = await edged("teach", "home", "dim", "cosy time", *options, "--socket", api.socket)
    assert (ran.status, ran.out, ran.err) == (0, "", "")
    assert api.paths == [f"{method} /v1/agents/home/examples"]
    assert api.bodies == [{"tool": "dim", "text": "cosy time"}]


async def test_listing(api: Api, edged: Command) -> None:
    api.answers(TAUGHT)
    ran = await edged("teach", "home", "--socket", api.socket)
    assert ran.out.splitlines() == ["alarm\twake me", "dim\tcosy time", "dim\tfilm night"]
    assert api.paths == ["GET /v1/agents/home/examples"]


@pytest.mark.parametrize("words", [("home", "dim"), ("home", "--forget")])
async def test_half_a_lesson_is_a_usage_error(api: Api, edged: Command, words: tuple[str, ...]) -> None:
    ran = await edged("teach", *words, "--socket", api.socket)
    assert ran.status == 2 and "TEXT" in ran.err and api.paths == []


async def test_a_refusal(api: Api, edged: Command) -> None:
    api.refuses(403, "forbidden", "Only operators teach.")
    ran = await edged("teach", "home", "dim", "cosy time", "--socket", api.socket)
    assert (ran.status, ran.err) == (1, "forbidden: Only operators teach.\n")
