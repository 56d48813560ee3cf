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

from edged.agent.cards import Card, card
from edged.domain.resources import Grounding, ToolSpec
from training.material import FOLDER, Ask, Field, Param, Tool, read_beyond, read_tools, slots
from training.sentences import _code, _number
from training.surface import dress

__all__ = ["Group", "Groups", "Kind", "spec_of"]

Kind = Literal["act", "part", "none"]
Span = tuple[int, int]
_SLOT = re.compile(r"\{(\w+)\}")
# "the red van" is a red van, but "the day after tomorrow" and "the first of may" are no thing with an article, nor is
# "the roof is leaking", which is a sentence.
_ARTICLE = re.compile(
    r"(?:the|an?) (?!\d|day|week|first|second|third|end|next|last|\w+(?:th|st|nd|rd)\b|half|quarter|hour"
    r"|.*\b(?:is|are|was|were|has|have|had|does|did|will|won't|can|cannot|can't|isn't|doesn't|needs|keeps|must|should)\b)",
    re.I,
)
_SYLLABLES = "ba ko ri tel mon san vi lu dar fen zo pra ki nor um el ta gri sho we dax lin or qua ry bel".split()
_ALSO = (
    " and ",
    " and ",
    " and then ",
    " then ",
    ", also ",
    " and also ",
    ". also ",
    ". then ",
    ", and after that ",
    " plus ",
)
_NOT = (
    "do not {0}", "don't {0}", "dont {0}", "please don't {0}", "please do not {0}", "never {0}", "no need to {0}",
    "you don't have to {0}", "i didn't ask you to {0}", "under no circumstances {0}", "i don't want you to {0}",
    "nobody should {0}", "whatever you do, don't {0}", "stop trying to {0}", "why would anyone {0}", "how do i {0} myself",
    "yesterday i had to {0}", "i already told you to {0} and it is done", "who told you to {0}", "what happens if i {0}",
)  # fmt: skip
# How people who know a tool say an argument: by the parameter's own name.
_ROLES = (
    "{0} {1}", "{0} {1}", "{0} {1}", "{0}: {1}", "{0} is {1}", "{0} = {1}", "with {0} {1}", "the {0} is {1}", "{1} as {0}",
    "{1} as the {0}", "{1} is the {0}", "{1} for {0}", "{0} should be {1}", "for {0} take {1}", "{1} {0}", "{1} ({0})",
    "set {0} to {1}", "make {1} the {0}",
)  # fmt: skip
_IMPERATIVES = frozenset(
    "turn switch set start stop open close put make add remove delete cancel book reserve send call tell show list find "
    "get give take move bring play pause resume skip raise lower increase decrease dim lock unlock check read write "
    "order buy sell pay transfer print scan schedule plan remind wake note log record report file create change update "
    "rename assign mark move ship deliver track load unload fill empty drain run launch restart reboot reset shut kill "
    "activate deactivate enable disable arm disarm charge pump water feed clean wash heat cool warm dry spray mow cut "
    "convert translate define search look navigate drive park refuel rent hire register enroll issue print renew "
    "approve reject submit release hold block unblock freeze extend shorten prolong swap replace repair fix fetch pull "
    "push lift drop hoist throw let keep pick pack weigh measure test calibrate dispatch notify message text email ring "
    "page announce crank bump flip pop fire dig save share copy export import refund invoice bill quote apply".split()
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
        self._words = sorted({word for phrase in phrases for word in phrase.split() if len(word) > 2})
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
        [home] = rng.choices(self.fields, self._weights)
        tool = rng.choice(home.tools)
        listed = self._company(rng, home, tool)
        chance = rng.random()
        if chance < 0.64:
            return self._act(rng, tool, listed, rng.choice(tool.asks))
        if chance < 0.70 and tool.lacks:
            return self._act(rng, tool, listed, rng.choice(tool.lacks))
        if chance < 0.77:
            return self._part(rng, home, tool, listed)
        return self._none(rng, tool, listed)

    # the company of tools

    def _company(self, rng: random.Random, home: Field, tool: Tool) -> list[Tool]:
        """The tool and what stands beside it: its nearest neighbours mostly, for these have to be told apart."""
        near = self._near[f"{home.name}.{tool.key}"]
        count = rng.choice((1, 1, 2, 2, 3, 4))
        chosen: list[Tool] = []
        for _ in range(count):
            close = near[min(len(near) - 1, int(rng.expovariate(1 / 3)))]
            other = close if rng.random() < 0.65 else rng.choice(near)
            if other not in chosen:
                chosen.append(other)
        chosen.append(tool)
        rng.shuffle(chosen)
        return chosen

    def _cards(self, rng: random.Random, listed: Sequence[Tool]) -> tuple[Card, ...]:
        return tuple(card(spec_of(rng, tool)) for tool in listed)

    # the kinds

    def _act(self, rng: random.Random, tool: Tool, listed: Sequence[Tool], ask: Ask) -> Group:
        cards, right = self._cards(rng, listed), list(listed).index(tool)
        if rng.random() < 0.16 and ask in tool.asks:
            ask = _by_name(rng, tool, cards[right], ask)
        said = self._say(rng, tool.params, Ask(dress(rng, ask.text), ask.fixed))
        spans: dict[int, Span] = {}
        options: dict[int, int] = {}
        for index, (slot, param) in enumerate(zip(cards[right].slots, tool.params, strict=True)):
            if param.kind == "choice":
                if param.key in said.fixed:
                    options[index] = param.of.index(said.fixed[param.key])
            elif param.key in said.spans:
                spans[index] = said.spans[param.key]
            assert slot.choices == (param.of if param.kind == "choice" else ())
        return Group(said.text, cards, "act", (right,), spans, options)

    def _part(self, rng: random.Random, home: Field, tool: Tool, listed: list[Tool]) -> Group:
        """Two things asked at once; the second may be one that no listed tool does."""
        one = self._say(rng, tool.params, rng.choice(tool.asks)).text
        choice, right = rng.random(), [list(listed).index(tool)]
        if choice < 0.45 and len(listed) > 1:
            other = rng.choice([t for t in listed if t is not tool])
            two = self._say(rng, other.params, rng.choice(other.asks)).text
            right.append(list(listed).index(other))
        elif choice < 0.6:
            two = self._say(rng, tool.params, rng.choice(tool.asks)).text
        elif choice < 0.85:
            other = rng.choice(home.tools)
            two = self._say(rng, other.params, rng.choice(other.asks)).text
            right += [i for i, t in enumerate(listed) if t is other and t is not tool]
        else:
            two = self.beyond_one(rng)
        if rng.random() < 0.5 and choice >= 0.6:
            one, two = two, one
        text = dress(rng, re.sub(r"[{}]", "", one.rstrip("?.!") + rng.choice(_ALSO) + two))
        return Group(text, self._cards(rng, listed), "part", tuple(right))

    def _none(self, rng: random.Random, tool: Tool, listed: list[Tool]) -> Group:
        chance = rng.random()
        if chance < 0.5:
            source = rng.choice(listed)
            if source.unfit:
                said = self._say(rng, source.params, Ask(dress(rng, rng.choice(source.unfit)), {}))
                return Group(said.text, self._cards(rng, listed), "none")
        if chance < 0.66:
            source = rng.choice(listed)
            plain = [a for a in source.asks if a.text.split()[0] in _IMPERATIVES]
            if plain:
                text = self._say(rng, source.params, rng.choice(plain)).text
                return Group(rng.choice(_NOT).format(text), self._cards(rng, listed), "none")
        rest = [t for t in listed if t is not tool]
        if chance < 0.88 and rest:
            said = self._say(rng, tool.params, Ask(dress(rng, rng.choice(tool.asks).text), {}))
            return Group(said.text, self._cards(rng, rest), "none")
        return Group(dress(rng, self.beyond_one(rng)), self._cards(rng, listed), "none")

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
        text, end = "", 0
        for found in _SLOT.finditer(ask.text):
            param = by_key[found[1]]
            text += ask.text[end : found.start()]
            spoken = self._value(rng, param, fixed)
            own = _ARTICLE.match(spoken) if param.kind == "text" else None
            spans[param.key] = (len(text) + (own.end() if own else 0), len(text) + len(spoken))
            text, end = text + spoken, found.end()
        return _Said(text + ask.text[end:], spans, fixed)

    def _value(self, rng: random.Random, param: Param, fixed: dict[str, str]) -> str:
        if param.kind == "choice":
            choice = fixed[param.key] = rng.choice(param.of)
            return choice.replace("_", " ")
        if param.kind in ("int", "float"):
            return _number(rng, param)[0]
        text = _code(rng, rng.choice(param.of)) if param.kind == "code" else self._phrase(rng, param.of)
        chance = rng.random()
        return text.title() if chance < 0.05 else text.lower() if chance < 0.12 else text

    def _phrase(self, rng: random.Random, vocabulary: Sequence[str]) -> str:
        chance = rng.random()
        if chance < 0.7:
            return rng.choice(vocabulary)
        if chance < 0.85:
            return " ".join(rng.choice(self._words) for _ in range(rng.choice((1, 2, 2, 2, 3, 3, 4))))
        if chance < 0.92:
            coined = "".join(rng.choice(_SYLLABLES) for _ in range(rng.choice((2, 3))))
            return rng.choice((coined, f"{coined} {rng.choice(self._words)}", f"{rng.choice(self._words)} {coined}"))
        if chance < 0.96:
            return f"{rng.choice(vocabulary)} {rng.randint(1, 24)}"
        return f"{rng.choice(self._words)} {rng.choice(vocabulary)}"


def _by_name(rng: random.Random, tool: Tool, shown: Card, ask: Ask) -> Ask:
    """What a written sentence leaves out, or every argument, told by the names of the parameters that this card has."""
    whole = rng.random() < 0.5
    said = set() if whole else {*slots(ask.text), *ask.fixed}
    left = [
        (slot.name.replace("_", " "), param)
        for slot, param in zip(shown.slots, tool.params, strict=True)
        if param.key not in said and (not param.optional or rng.random() < 0.6)
    ]
    rng.shuffle(left)
    parts = [rng.choice(_ROLES).format(name, f"{{{param.key}}}") for name, param in left]
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


def spec_of(rng: random.Random, tool: Tool) -> ToolSpec:
    """The tool as one of many programmers would declare it. Parameters keep their order."""
    name = rng.choice(tool.names)
    chance = rng.random()
    if chance < 0.05:
        name = f"{rng.choice(('tool', 'fn', 'action', 'skill', 'op'))}_{rng.randint(1, 99)}"
    elif chance < 0.1:
        name = f"{rng.choice(('my', 'do', 'app', 'site', 'unit', 'local', 'sys'))}_{name}"
    spoken = [rng.choice(p.names) if rng.random() < 0.6 else p.key for p in tool.params]
    if len(set(spoken)) < len(spoken):
        spoken = [p.key for p in tool.params]
    properties: dict[str, dict[str, object]] = {}
    grounding: dict[str, Grounding] = {}
    for key, param in zip(spoken, tool.params, strict=True):
        if param.kind == "choice":
            properties[key] = {"type": "string", "enum": list(param.of)}
        elif param.kind in ("int", "float"):
            properties[key] = {"type": "integer" if param.kind == "int" else "number"}
        else:
            properties[key] = {"type": "string"}
            if param.kind == "text" and rng.random() < 0.3:
                grounding[key] = Grounding("choice", tuple(rng.sample(param.of, min(2, len(param.of)))))
    for key, param in zip(spoken, tool.params, strict=True):
        if rng.random() < 0.12:
            name = rng.choice(param.names).replace("_", " ")
            properties[key]["description"] = rng.choice(("{0}", "The {0}", "Which {0}", "{0} that is meant")).format(
                name
            )
    required = [key for key, param in zip(spoken, tool.params, strict=True) if not param.optional]
    schema = {"type": "object", "properties": properties, "required": required}
    return ToolSpec(name, rng.choice(tool.abouts), schema, grounding=grounding)
