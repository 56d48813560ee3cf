"""What a sentence asks for, decided from what the reader saw: act, ask back, pass on, or say that no tool fits. Pure.

The reader scores each likely tool against "none of them" and points at arguments. What it points at counts only where the words
can be read as a value (`workers/values`): a number must be stated, a listed value mentioned. A call is made only if tool and
arguments together are sure enough. The weights were set on development tools that neither training nor the benchmark knows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edged.agent.cards import Card, Slot
from edged.agent.places import Place, assign
from edged.domain.messages import ToolCall
from edged.domain.resources import ToolSpec

__all__ = ["WEIGHTS", "Act", "AskBack", "Decision", "Guess", "NoTool", "PassOn", "Weights", "decide", "guess"]

_LOOKED_PAST = 0.7
_LIKELY = 0.1  # the share of chance below which a tool is not worth a language model's time
_CALL = "intent-1"


@dataclass(frozen=True, slots=True)
class Weights:
    """What the reader's numbers are worth, as `training/intent/calibrate.py` sets it.

    A tool's scores gain `like` a cosine of its likeness and `llr` a nat of what its examples say. At `sure` chance that tool and
    arguments are right a call is made, at `effect` one that cannot be made twice: an order that nobody wanted is worse than a
    question. At `none` it is believed that no tool is meant.
    """

    like: float = 8.0
    llr: float = 0.03
    sure: float = 0.5
    effect: float = 0.7
    none: float = 0.45


WEIGHTS = Weights()


@dataclass(frozen=True, slots=True)
class Act:
    """Make this call. `sure` is the estimated probability that it is right."""

    call: ToolCall
    sure: float


@dataclass(frozen=True, slots=True)
class AskBack:
    """This tool is meant, and `missing` are arguments that the sentence does not state; `known` are those it does. `among`: between
    these it leaves the choice for the first one missing. `said`: what was read, where that is more than the request."""

    tool: str
    known: Mapping[str, Any]
    missing: tuple[str, ...]
    among: tuple[str, ...] = ()
    said: str = ""


@dataclass(frozen=True, slots=True)
class PassOn:
    """Not sure enough: for the language model, with the likely `tools`, best first, and the `guess` that was not sure enough where
    it is complete. `several`: more than one thing is asked, which no local tier does: half of a request done in silence is worse
    than none. `unread`: the tool needs what no reader reads. `lacks`: the tool is clear, but something that it needs cannot be read
    off ("the attic" where there is none): a model may know better, or else the caller."""

    tools: tuple[str, ...]
    several: bool = False
    guess: ToolCall | None = None
    unread: bool = False
    lacks: AskBack | None = None


@dataclass(frozen=True, slots=True)
class NoTool:
    """None of the tools is meant."""

    sure: float


Decision = Act | AskBack | PassOn | NoTool


@dataclass(frozen=True, slots=True)
class _Read:
    """The arguments of one tool: values, how sure all of them are together, which are not stated or not clear, and `among` what the
    first one of those may be."""

    values: dict[str, Any]
    sure: float
    missing: tuple[str, ...]
    among: tuple[str, ...]


def decide(
    tools: Sequence[Mapping[str, Any]],
    cards: Sequence[Card],
    specs: Sequence[ToolSpec],
    *,
    cut: bool = False,
    weights: Weights = WEIGHTS,
) -> Decision:
    """`tools` as the worker's `understand` tells them; `cards` and `specs` in the order in which they were taught."""
    if not tools:
        return NoTool(1.0)
    made = guess(tools, cards, specs, weights)
    if cut or made.several > max(made.act, made.none):
        return PassOn(made.likely, several=not cut)
    if made.none > max(weights.none, made.act):
        return NoTool(made.none)
    if made.card.unread:
        return PassOn(made.likely, unread=True)
    read = made.read
    call = ToolCall(_CALL, made.spec.name, read.values)
    asked = AskBack(made.spec.name, read.values, read.missing, read.among) if read.missing else None
    limit = weights.sure if made.spec.idempotent else weights.effect
    if made.sure < limit:
        return PassOn(made.likely, guess=None if asked else call, lacks=asked if made.act >= limit else None)
    return asked or Act(call, made.sure)


@dataclass(frozen=True, slots=True)
class Guess:
    """The likeliest tool with its arguments. `act`, `several` and `none` are the chances that it alone is meant, that something
    more is, and that no tool is; `likely` are the tools worth a second look, best first."""

    spec: ToolSpec
    card: Card
    read: _Read
    act: float
    several: float
    none: float
    likely: tuple[str, ...]

    @property
    def sure(self) -> float:
        """The chance that the call is right."""
        return self.act * self.read.sure


def guess(
    tools: Sequence[Mapping[str, Any]], cards: Sequence[Card], specs: Sequence[ToolSpec], weights: Weights
) -> Guess:
    """What is meant, if anything is; there is a tool."""
    acts, parts, none = _chances(tools, weights)
    best = max(range(len(tools)), key=lambda i: acts[i])
    shares = [act + part for act, part in zip(acts, parts, strict=True)]
    order = sorted(range(len(tools)), key=lambda i: -shares[i])
    likely = tuple(specs[tools[i]["index"]].name for i in order if shares[i] >= _LIKELY or i == order[0])
    card, spec = cards[tools[best]["index"]], specs[tools[best]["index"]]
    read = _arguments(tools[best]["slots"], card, spec)
    return Guess(spec, card, read, acts[best], sum(parts), none, likely)


def _chances(tools: Sequence[Mapping[str, Any]], of: Weights) -> tuple[list[float], list[float], float]:
    """Of each tool that it alone is meant, and that it is meant among other things; and that none is. They sum to 1."""
    gains = [of.like * tool["like"] + of.llr * tool["llr"] for tool in tools]
    acts = [tool["act"] + gain for tool, gain in zip(tools, gains, strict=True)]
    parts = [tool["part"] + gain for tool, gain in zip(tools, gains, strict=True)]
    top = max(0.0, *acts, *parts)
    powers = [math.exp(score - top) for score in (*acts, *parts)]
    total = sum(powers) + math.exp(-top)
    shares = [power / total for power in powers]
    return shares[: len(tools)], shares[len(tools) :], math.exp(-top) / total


def _arguments(slots: Sequence[Mapping[str, Any]], card: Card, spec: ToolSpec) -> _Read:
    """Slots of the card that were cut off its end are not in `slots`: what they need is missing."""
    values: dict[str, Any] = {}
    unclear: dict[str, tuple[str, ...]] = {}
    pointed = [seen for slot, seen in zip(card.slots, slots, strict=False) if not slot.choices]
    placed = _placed(pointed)
    taken, sure = [place for place, _ in placed if place is not None], 1.0
    for slot, seen in zip(card.slots, slots, strict=False):
        if slot.choices:
            found = _option(slot, seen["options"])
        else:
            place, chance = placed[next(i for i, other in enumerate(pointed) if other is seen)]
            found = _value(seen, place, chance, taken, values, _needed(slot, card, seen, spec))
        sure *= found.sure
        if len(found.values) == 1:
            values[slot.name] = found.values[0]
        elif found.values:
            unclear[slot.name] = tuple(map(str, found.values))
    missing = [*unclear, *(name for name in spec.required if name not in values and name not in unclear)]
    return _Read(values, sure, tuple(missing), next(iter(unclear.values()), ()))


def _placed(pointed: Sequence[Mapping[str, Any]]) -> list[tuple[Place | None, float]]:
    """Where each parameter stands (None: nowhere), and how sure that is among the places that the others leave free."""
    wishes = [[Place(*span[:3]) for span in seen["spans"] if span[3]] for seen in pointed]
    absent = [seen["absent"] for seen in pointed]
    chosen = [w[i] if i is not None else None for w, i in zip(wishes, assign(wishes, absent), strict=True)]
    found: list[tuple[Place | None, float]] = []
    for at, (own, none) in enumerate(zip(wishes, absent, strict=True)):
        others = [place for i, place in enumerate(chosen) if i != at and place is not None]
        free = sum(place.chance for place in own if not any(place.overlaps(other) for other in others))
        place = chosen[at]
        found.append((place, (none if place is None else place.chance) / max(1e-6, free + none)))
    return found


@dataclass(frozen=True, slots=True)
class _Found:
    """What a parameter may be ((): not said), and how sure that is."""

    values: Sequence[Any]
    sure: float


def _needed(slot: Slot, card: Card, seen: Mapping[str, Any], spec: ToolSpec) -> bool:
    """Where a tool takes one number and the request states some, it is no longer optional: "order two power banks" must not
    become an order for one."""
    numeric = [other for other in card.slots if other.kind in ("integer", "number")]
    return slot.name in spec.required or (numeric == [slot] and bool(seen["stated"]))


def _option(slot: Slot, chances: Sequence[float]) -> _Found:
    best = max(range(len(chances)), key=lambda i: chances[i])
    return _Found(slot.choices[best : best + 1], chances[best])


def _value(
    seen: Mapping[str, Any],
    place: Place | None,
    chance: float,
    taken: Sequence[Place],
    values: Mapping[str, Any],
    needed: bool,
) -> _Found:
    """What the reader points at, where that can be read as a value; else the one value stated that nothing else took."""
    if place is not None:
        return _Found(next(span[3] for span in seen["spans"] if (span[0], span[1]) == (place.begin, place.end)), chance)
    used = set(map(str, values.values()))
    left = [
        said
        for said in seen["stated"]
        if not any(Place(said[0], said[1], 1.0).overlaps(other) for other in taken)
        and not used & set(map(str, said[2]))
    ]
    if len(left) == 1 and needed and seen["absent"] < _LOOKED_PAST:  # the reader pointed beside it
        return _Found(left[0][2], 1.0 - seen["absent"])
    if (
        seen["spans"] and seen["spans"][0][2] >= seen["absent"] and not seen["spans"][0][3]
    ):  # said, and it cannot be read
        return _Found((), max(seen["absent"], 1e-6))
    return _Found((), chance)
