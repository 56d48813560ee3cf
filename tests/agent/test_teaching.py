"""Teaching: by operators, for tools that the agent has, in effect with the next request."""

from __future__ import annotations

from typing import Any

import pytest

from edged.agent.intent import Act, NoTool
from edged.agent.reader import Reader
from edged.agent.teaching import Teaching
from edged.domain.errors import BadRequest, EdgedError, Forbidden, NotFound
from edged.domain.messages import Caller
from edged.store.database import Database
from edged.store.lessons import Lessons

from .scripted import Model
from .test_understanding import BARE, DIM, KIOSK, Encoder, router

OPERATOR = Caller("uid:0", role="operator")


def teaching(db: Database, lessons: Lessons | None = None) -> Teaching:
    return Teaching(router(db, Encoder(), Model()), lessons or Lessons(db))


async def test_what_is_taught_is_shown(db: Database) -> None:
    school = teaching(db)
    seen = await school.teach(OPERATOR, "kiosk", "dim", "  cosy \n time ")
    assert seen == school.taught(OPERATOR, "kiosk") == {"agent": "kiosk", "tools": {"dim": ["cosy time"]}}
    assert (await school.forget(OPERATOR, "kiosk", "dim", "cosy  time"))["tools"] == {}


@pytest.mark.parametrize(
    ("caller", "agent", "tool", "error"),
    [
        (Caller("uid:1000"), "kiosk", "dim", Forbidden),
        (OPERATOR, "nobody", "dim", NotFound),
        (OPERATOR, "kiosk", "explode", NotFound),
    ],
    ids=["a user", "no agent", "no tool"],
)
async def test_what_cannot_be_taught(
    db: Database, caller: Caller, agent: str, tool: str, error: type[EdgedError]
) -> None:
    lessons = Lessons(db)
    school = teaching(db, lessons)
    with pytest.raises(error):
        await school.teach(caller, agent, tool, "cosy time")
    with pytest.raises((Forbidden, NotFound)):
        await school.forget(caller, agent, tool, "cosy time")
    assert lessons.all("kiosk") == {}


async def test_users_do_not_see_what_others_said(db: Database) -> None:
    with pytest.raises(Forbidden):
        teaching(db).taught(Caller("uid:1000"), "kiosk")


async def test_it_counts_with_the_next_request(db: Database) -> None:
    encoder, lessons = Encoder(), Lessons(db)
    shown: list[list[str]] = []

    async def infer(model: str, verb: str, params: dict[str, Any], deadline_monotonic: float | None = None) -> Any:
        if verb == "teach":
            shown.append(params["tools"][0]["examples"])
        return await encoder(model, verb, params, deadline_monotonic)

    reader = Reader(infer, "encoder", lessons.of)
    for _ in range(2):
        await reader.read(KIOSK.name, [DIM, BARE], "dim it to 20", None)
    await lessons.add(KIOSK.name, "dim", "cosy time")
    for _ in range(2):
        await reader.read(KIOSK.name, [DIM, BARE], "dim it to 20", None)
    assert shown == [[], ["cosy time"]]


async def test_a_taught_sentence_is_believed_over_the_reader(db: Database) -> None:
    lessons = Lessons(db)
    reader = Reader(Encoder(), "encoder", lessons.of)
    assert isinstance(await reader.read(KIOSK.name, [DIM, BARE], "sing me a song", None), NoTool)
    await lessons.add(KIOSK.name, "bare", "sing me a song")
    for said in ("sing me a song", "Sing me a song!"):
        decided = await reader.read(KIOSK.name, [DIM, BARE], said, None)
        assert isinstance(decided, Act) and decided.call.name == "bare"
    assert isinstance(await reader.read(KIOSK.name, [DIM, BARE], "sing me another song", None), NoTool)


async def test_case_and_punctuation_make_no_other_sentence(db: Database) -> None:
    school = teaching(db)
    await school.teach(OPERATOR, "kiosk", "dim", "What's cosy?")
    seen = await school.teach(OPERATOR, "kiosk", "bare", "WHAT'S COSY!")
    assert seen["tools"] == {"bare": ["what's cosy"]}


@pytest.mark.parametrize("text", ["?!", " ", "\N{SLIGHTLY SMILING FACE}"])
async def test_what_has_no_words_is_not_taught(db: Database, text: str) -> None:
    with pytest.raises(BadRequest):
        await teaching(db).teach(OPERATOR, "kiosk", "dim", text)
