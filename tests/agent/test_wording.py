"""Templates, bare results, and the check that nothing is made up."""

from __future__ import annotations

import pytest

from edged.agent.wording import bare, facts, faithful, said
from edged.domain.messages import ToolCall, ToolResult
from edged.domain.resources import ToolSpec

CALL = ToolCall("c", "stock", {"product": "webcam"})
GOOD = ToolResult("c", "stock", True, content={"stock": 4, "shelf": "A3", "open": True})
BAD = ToolResult("c", "stock", False, error="there is no webcam")


def spec(say: str | None, say_error: str | None = None) -> ToolSpec:
    return ToolSpec("stock", "d", {}, say=say, say_error=say_error)


@pytest.mark.parametrize(
    ("template", "result", "text"),
    [
        (spec("{stock} {product}"), GOOD, "4 webcam"),
        (spec("{stock} {colour}"), GOOD, None),
        (spec(None), GOOD, None),
        (spec("x", "Sorry: {error}."), BAD, "Sorry: there is no webcam."),
        (spec("x"), BAD, None),
        (spec("{stock.__class__.__mro__[9]}"), GOOD, None),
    ],
)
def test_said(template: ToolSpec, result: ToolResult, text: str | None) -> None:
    assert said(template, CALL, result, "en") == text


@pytest.mark.parametrize(
    ("language", "text"), [("en", "4 left"), ("de", "noch 4"), ("de-AT", "noch 4"), ("pt-BR", "sobram 4"), ("fr", None)]
)
def test_said_in_the_agents_language(language: str, text: str | None) -> None:
    template = ToolSpec("stock", "d", {}, say={"en": "{stock} left", "de": "noch {stock}", "pt-BR": "sobram {stock}"})
    assert said(template, CALL, GOOD, language) == text


def test_bare() -> None:
    assert bare(GOOD) == "stock: 4, shelf: A3, open: yes"
    assert bare(BAD) == "there is no webcam"
    assert bare(ToolResult("c", "t", True, content=["a_b", 2])) == "a b and 2"


@pytest.mark.parametrize(
    ("text", "ok"),
    [
        ("4 webcam left on shelf A3.", True),
        ("We have 4.", True),
        ("5 webcam left.", False),
        ("The webcam is on shelf B3.", False),
        ("Ask Peter about the webcam.", False),
        ("The webcam is next to the tripod.", False),
        ("", False),
    ],
)
def test_faithful(text: str, ok: bool) -> None:
    assert faithful(text, facts(CALL, GOOD), {"webcam", "tripod"}) is ok
