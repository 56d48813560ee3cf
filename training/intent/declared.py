"""Tools as one of many programmers would declare them: other names, other descriptions, another order of parameters."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from edged.agent.cards import Card, card
from edged.domain.resources import Grounding, ToolSpec
from training.material import Param, Tool

__all__ = ["Shown", "declare"]

_TOLD = ("{0}", "The {0}", "Which {0}", "{0} that is meant")


@dataclass(frozen=True, slots=True)
class Shown:
    """A tool, its card, and its parameters in the order of the card's slots."""

    tool: Tool
    card: Card
    params: tuple[Param, ...]


def declare(rng: random.Random, tool: Tool, words: Sequence[str], strange: Collection[str] = ()) -> Shown:
    """The parameters with keys in `strange` get a name out of `words`, which says nothing about them: a sentence that tells
    such an argument by its name teaches to look for the name, not for what usually stands there."""
    params = list(tool.params)
    if rng.random() < 0.5:
        rng.shuffle(params)
    names = _names(rng, params, words, strange)
    properties: dict[str, dict[str, object]] = {}
    grounding: dict[str, Grounding] = {}
    for key, param in zip(names, params, strict=True):
        if param.kind == "choice":
            properties[key] = {"type": "string", "enum": list(param.of)}
        elif param.kind in ("int", "float"):
            properties[key] = {"type": "integer" if param.kind == "int" else "number"}
        else:
            properties[key] = {"type": "string"}
            if param.kind == "text" and param.key not in strange and rng.random() < 0.3:
                grounding[key] = Grounding("choice", tuple(rng.sample(param.of, min(2, len(param.of)))))
        if param.key not in strange and rng.random() < 0.12:
            properties[key]["description"] = rng.choice(_TOLD).format(rng.choice(param.names).replace("_", " "))
    required = [key for key, param in zip(names, params, strict=True) if not param.optional]
    schema = {"type": "object", "properties": properties, "required": required}
    spec = ToolSpec(_tool_name(rng, tool), rng.choice(tool.abouts), schema, grounding=grounding)
    return Shown(tool, card(spec), tuple(params))


def _names(rng: random.Random, params: Sequence[Param], words: Sequence[str], strange: Collection[str]) -> list[str]:
    names = [rng.choice(p.names) if rng.random() < 0.6 else p.key for p in params]
    names = [rng.choice(words) if p.key in strange else name for p, name in zip(params, names, strict=True)]
    return names if len(set(names)) == len(names) else [p.key for p in params]


def _tool_name(rng: random.Random, tool: Tool) -> str:
    name, chance = rng.choice(tool.names), rng.random()
    if chance < 0.05:
        return f"{rng.choice(('tool', 'fn', 'action', 'skill', 'op'))}_{rng.randint(1, 99)}"
    if chance < 0.1:
        return f"{rng.choice(('my', 'do', 'app', 'site', 'unit', 'local', 'sys'))}_{name}"
    return name
