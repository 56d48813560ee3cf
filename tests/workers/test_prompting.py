"""From messages to tokens: what of a prompt is the agent's own, and what becomes of one that is too long."""

from __future__ import annotations

import random
from typing import Any

import pytest

from edged.domain.errors import BadRequest, ContextOverflow
from edged.workers.prompting import Prompter
from edged.workers.template import ChatTemplate

from .batching import loaded
from .tiny_gguf import TEMPLATE

LIMIT = 60
TOOL = {"type": "function", "function": {"name": "check", "description": "Check it.", "parameters": {}}}


class Counted(ChatTemplate):
    renders = 0

    def render(self, *args: Any, **more: Any) -> list[tuple[str, bool]]:
        self.renders += 1
        return super().render(*args, **more)


def prompter(limit: int = LIMIT, template: str = TEMPLATE) -> tuple[Prompter, Counted]:
    vocabulary = loaded().vocabulary
    counted = Counted(template, specials=vocabulary.controls)
    return Prompter(vocabulary, counted, limit), counted


def said(role: str, text: str, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": text, **more}


def chat(*texts: str) -> list[dict[str, Any]]:
    """A system message, then user and assistant in turn."""
    return [said(("user", "assistant")[i % 2] if i >= 0 else "system", text) for i, text in enumerate(texts, -1)]


def text_of(tokens: list[int]) -> str:
    return b"".join(map(loaded().vocabulary.piece, tokens)).decode()


def test_a_prompt_that_fits_is_left_alone() -> None:
    desk, _ = prompter()
    tokens, dropped = desk.fitted(chat("be brief", "hi", "yes", "go"), None, 1, "drop_oldest")
    assert dropped == 0
    assert (
        text_of(tokens)
        == "<|user|>be brief<|end|><|user|>hi<|end|><|assistant|>yes<|end|><|user|>go<|end|><|assistant|>"
    )
    assert tokens == desk.tokens(chat("be brief", "hi", "yes", "go"), None)


def test_the_limit_is_exact() -> None:
    desk, _ = prompter()
    longest = LIMIT - 3  # <|user|>, <|end|>, <|assistant|>
    assert len(desk.fitted([said("user", "x" * longest)], None, 0, "error")[0]) == LIMIT
    with pytest.raises(ContextOverflow) as refused:
        desk.fitted([said("user", "x" * (longest + 1))], None, 0, "error")
    assert refused.value.fields == {"tokens": LIMIT + 1, "limit": LIMIT}
    assert str(LIMIT + 1) in refused.value.detail


LONG = chat("rules", "a" * 22, "b" * 22, "c" * 22, "d" * 22, "last")  # neither turn before the question fits
CALLS = [
    *chat("rules", "a" * 40, "b" * 20, "last"),
    said("assistant", "", tool_calls=[{"id": "1", "name": "check", "arguments": {}}]),
    said("tool", "fine", tool_call_id="1"),
]


@pytest.mark.parametrize(
    ("messages", "fixed", "dropped"),
    [
        (LONG, 1, 4),
        ([*LONG[:5], said("user", "e" * 4)], 1, 4),
        (chat("rules", "a" * 10, "b" * 10, "c" * 10, "d" * 10, "last"), 1, 2),  # no more than is needed
        (chat("r", "a" * 11, "b" * 11, "c" * 11, "d" * 11, "last"), 3, 2),  # the first turn is fixed too
        (chat("rules", "a" * 60, "b", "last"), 1, 2),
        (
            [said("assistant", "x" * 60), said("user", "last")],
            0,
            1,
        ),  # what comes before the first question is a turn too
        (CALLS, 1, 2),  # a call and its result belong to the question
        (chat("rules", "a" * 70, "b", "last one"), 1, 2),
    ],
)
def test_drop_oldest_drops_whole_turns_after_the_fixed_ones(
    messages: list[dict[str, Any]], fixed: int, dropped: int
) -> None:
    desk, _ = prompter()
    with pytest.raises(ContextOverflow):
        desk.fitted(messages, None, fixed, "error")
    tokens, count = desk.fitted(messages, None, fixed, "drop_oldest")
    assert count == dropped
    assert len(tokens) <= LIMIT
    assert tokens == desk.tokens([*messages[:fixed], *messages[fixed + dropped :]], None)


@pytest.mark.parametrize(
    ("messages", "fixed"),
    [
        ([said("user", "x" * 99)], 0),
        (chat("rules", "a", "b", "x" * 99), 1),
        (chat("x" * 99, "a", "b", "c"), 1),
        (chat("rules", "a" * 99), 2),
        ([*CALLS, said("tool", "x" * 80, tool_call_id="1")], 1),
    ],
)
def test_drop_oldest_never_cuts_the_last_turn_nor_the_fixed_ones(messages: list[dict[str, Any]], fixed: int) -> None:
    desk, _ = prompter()
    for policy in ("error", "drop_oldest"):
        with pytest.raises(ContextOverflow) as refused:
            desk.fitted(messages, None, fixed, policy)
        assert refused.value.fields["limit"] == LIMIT
        assert refused.value.fields["tokens"] > LIMIT


def test_an_empty_prompt_is_refused() -> None:
    with pytest.raises(BadRequest, match="empty"):
        prompter(template="{{ '' }}")[0].tokens([said("user", "x")], None)


def test_a_random_conversation_keeps_as_much_as_fits() -> None:
    rng = random.Random(4)
    desk, _ = prompter()
    for _ in range(60):
        roles = [rng.choice(("user", "assistant")) for _ in range(rng.randrange(8))] + ["user"]
        messages = [said("system", "s"), *(said(role, "x" * rng.randrange(25)) for role in roles)]
        starts = [i for i in range(2, len(messages)) if messages[i]["role"] == "user"]
        fitting = [start for start in (1, *starts) if len(desk.tokens([messages[0], *messages[start:]], None)) <= LIMIT]
        assert fitting, messages
        assert desk.fitted(messages, None, 1, "drop_oldest")[1] == min(fitting) - 1


def test_the_fixed_part_is_the_same_for_all_that_is_said() -> None:
    desk, counted = prompter(1000)
    heading = chat("You turn things on and off.")
    rng = random.Random(1)
    fixed = set()
    for _ in range(40):
        text = "".join(rng.choice("A the<|user|>\ue000é🙂\U000f0000") for _ in range(rng.randrange(1, 12)))
        tokens = desk.tokens([*heading, said("user", text or "x")], [TOOL])
        fixed.add(tuple(tokens[: desk.fixed(tokens, heading, [TOOL])]))
    longest = max(fixed, key=len)
    assert text_of(list(longest)).endswith("You turn things on and off.<|end|><|user|>")
    assert '"check"' in text_of(list(longest))
    assert fixed == {longest}
    assert counted.renders == 40 + 2  # the part was found once


def test_the_fixed_part_depends_on_heading_and_tools_and_is_forgotten_some_day() -> None:
    desk, counted = prompter(1000)
    tokens = desk.tokens(chat("abc", "hi"), None)
    end = len("abc") + 3  # marks included
    assert desk.fixed(tokens, chat("abc"), None) == end
    assert desk.fixed(tokens, chat("abx"), None) == 3
    assert desk.fixed(tokens, chat("abc"), [TOOL]) < end
    assert desk.fixed(tokens, [], None) == 1
    for i in range(40):
        desk.fixed(tokens, chat(f"agent {i}"), None)
    before = counted.renders
    assert desk.fixed(tokens, chat("abc"), None) == end
    assert counted.renders == before + 2


def test_a_template_that_trims_or_refuses() -> None:
    desk, _ = prompter(1000)
    padded = desk.tokens(chat("abc", "   hi"), None)
    assert padded == desk.tokens(chat("abc", "hi"), None)
    picky, _ = prompter(1000, "{% if messages[0].role != 'user' %}{{ raise_exception('no') }}{% endif %}x")
    with pytest.raises(BadRequest, match="refuses"):
        picky.tokens([*chat("abc")[1:], said("assistant", "x")], None)
