"""From the written material to training samples: a list of tool signatures, sentences, and what the model should write.

Deterministic for a seed, on every machine: the only source of chance is the given `random.Random`, the only vocabulary the
material. Names, descriptions, parameter names, order and number of the tools vary, so the model has to read them.
"""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from training.material import FOLDER, Ask, Field, Param, Tool, read_beyond, read_tools, slots
from training.surface import dress, mistype

__all__ = ["Card", "Group", "Part", "Sentences"]

_FILES = ("shipped", "buildings", "office", "field")
_SHIPPED_SHARE = 0.4
_SYLLABLES = "ba ko ri tel mon san vi lu dar fen zo pra ki nor um el ta gri sho we dax lin or qua ry bel".split()
_STOP = frozenset("a an the of to in for and or is are its it by with at from on all up tell if".split())
_NUMBER_WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()


@dataclass(frozen=True, slots=True)
class Card:
    """One tool as shown: its spoken name, the parameters' spoken names by key, and the line of the prompt."""

    tool: Tool
    name: str
    spoken: dict[str, str]
    line: str


@dataclass(frozen=True, slots=True)
class Part:
    """A sentence, the call ("" stands for: no tool here fits), and, at times, a result and its wording."""

    sentence: str
    call: str
    result: str = ""
    wording: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """Several independent parts over one list of tools."""

    cards: tuple[Card, ...]
    parts: tuple[Part, ...]


class Sentences:
    """The generator over all material in `training/material`."""

    def __init__(self) -> None:
        self.fields = {name: read_tools(FOLDER / f"{name}.txt") for name in _FILES}
        self._beyond_words, self._beyond = read_beyond(FOLDER / "beyond.txt")
        phrases = [p for f in self.fields.values() for v in f.vocabularies.values() for p in v]
        self._words = sorted({word for phrase in phrases for word in phrase.split() if len(word) > 2})
        self._topics = {id(tool): _topic(tool) for f in self.fields.values() for tool in f.tools}

    def groups(self, seed: int) -> Iterator[Group]:
        """An endless stream."""
        rng = random.Random(seed)
        while True:
            yield self.group(rng)

    def group(self, rng: random.Random) -> Group:
        name = "shipped" if rng.random() < _SHIPPED_SHARE else rng.choice(_FILES[1:])
        field, others = self.fields[name], [f for f in self.fields.values() if f.name != name]
        tools = self._choose(rng, field, others)
        cards = tuple(self._card(rng, tool, canonical=name == "shipped" and rng.random() < 0.5) for tool in tools)
        cards = tuple({card.name: card for card in cards}.values())
        return Group(cards, tuple(self._part(rng, field, cards) for _ in range(rng.randint(4, 8))))

    def _choose(self, rng: random.Random, field: Field, others: Sequence[Field]) -> list[Tool]:
        """Two to nine tools, mostly of one field, so that near misses are the rule; none that means the same as another."""
        count, mixed = rng.choice((2, 3, 3, 4, 4, 5, 5, 6, 7, 8, 9)), rng.random() < 0.4
        pool = rng.sample(field.tools, min(len(field.tools), count))
        if mixed:
            pool = pool[: max(1, count // 2)]
            pool += rng.sample(rng.choice(others).tools, count - len(pool))
        chosen: list[Tool] = []
        for tool in pool:
            same_field = tool in field.tools
            if all((same_field and t in field.tools) or self._apart(tool, t) for t in chosen):
                chosen.append(tool)
        rng.shuffle(chosen)
        return chosen

    def _apart(self, one: Tool, other: Tool) -> bool:
        a, b = self._topics[id(one)], self._topics[id(other)]
        return len(a & b) < 3 and not set(one.names) & set(other.names)

    def _part(self, rng: random.Random, field: Field, cards: Sequence[Card]) -> Part:
        if rng.random() < 0.7:
            return self._served(rng, rng.choice(cards))
        kind, listed = rng.randrange(3), [card.tool for card in cards]
        if kind == 0:
            tool = rng.choice(listed)
            if tool.unfit:
                return self._unserved(rng, rng.choice(tool.unfit), tool.params)
        if kind == 1:
            unlisted = [t for t in field.tools if t not in listed]
            foreign = [t for t in listed if t not in field.tools]
            unlisted = [t for t in unlisted if all(self._apart(t, f) for f in foreign)]
            if unlisted:
                tool = rng.choice(unlisted)
                return self._unserved(rng, rng.choice(tool.asks).text, tool.params)
        template = rng.choice(self._beyond)
        for slot in slots(template):
            template = template.replace(f"{{{slot}}}", rng.choice(self._beyond_words[slot]), 1)
        return Part(dress(rng, re.sub(r"\ba (?=[aeio])", "an ", template)), "")

    # one sentence

    def _served(self, rng: random.Random, card: Card) -> Part:
        ask = self._ask(rng, card.tool)
        spoken, values = self._fill(rng, card.tool.params, ask)
        sentence, values = _put(rng, dress(rng, ask.text), spoken, values, card.tool.params)
        arguments = {card.spoken[p.key]: values[p.key] for p in card.tool.params if p.key in values}
        call = _compact({"name": card.name, "arguments": arguments})
        if not card.tool.answers or rng.random() > 0.14:
            return Part(sentence, call)
        result, wording = self._outcome(rng, card.tool, values)
        return Part(sentence, call, result, wording)

    def _ask(self, rng: random.Random, tool: Tool) -> Ask:
        """Every value of a choice is asked for about equally often, however many sentences it has."""
        sections = {tuple(sorted(ask.fixed.items())) for ask in tool.asks}
        if len(sections) > 1 and rng.random() < 0.6:
            section = rng.choice(sorted(sections))
            return rng.choice([ask for ask in tool.asks if tuple(sorted(ask.fixed.items())) == section])
        return rng.choice(tool.asks)

    def _unserved(self, rng: random.Random, template: str, params: Sequence[Param]) -> Part:
        spoken, values = self._fill(rng, params, Ask(template, {}))
        return Part(_put(rng, dress(rng, template), spoken, values, params)[0], "")

    def _fill(self, rng: random.Random, params: Sequence[Param], ask: Ask) -> tuple[dict[str, str], dict[str, Any]]:
        spoken: dict[str, str] = {}
        values: dict[str, Any] = dict(ask.fixed)
        wanted = set(slots(ask.text))
        for param in params:
            if param.key in wanted:
                spoken[param.key], values[param.key] = self._value(rng, param)
        return spoken, values

    def _value(self, rng: random.Random, param: Param) -> tuple[str, Any]:
        if param.kind == "choice":
            choice = rng.choice(param.of)
            return choice.replace("_", " "), choice
        if param.kind in ("int", "float"):
            return _number(rng, param)
        text = _code(rng, rng.choice(param.of)) if param.kind == "code" else self._phrase(rng, param.of)
        text = _careless(rng, text)
        return text, text

    def _phrase(self, rng: random.Random, vocabulary: Sequence[str]) -> str:
        chance = rng.random()
        if chance < 0.55:
            return rng.choice(vocabulary)
        if chance < 0.82:
            return " ".join(rng.choice(self._words) for _ in range(rng.choice((1, 2, 2, 2, 3, 3, 4))))
        if chance < 0.9:
            coined = "".join(rng.choice(_SYLLABLES) for _ in range(rng.choice((2, 3))))
            return rng.choice((coined, f"{coined} {rng.choice(self._words)}", f"{rng.choice(self._words)} {coined}"))
        if chance < 0.95:
            return f"{rng.choice(vocabulary)} {rng.randint(1, 24)}"
        return f"{rng.choice(self._words)} {rng.choice(vocabulary)}"

    # the tool's side

    def _card(self, rng: random.Random, tool: Tool, *, canonical: bool) -> Card:
        name = tool.names[0] if canonical else rng.choice(tool.names)
        about = rng.choice(tool.abouts)
        if not canonical:
            name, about = _restyle(rng, name), about.lower() if rng.random() < 0.2 else about
        keep = canonical or rng.random() < 0.3
        spoken = {p.key: p.key if keep else rng.choice(p.names) for p in tool.params}
        if len(set(spoken.values())) < len(spoken):
            spoken = {p.key: p.key for p in tool.params}
        kinds = {"int": "number", "float": "number"}
        signature = ", ".join(
            f"{spoken[p.key]}{'?' if p.optional else ''}: {'|'.join(p.of) if p.kind == 'choice' else kinds.get(p.kind, 'text')}"
            for p in tool.params
        )
        return Card(tool, name, spoken, f"{name}({signature}) - {about}")

    def _outcome(self, rng: random.Random, tool: Tool, values: dict[str, Any]) -> tuple[str, str]:
        vocabularies = next(f.vocabularies for f in self.fields.values() if tool in f.tools)
        result: dict[str, Any] = {}
        for key, source in tool.result.items():
            if found := re.fullmatch(r"\{(\w+)\}", source):
                if found[1] in values:
                    result[key] = values[found[1]]
            elif found := re.fullmatch(r"(INT|FLOAT) (-?[\d.]+)-(-?[\d.]+)", source):
                result[key] = _number(rng, Param((key,), False, found[1].lower(), (found[2], found[3])))[1]
            elif source.startswith("CODE "):
                result[key] = _code(rng, rng.choice(source.split()[1:]))
            elif source in vocabularies:
                result[key] = rng.choice(vocabularies[source])
            else:
                result[key] = rng.choice(source.split("|"))
        known = {**values, **result}
        fitting = [a for a in tool.answers if all(slot in known for slot in slots(a))]
        if not fitting or not result:
            return "", ""
        text = rng.choice(fitting).format_map(known).replace("_", " ")
        return _compact(result), text[0].upper() + text[1:] + ("" if text[-1] in ".!?" else ".")


def _topic(tool: Tool) -> frozenset[str]:
    text = " ".join((*tool.names, *tool.abouts)).lower().replace("_", " ")
    return frozenset(word.rstrip("s") for word in re.findall(r"[a-z]{3,}", text)) - _STOP


def _put(
    rng: random.Random, template: str, spoken: dict[str, str], values: dict[str, Any], params: Sequence[Param]
) -> tuple[str, dict[str, Any]]:
    """Fill the slots. Shouting and a capital at the start reach into slots, and then into the values of free text and codes."""
    shout, lead = rng.random() < 0.02, rng.random() < 0.3 and template.startswith("{")
    verbatim = {param.key for param in params if param.kind in ("text", "code")}
    values = dict(values)
    for index, key in enumerate(slots(template)):
        text = spoken[key]
        styled = text.upper() if shout else text[0].upper() + text[1:] if lead and index == 0 else text
        if key in verbatim:
            values[key] = styled
        spoken = {**spoken, key: styled}
    sentence = template.format_map(spoken)
    return (sentence.upper() if shout else sentence), values


def _careless(rng: random.Random, text: str) -> str:
    """People write slots as they like; the value is what they wrote."""
    chance = rng.random()
    if chance < 0.05:
        return text.title()
    if chance < 0.17:
        return text.lower()
    return mistype(rng, text) if chance < 0.2 else text


def _number(rng: random.Random, param: Param) -> tuple[str, int | float]:
    low, high = float(param.of[0]), float(param.of[1])
    least, most = math.ceil(low), math.floor(high)
    if param.kind == "float" and (least > most or rng.random() < 0.4):
        value = min(max(round(rng.uniform(low, high), 1), low), high)
        if value != int(value) or least > most:
            return str(value), value
    whole = rng.randint(least, most)
    if 0 < whole < 100 and rng.random() < 0.15:
        return _spell(whole), whole
    return str(whole), whole


def _spell(value: int) -> str:
    if value <= 20:
        return _NUMBER_WORDS[value]
    ten, one = divmod(value, 10)
    return _TENS[ten - 2] + (f" {_NUMBER_WORDS[one]}" if one else "")


def _code(rng: random.Random, pattern: str) -> str:
    letters = {"A": "ABCDEFGHJKLMNPQRSTUVWXYZ", "9": "0123456789"}
    return "".join(rng.choice(letters[c]) if c in letters else c for c in pattern)


def _restyle(rng: random.Random, name: str) -> str:
    chance = rng.random()
    if chance < 0.08:
        head, *tail = name.split("_")
        return head + "".join(word.capitalize() for word in tail)
    if chance < 0.12:
        return f"{rng.choice(('tool', 'fn', 'action', 'skill', 'op'))}_{rng.randint(1, 99)}"
    if chance < 0.2:
        return f"{rng.choice(('my', 'do', 'app', 'site', 'unit', 'local', 'sys'))}_{name}"
    return name


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
