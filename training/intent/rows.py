"""From the written material to groups of the reader: a sentence, the cards it is read against, and what is right.

Deterministic for a seed: the only source of chance is the given `random.Random`.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from edged.agent.cards import Card
from training.intent.declared import Shown, declare
from training.intent.phrases import ALSO, ASIDES, CODES, IMPERATIVES, LENGTHS, NOT, ROLES, SYLLABLES
from training.material import FOLDER, Ask, Field, Param, Tool, read_beyond, read_tools, slots
from training.sentences import _code, _number
from training.surface import dress

__all__ = ["Group", "Groups", "Kind"]

Kind = Literal["act", "part", "none"]
Span = tuple[int, int]
_SLOT = re.compile(r"\{(\w+)\}")
_TIMED = re.compile(r"\{(\w+)\} (seconds|minutes|hours|days|weeks)\b")
# "the red van" is a red van, but "the day after tomorrow" and "the first of may" are no thing with an article, nor is
# "the roof is leaking", which is a sentence.
_ARTICLE = re.compile(
    r"(?:the|an?) (?!\d|day|week|first|second|third|end|next|last|\w+(?:th|st|nd|rd)\b|half|quarter|hour"
    r"|.*\b(?:is|are|was|were|has|have|had|does|did|will|won't|can|cannot|can't|isn't|doesn't|needs|keeps|must|should)\b)",
    re.I,
)


@dataclass(frozen=True, slots=True)
class Group:
    """`right` are the indices of the cards that the sentence asks for: one if `kind` is "act", one or two if "part", else none.

    `spans` (characters of the sentence, end excluded) and `options` (index of the choice) by slot index of the right card of an
    "act"; a slot in neither is not said.
    """

    sentence: str
    cards: tuple[Card, ...]
    kind: Kind
    right: tuple[int, ...] = ()
    spans: Mapping[int, Span] = field(default_factory=dict)
    options: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Said:
    text: str
    spans: dict[str, Span]
    fixed: dict[str, str]


class Groups:
    """The generator. `near` has, by "field.tool", the tools that may be listed beside it, nearest in meaning first: those of its
    field, and some of others that are surely not the same thing."""

    def __init__(
        self, fields: Sequence[Field], beyond: Path, near: Mapping[str, Sequence[Tool]], shipped_share: float
    ) -> None:
        self.fields = list(fields)
        self.beyond = beyond
        self._beyond_words, self._beyond = read_beyond(beyond)
        self._near = near
        phrases = [p for f in self.fields for v in f.vocabularies.values() for p in v]
        self.words = sorted({word for phrase in phrases for word in phrase.split() if len(word) > 2})
        self._home = {id(tool): f for f in self.fields for tool in f.tools}
        others = sum(len(f.tools) for f in self.fields if f.name != "shipped")
        self._weights = [
            shipped_share if f.name == "shipped" else (1 - shipped_share) * len(f.tools) / max(1, others)
            for f in self.fields
        ]

    @classmethod
    def load(cls, fields: Sequence[Field], near: Mapping[str, Sequence[Tool]], shipped_share: float = 0.2) -> Groups:
        return cls(fields, FOLDER / "beyond.txt", near, shipped_share)

    def group(self, rng: random.Random) -> Group:
        """One sentence over two to six cards."""
        return self.company(rng, 1)[0]

    def company(self, rng: random.Random, count: int) -> list[Group]:
        """`count` sentences over the same cards, for encoding them is a good part of the work: of one tool, then of any listed."""
        [home] = rng.choices(self.fields, self._weights)
        tool = rng.choice(home.tools)
        listed = self._company(rng, home, tool)
        meant = [tool, *(rng.choice(listed).tool for _ in range(count - 1))]
        return [self._one(rng, self._home[id(tool)], tool, listed) for tool in meant]

    def _one(self, rng: random.Random, home: Field, tool: Tool, listed: list[Shown]) -> Group:
        chance = rng.random()
        if chance < 0.68:
            return self._act(rng, tool, listed, rng.choice(tool.asks))
        if chance < 0.74 and tool.lacks:
            return self._act(rng, tool, listed, rng.choice(tool.lacks))
        if chance < 0.80:
            return self._part(rng, home, tool, listed)
        return self._none(rng, tool, listed)

    # the company of tools

    def _company(self, rng: random.Random, home: Field, tool: Tool) -> list[Shown]:
        """The tool and what stands beside it: its nearest neighbours mostly, for these have to be told apart."""
        near = self._near[f"{home.name}.{tool.key}"]
        count = rng.choice((1, 1, 1, 2, 3, 5))
        chosen: list[Tool] = []
        for _ in range(count):
            close = near[min(len(near) - 1, int(rng.expovariate(1 / 3)))]
            other = close if rng.random() < 0.65 else rng.choice(near)
            if other not in chosen:
                chosen.append(other)
        chosen.append(tool)
        rng.shuffle(chosen)
        return [declare(rng, tool, self.words) for tool in chosen]

    # the kinds

    def _act(self, rng: random.Random, tool: Tool, listed: Sequence[Shown], ask: Ask) -> Group:
        right = next(i for i, shown in enumerate(listed) if shown.tool is tool)
        shown = listed[right]
        if rng.random() < 0.18 and ask in tool.asks:
            strange = rng.random() < 0.35
            if strange:
                shown = declare(rng, tool, self.words, {p.key for p in tool.params if p.kind != "choice"})
            ask = _by_name(rng, shown, ask, whole=strange or rng.random() < 0.4)
        said = self._say(rng, tool.params, Ask(self._aside(rng, dress(rng, ask.text)), ask.fixed))
        spans: dict[int, Span] = {}
        options: dict[int, int] = {}
        for index, (slot, param) in enumerate(zip(shown.card.slots, shown.params, strict=True)):
            if param.kind == "choice":
                if param.key in said.fixed:
                    options[index] = param.of.index(said.fixed[param.key])
            elif param.key in said.spans:
                spans[index] = said.spans[param.key]
            assert slot.choices == (param.of if param.kind == "choice" else ())
        cards = tuple(shown.card if i == right else other.card for i, other in enumerate(listed))
        return Group(said.text, cards, "act", (right,), spans, options)

    def _part(self, rng: random.Random, home: Field, tool: Tool, listed: list[Shown]) -> Group:
        """Two things asked at once; the second may be one that no listed tool does."""
        one = self._say(rng, tool.params, rng.choice(tool.asks)).text
        tools = [shown.tool for shown in listed]
        choice, right = rng.random(), [tools.index(tool)]
        if choice < 0.45 and len(tools) > 1:
            other = rng.choice([t for t in tools if t is not tool])
            two = self._say(rng, other.params, rng.choice(other.asks)).text
            right.append(tools.index(other))
        elif choice < 0.6:
            two = self._say(rng, tool.params, rng.choice(tool.asks)).text
        elif choice < 0.85:
            other = rng.choice(home.tools)
            two = self._say(rng, other.params, rng.choice(other.asks)).text
            right += [i for i, t in enumerate(tools) if t is other and t is not tool]
        else:
            two = self.beyond_one(rng)
        if rng.random() < 0.5 and choice >= 0.6:
            one, two = two, one
        text = dress(rng, re.sub(r"[{}]", "", one.rstrip("?.!") + rng.choice(ALSO) + two))
        return Group(text, _cards(listed), "part", tuple(right))

    def _none(self, rng: random.Random, tool: Tool, listed: list[Shown]) -> Group:
        chance, source = rng.random(), rng.choice(listed).tool
        if chance < 0.5 and source.unfit:
            said = self._say(rng, source.params, Ask(self._aside(rng, dress(rng, rng.choice(source.unfit))), {}))
            return Group(said.text, _cards(listed), "none")
        if chance < 0.66:
            plain = [a for a in source.asks if a.text.split()[0] in IMPERATIVES]
            if plain:
                text = self._say(rng, source.params, rng.choice(plain)).text
                return Group(rng.choice(NOT).format(text), _cards(listed), "none")
        rest = [shown for shown in listed if shown.tool is not tool]
        if chance < 0.88 and rest:
            said = self._say(rng, tool.params, Ask(dress(rng, rng.choice(tool.asks).text), {}))
            return Group(said.text, _cards(rest), "none")
        return Group(dress(rng, self.beyond_one(rng)), _cards(listed), "none")

    def _aside(self, rng: random.Random, text: str) -> str:
        """Now and then a remark around a sentence, with a thing in it that is no argument."""
        if rng.random() >= 0.08:
            return text
        thing = " ".join(rng.choice(self.words) for _ in range(rng.choice((1, 1, 2))))
        return rng.choice(ASIDES).format(text.rstrip("?!."), thing)

    def beyond_one(self, rng: random.Random) -> str:
        template = rng.choice(self._beyond)
        for slot in slots(template):
            template = template.replace(f"{{{slot}}}", rng.choice(self._beyond_words[slot]), 1)
        return re.sub(r"\ba (?=[aeio])", "an ", template)

    # one sentence

    def say(self, rng: random.Random, params: Sequence[Param], ask: Ask) -> str:
        return self._say(rng, params, ask).text

    def _say(self, rng: random.Random, params: Sequence[Param], ask: Ask) -> _Said:
        by_key, fixed, spans = {p.key: p for p in params}, dict(ask.fixed), {}
        # where the unit is an argument of its own it has to be the one that is said
        template, lengths = (ask.text, {}) if ask.fixed else _other_units(rng, ask.text)
        text, end = "", 0
        for found in _SLOT.finditer(template):
            param = by_key[found[1]]
            text += template[end : found.start()]
            spoken = lengths.get(param.key) or self._value(rng, param, fixed)
            own = _ARTICLE.match(spoken) if param.kind == "text" else None
            spans[param.key] = (len(text) + (own.end() if own else 0), len(text) + len(spoken))
            text, end = text + spoken, found.end()
        return _Said(text + template[end:], spans, fixed)

    def _value(self, rng: random.Random, param: Param, fixed: dict[str, str]) -> str:
        if param.kind == "choice":
            choice = fixed[param.key] = rng.choice(param.of)
            return choice.replace("_", " ")
        if param.kind in ("int", "float"):
            return _number(rng, param)[0]
        coded = (param.kind == "code") != (rng.random() < 0.05)  # what usually stands there is a hint and no proof
        if coded:
            text = _code(rng, rng.choice(param.of) if param.kind == "code" else rng.choice(CODES))
        else:
            text = self._phrase(rng, self.words if param.kind == "code" else param.of)
        chance = rng.random()
        return text.title() if chance < 0.05 else text.lower() if chance < 0.12 else text

    def _phrase(self, rng: random.Random, vocabulary: Sequence[str]) -> str:
        chance = rng.random()
        if chance < 0.7:
            return rng.choice(vocabulary)
        if chance < 0.85:
            return " ".join(rng.choice(self.words) for _ in range(rng.choice((1, 2, 2, 2, 3, 3, 4))))
        if chance < 0.92:
            coined = "".join(rng.choice(SYLLABLES) for _ in range(rng.choice((2, 3))))
            return rng.choice((coined, f"{coined} {rng.choice(self.words)}", f"{rng.choice(self.words)} {coined}"))
        if chance < 0.96:
            return f"{rng.choice(vocabulary)} {rng.randint(1, 24)}"
        return f"{rng.choice(self.words)} {rng.choice(vocabulary)}"


def _other_units(rng: random.Random, template: str) -> tuple[str, dict[str, str]]:
    """Now and then a length of time in other words than the parameter's unit: "half an hour" for minutes. With the template
    without that unit, and what is said by slot."""
    said: dict[str, str] = {}

    def instead(found: re.Match[str]) -> str:
        if rng.random() >= 0.15:
            return found[0]
        said[found[1]] = rng.choice(LENGTHS[found[2]]).format(rng.randint(2, 12))
        return f"{{{found[1]}}}"

    return _TIMED.sub(instead, template), said


def _cards(listed: Sequence[Shown]) -> tuple[Card, ...]:
    return tuple(shown.card for shown in listed)


def _by_name(rng: random.Random, shown: Shown, ask: Ask, *, whole: bool) -> Ask:
    """What a written sentence leaves out, or the `whole` of it, told by the names of the parameters that this card has."""
    tool = shown.tool
    said = set() if whole else {*slots(ask.text), *ask.fixed}
    left = [
        (slot.name.replace("_", " "), param)
        for slot, param in zip(shown.card.slots, shown.params, strict=True)
        if param.key not in said and (not param.optional or rng.random() < 0.6)
    ]
    rng.shuffle(left)
    parts = [rng.choice(ROLES).format(name, f"{{{param.key}}}") for name, param in left]
    if whole:
        head = rng.choice((rng.choice(tool.names).replace("_", " "), rng.choice(tool.abouts).lower(), ""))
        fixed: Mapping[str, str] = {}
    else:
        head, fixed = ask.text.rstrip("?.!"), ask.fixed
    joint = rng.choice((", ", ", ", " ", " and "))
    text = joint.join(part for part in (head, *parts) if part)
    return Ask(text, dict(fixed)) if text else ask


def read_fields() -> list[Field]:
    return [read_tools(path) for path in sorted(FOLDER.glob("*.txt")) if path.name != "beyond.txt"]
