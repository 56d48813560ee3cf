"""The generator of training text, without any of the training's own libraries."""

from __future__ import annotations

import itertools
import json
import random
import re
from pathlib import Path

import jinja2
import pytest

from training.dialect import answer_text, group_prefix, openai_tools, part_prompt, result_prompt
from training.material import FOLDER, MaterialError, read_beyond, read_tools, slots
from training.sentences import Group, Sentences
from training.surface import dress, mistype

TEMPLATE = FOLDER.parent / "chat_template.jinja"


@pytest.fixture(scope="module")
def sentences() -> Sentences:
    return Sentences()


@pytest.fixture(scope="module")
def groups(sentences: Sentences) -> list[Group]:
    return list(itertools.islice(sentences.groups(11), 800))


def test_every_tool_can_be_asked_for_in_every_choice(sentences: Sentences) -> None:
    for field in sentences.fields.values():
        for tool in field.tools:
            assert tool.names and tool.abouts and tool.asks, tool.key
            for param in tool.params:
                free = any(param.key in slots(ask.text) for ask in tool.asks)
                fixed = {ask.fixed.get(param.key) for ask in tool.asks}
                assert free or (param.kind == "choice" and fixed >= set(param.of)), (tool.key, param.key)


def test_unfit_sentences_use_only_declared_slots(sentences: Sentences) -> None:
    for field in sentences.fields.values():
        for tool in field.tools:
            keys = {param.key for param in tool.params}
            assert all(set(slots(text)) <= keys for text in tool.unfit), tool.key


def test_sentences_beyond_all_tools_use_only_declared_vocabularies() -> None:
    vocabularies, lines = read_beyond(FOLDER / "beyond.txt")
    assert lines and all(set(slots(line)) <= vocabularies.keys() for line in lines)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("names: a", "before the first tool"),
        ("[a]\nparam x: x = NOWHERE", "unknown type 'NOWHERE'"),
        ("[a]\nparam x: x = INT 0-9\nask:\ndo it", "lacks ['x']"),
        ("[a]\nask:\ndo {y}", "names what is not declared"),
        ("[a]\nhello", "stands in no section"),
    ],
)
def test_faults_of_material_are_named(tmp_path: Path, text: str, complaint: str) -> None:
    file = tmp_path / "bad.txt"
    file.write_text(text)
    with pytest.raises(MaterialError, match=re.escape(complaint)):
        read_tools(file)


def test_no_placeholder_is_left(groups: list[Group]) -> None:
    for group in groups:
        for part in group.parts:
            assert not slots(part.sentence + part.wording), part


def test_free_text_and_codes_stand_word_for_word_in_the_sentence(groups: list[Group]) -> None:
    checked = 0
    for group in groups:
        cards = {card.name: card for card in group.cards}
        for part in group.parts:
            if part.call:
                call = json.loads(part.call)
                card = cards[call["name"]]
                for param in card.tool.params:
                    value = call["arguments"].get(card.spoken[param.key])
                    if value is not None and param.kind in ("text", "code"):
                        assert value in part.sentence, part
                        checked += 1
    assert checked > 1000


def test_calls_hold_what_is_required_in_the_order_of_the_signature(groups: list[Group]) -> None:
    for group in groups:
        cards = {card.name: card for card in group.cards}
        for call in (json.loads(part.call) for part in group.parts if part.call):
            card = cards[call["name"]]
            given = [card.spoken[p.key] for p in card.tool.params if card.spoken[p.key] in call["arguments"]]
            assert list(call["arguments"]) == given
            assert {card.spoken[p.key] for p in card.tool.params if not p.optional} <= set(given)


def test_choices_are_canonical_and_numbers_are_numbers(groups: list[Group]) -> None:
    for group in groups:
        cards = {card.name: card for card in group.cards}
        for call in (json.loads(part.call) for part in group.parts if part.call):
            card = cards[call["name"]]
            for param in card.tool.params:
                value = call["arguments"].get(card.spoken[param.key])
                if value is not None and param.kind == "choice":
                    assert value in param.of
                if value is not None and param.kind in ("int", "float"):
                    assert float(param.of[0]) <= value <= float(param.of[1])


def test_the_shares_of_the_recipe(groups: list[Group]) -> None:
    parts = [part for group in groups for part in group.parts]
    unserved = sum(not part.call for part in parts) / len(parts)
    worded = sum(bool(part.wording) for part in parts) / len(parts)
    assert 0.26 < unserved < 0.34
    assert 0.04 < worded < 0.15
    assert {len(group.cards) for group in groups} >= set(range(2, 10))


def test_names_of_tools_are_unique_in_a_list(groups: list[Group]) -> None:
    for group in groups:
        assert len({card.name for card in group.cards}) == len(group.cards)


def test_a_seed_says_it_all(sentences: Sentences) -> None:
    def text(seed: int) -> list[str]:
        made = itertools.islice(sentences.groups(seed), 30)
        return [group_prefix(g) + "".join(part_prompt(p) + answer_text(p) for p in g.parts) for g in made]

    assert text(5) == text(5) != text(6)


def test_dressing_and_typing_mistakes_leave_slots_alone() -> None:
    rng = random.Random(3)
    template = "please set the {device} to {percent} percent in the evening"
    for _ in range(2000):
        assert slots(dress(rng, template)) == ["device", "percent"]
        assert slots(mistype(rng, template)) == ["device", "percent"]
    assert len({dress(rng, template) for _ in range(200)}) > 100


@pytest.mark.parametrize("trim", [True, False])
def test_the_chat_template_writes_what_training_reads(groups: list[Group], trim: bool) -> None:
    template = jinja2.Environment(trim_blocks=trim, lstrip_blocks=trim).from_string(TEMPLATE.read_text())
    for group in groups[:200]:
        tools, prefix = openai_tools(group), group_prefix(group)
        for part in group.parts:
            messages: list[dict[str, object]] = [
                {"role": "system", "content": "Be kind."},
                {"role": "user", "content": "an earlier request"},
                {"role": "assistant", "content": "An earlier answer."},
                {"role": "user", "content": part.sentence},
            ]
            asked = template.render(tools=tools, messages=messages, add_generation_prompt=True)
            assert asked == prefix + part_prompt(part)
            plain = not set("<>&'") & set(part.call)  # jinja's own tojson escapes these for HTML
            if part.wording and plain:
                messages.append({"role": "assistant", "content": "", "tool_calls": [json.loads(part.call)]})
                messages.append({"role": "tool", "content": part.result})
                told = template.render(tools=tools, messages=messages, add_generation_prompt=True)
                assert told == asked + answer_text(part).removesuffix("<|end|>") + result_prompt(part)
