"""What a sentence asks for, decided from what the reader saw: act, ask back, pass on, or say that no tool fits. Pure.

The reader scores each likely tool against "none of them" and points at arguments. What it points at counts only where the request
backs it (`agent/grounding`): a number must be stated, a listed value mentioned. A call is made only if tool and arguments together
are sure enough; the two thresholds were set on development tools that neither training nor the benchmark knows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edged.agent.cards import Card, Slot
from edged.agent.grounding import Argument, ground, mentioned, numbers
from edged.domain.messages import ToolCall
from edged.domain.resources import ToolSpec

__all__ = ["Act", "AskBack", "Decision", "NoTool", "PassOn", "decide"]

# Fitted by training/intent/calibrate.py: scores gain by likeness to the description and to the nearest example.
_ABOUT = (0.0, 0.0)  # weight, origin (cosine)
_EXAMPLE = (0.0, 0.0)
_SURE = 0.5
_NONE = 0.5
_LOOKED_PAST = 0.7
_LIKELY = 0.1  # the share of chance below which a tool is not worth a language model's time
_CALL = "intent-1"


@dataclass(frozen=True, slots=True)
class Act:
    """Make this call. `sure` is the estimated probability that it is right."""

    call: ToolCall
    sure: float


@dataclass(frozen=True, slots=True)
class AskBack:
    """This tool is meant, and `missing` are required arguments that the sentence does not state; `known` are those it does."""

    tool: str
    known: Mapping[str, Any]
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PassOn:
    """Not sure enough: for the language model, with the likely `tools`, best first. `several`: more than one thing is asked, which
    no local tier does: half of a request done in silence is worse than none."""

    tools: tuple[str, ...]
    several: bool = False


@dataclass(frozen=True, slots=True)
class NoTool:
    """None of the tools is meant."""

    sure: float


Decision = Act | AskBack | PassOn | NoTool


@dataclass(frozen=True, slots=True)
class _Read:
    """The arguments of one tool: values, how sure all of them are together, and which required ones are not stated."""

    values: dict[str, Any]
    sure: float
    missing: tuple[str, ...]


def decide(
    text: str,
    tools: Sequence[Mapping[str, Any]],
    cards: Sequence[Card],
    specs: Sequence[ToolSpec],
    *,
    cut: bool = False,
) -> Decision:
    """`tools` as the worker's `understand` tells them; `cards` and `specs` in the order in which they were taught."""
    if not tools:
        return NoTool(1.0)
    acts, parts, none = _chances(tools)
    best = max(range(len(tools)), key=lambda i: acts[i])
    shares = [act + part for act, part in zip(acts, parts, strict=True)]
    order = sorted(range(len(tools)), key=lambda i: -shares[i])
    likely = tuple(specs[tools[i]["index"]].name for i in order if shares[i] >= _LIKELY or i == order[0])
    if cut or sum(parts) > max(acts[best], none):
        return PassOn(likely, several=not cut)
    if none > _NONE:
        return NoTool(none)
    card, spec = cards[tools[best]["index"]], specs[tools[best]["index"]]
    if card.unread:
        return PassOn(likely)
    read = _arguments(text, tools[best]["slots"], card, spec)
    if acts[best] * read.sure < _SURE:
        return PassOn(likely)
    if read.missing:
        return AskBack(spec.name, read.values, read.missing)
    return Act(ToolCall(_CALL, spec.name, read.values), acts[best] * read.sure)


def _chances(tools: Sequence[Mapping[str, Any]]) -> tuple[list[float], list[float], float]:
    """Of each tool that it alone is meant, and that it is meant among other things; and that none is. They sum to 1."""
    gains = [
        _gain(tool["about"], _ABOUT) + (_gain(tool["example"], _EXAMPLE) if tool["example"] >= -0.99 else 0.0)
        for tool in tools
    ]
    acts = [tool["act"] + gain for tool, gain in zip(tools, gains, strict=True)]
    parts = [tool["part"] + gain for tool, gain in zip(tools, gains, strict=True)]
    top = max(0.0, *acts, *parts)
    weights = [math.exp(score - top) for score in (*acts, *parts)]
    total = sum(weights) + math.exp(-top)
    shares = [weight / total for weight in weights]
    return shares[: len(tools)], shares[len(tools) :], math.exp(-top) / total


def _gain(cosine: float, weight_and_origin: tuple[float, float]) -> float:
    weight, origin = weight_and_origin
    return weight * (cosine - origin)


def _arguments(text: str, slots: Sequence[Mapping[str, Any]], card: Card, spec: ToolSpec) -> _Read:
    """Slots of the card that were cut off its end are not in `slots`: what they need is missing."""
    values: dict[str, Any] = {}
    sure, missing, taken = 1.0, [], list[tuple[int, int]]()
    offers = {argument.name: argument for argument in ground(spec, text).arguments}
    for slot, seen in zip(card.slots, slots, strict=False):
        value, chance, span = _value(text, slot, seen, offers[slot.name], taken, values)
        sure *= chance
        if span is not None:
            taken.append(span)
        if value is not None:
            values[slot.name] = value
        elif slot.name in spec.required:
            missing.append(slot.name)
    missing += [name for name in spec.required if name not in values and name not in missing]
    return _Read(values, sure, tuple(missing))


_Found = tuple[Any, float, tuple[int, int] | None]


def _value(
    text: str,
    slot: Slot,
    seen: Mapping[str, Any],
    offer: Argument,
    taken: Sequence[tuple[int, int]],
    values: Mapping[str, Any],
) -> _Found:
    """(value or None, how sure, where it stands). A stretch of words serves one parameter."""
    if slot.choices:
        return _option(slot, seen["options"])
    free = [(a, b, p) for a, b, p in seen["spans"] if not any(a < end and begin < b for begin, end in taken)]
    absent = seen["absent"]
    if offer.values is not None:
        return _backed(text, free, absent, offer, set(map(str, values.values())))
    if not free or absent > free[0][2]:
        return None, absent if not free else absent / (absent + free[0][2]), None
    begin, end, chance = free[0]
    return _trimmed(text[begin:end]), chance, (begin, end)


def _option(slot: Slot, chances: Sequence[float]) -> _Found:
    best = max(range(len(chances)), key=lambda i: chances[i])
    return (slot.choices[best] if best < len(slot.choices) else None), chances[best], None


def _backed(
    text: str, spans: Sequence[tuple[int, int, float]], absent: float, offer: Argument, used: set[str]
) -> _Found:
    """A value that grounding found in the sentence, and that the reader points at: numbers and listed values."""
    stated = offer.values or ()
    for begin, end, chance in spans:
        if chance < absent:
            break
        for value in _in(text[begin:end], stated):
            return value, chance, (begin, end)
    left = [value for value in stated if str(value) not in used]
    if (
        len(left) == 1 and offer.required and absent < _LOOKED_PAST
    ):  # the one thing it can be; the reader pointed beside it
        return left[0], 1.0 - absent, None
    return None, absent if not spans else max(absent, 1e-6), None


def _in(words: str, stated: Sequence[Any]) -> Sequence[Any]:
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in stated):
        said = numbers(words)
        return [value for value in stated if value in said] or ([stated[0]] if len(stated) == 1 and not said else [])
    return mentioned([str(value) for value in stated], words)


def _trimmed(words: str) -> str:
    return words.strip(" ,;:!?\"'")
