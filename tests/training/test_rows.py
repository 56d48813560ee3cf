"""What the reader is taught: right spans, right cards, the same stream for a seed."""

from __future__ import annotations

import itertools
import random
from collections import Counter

import pytest

from edged.workers.wordpieces import LONGEST_CARD
from training.intent.rows import Group, Groups, read_fields
from training.material import Tool


@pytest.fixture(scope="module")
def groups() -> Groups:
    fields = read_fields()
    near: dict[str, list[Tool]] = {
        f"{field.name}.{tool.key}": [other for other in field.tools if other is not tool]
        for field in fields
        for tool in field.tools
    }
    return Groups.load(fields, near)


@pytest.fixture(scope="module")
def many(groups: Groups) -> list[Group]:
    rng = random.Random(5)
    return [groups.group(rng) for _ in range(3000)]


def test_there_is_as_much_as_the_data_card_says() -> None:
    tools = [tool for field in read_fields() for tool in field.tools]
    assert len(tools) >= 5065 and sum(len(tool.asks) for tool in tools) >= 56700


def test_a_seed_gives_the_same(groups: Groups) -> None:
    assert [groups.group(random.Random(3)) for _ in range(5)] == [groups.group(random.Random(3)) for _ in range(5)]


def test_every_kind_is_taught(many: list[Group]) -> None:
    kinds = Counter(group.kind for group in many)
    assert kinds["act"] > 1800 and kinds["none"] > 400 and kinds["part"] > 120
    assert all(len(group.right) == 1 for group in many if group.kind == "act")
    assert all(group.right for group in many if group.kind == "part")
    assert not any(group.right for group in many if group.kind == "none")


def test_spans_stand_in_the_sentence_and_apart(many: list[Group]) -> None:
    for group in many:
        for begin, end in group.spans.values():
            words = group.sentence[begin:end]
            assert words and words == words.strip(), group
        ordered = sorted(group.spans.values())
        assert all(a[1] <= b[0] for a, b in itertools.pairwise(ordered)), group


def test_spans_and_options_belong_to_their_slots(many: list[Group]) -> None:
    for group in many:
        if group.kind == "act":
            slots = group.cards[group.right[0]].slots
            assert all(not slots[i].choices for i in group.spans)
            assert all(0 <= option < len(slots[i].choices) for i, option in group.options.items())


def test_an_article_is_not_the_values(many: list[Group]) -> None:
    words = [group.sentence[a:b].lower() for group in many for a, b in group.spans.values()]
    article = [w for w in words if w.startswith(("the red ", "the blue ", "the old ", "the green "))]
    assert not [w for w in article if not {"is", "are", "has", "was"} & set(w.split())]
    assert [w for w in words if w.startswith("the ") and " is " in w]  # a sentence keeps its article


def test_cards_fit_the_reader(many: list[Group]) -> None:
    longest = max(
        len(card.head.split()) + sum(len(slot.text.split()) for slot in card.slots) for g in many for card in g.cards
    )
    assert longest < LONGEST_CARD


def test_no_slot_is_left_open(many: list[Group]) -> None:
    assert not [group.sentence for group in many if "{" in group.sentence or "}" in group.sentence]
