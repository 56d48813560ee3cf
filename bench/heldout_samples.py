"""Samples from the held-out files: which tools are shown, the sentence, and the exact call that is right (None: no tool fits)."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edged.domain.resources import Grounding, ToolSpec
from training.material import Ask, Param, Tool, read_tools, slots

__all__ = ["Sample", "shipped_samples", "taught", "unseen_samples"]

FOLDER = Path(__file__).parent / "heldout"
_LETTERS = {"A": "ABCDEFGHJKLMNPQRSTUVWXYZ", "9": "0123456789"}


@dataclass(frozen=True, slots=True)
class Sample:
    """`wanted` is (tool, arguments) or None; `kind` is "call", "near miss" or "beyond"; `result` is what the tool returns; `agent`
    is the shipped agent whose tools are shown."""

    specs: tuple[ToolSpec, ...]
    sentence: str
    wanted: tuple[str, dict[str, Any]] | None
    kind: str
    result: dict[str, Any] | None = None
    agent: str = ""


def shipped_samples(
    agents: Mapping[str, Sequence[ToolSpec]], count: int, seed: int, file: Path = FOLDER / "shipped.txt"
) -> list[Sample]:
    """`count` samples over the agents' real tools, their choices replaced by the held-out vocabularies; a quarter fits no tool."""
    tools = {tool.key: tool for tool in read_tools(file).tools}
    rng = random.Random(seed)
    beyond = tools.pop("nothing").unfit
    shown = {name: tuple(_with_choices(spec, tools[spec.name]) for spec in specs) for name, specs in agents.items()}
    homes = {key: [n for n, specs in shown.items() if any(s.name == key for s in specs)] for key in tools}
    asks = _cycle(rng, [(tool, ask) for tool in tools.values() for ask in tool.asks])
    misses = _cycle(rng, [(tool, text) for tool in tools.values() for text in tool.unfit])
    samples = []
    for index in range(count):
        if index % 4:
            tool, ask = next(asks)
            agent = rng.choice(homes[tool.key])
            samples.append(replace(_call(rng, shown[agent], tool, ask), agent=agent))
        elif index % 8:
            tool, text = next(misses)
            agent = rng.choice(homes[tool.key])
            sentence, _ = _fill(rng, tool.params, Ask(text, {}))
            samples.append(Sample(shown[agent], _style(rng, sentence), None, "near miss", agent=agent))
        else:
            agent = rng.choice(list(shown))
            samples.append(Sample(shown[agent], _style(rng, rng.choice(beyond)), None, "beyond", agent=agent))
    return samples


def unseen_samples(
    count: int, seed: int, others: tuple[int, int] = (1, 7), file: Path = FOLDER / "unseen.txt", *, apart: int = 0
) -> list[Sample]:
    """The same over tools that training never saw, `others` of them beside the one that is meant; free text is a span of the
    sentence. So many sentences of each tool are set `apart` and not asked."""
    tools = [replace(tool, asks=tool.asks[apart:]) for tool in read_tools(file).tools]
    rng = random.Random(seed)
    beyond = next(tool.unfit for tool in read_tools(FOLDER / "shipped.txt").tools if tool.key == "nothing")
    asks = _cycle(rng, [(tool, ask) for tool in tools for ask in tool.asks])
    misses = _cycle(rng, [(tool, text) for tool in tools for text in tool.unfit])
    samples = []
    for index in range(count):
        tool, said = next(asks) if index % 4 else next(misses) if index % 8 else (rng.choice(tools), rng.choice(beyond))
        beside = rng.sample([t for t in tools if t is not tool], min(len(tools) - 1, rng.randint(*others)))
        specs = tuple(_spec(t) for t in rng.sample([tool, *beside], len(beside) + 1))
        if isinstance(said, Ask):
            samples.append(_call(rng, specs, tool, said))
        else:
            sentence, _ = _fill(rng, tool.params, Ask(said, {}))
            samples.append(Sample(specs, _style(rng, sentence), None, "near miss" if index % 8 else "beyond"))
    return samples


def taught(samples: Sequence[Sample], apart: int, seed: int, file: Path = FOLDER / "unseen.txt") -> list[Sample]:
    """The same samples, whose tools have the sentences that were set apart as examples."""
    rng = random.Random(seed)
    lessons = {
        tool.key: tuple(_fill(rng, tool.params, ask)[0] for ask in tool.asks[:apart]) for tool in read_tools(file).tools
    }
    return [
        replace(s, specs=tuple(replace(spec, examples=lessons.get(spec.name, ())) for spec in s.specs)) for s in samples
    ]


def _cycle(rng: random.Random, rows: list[Any]) -> Iterator[Any]:
    while True:
        rng.shuffle(rows)
        yield from rows


def _call(rng: random.Random, specs: tuple[ToolSpec, ...], tool: Tool, ask: Ask) -> Sample:
    sentence, arguments = _fill(rng, tool.params, ask)
    return Sample(specs, _style(rng, sentence), (tool.key, arguments), "call", _result(rng, tool, arguments))


def _fill(rng: random.Random, params: Sequence[Param], ask: Ask) -> tuple[str, dict[str, Any]]:
    arguments: dict[str, Any] = dict(ask.fixed)
    spoken: dict[str, str] = {}
    taken: set[str] = set()
    for param in params:
        if param.key in slots(ask.text):
            value = _value(rng, param, taken)
            arguments[param.key], spoken[param.key] = (
                value,
                str(value).replace("_", " ") if param.kind == "choice" else str(value),
            )
    return ask.text.format_map(spoken), arguments


def _value(rng: random.Random, param: Param, taken: set[str]) -> Any:
    if param.kind == "int":
        return rng.randint(int(param.of[0]), int(param.of[1]))
    if param.kind == "float":
        exact = round(rng.uniform(float(param.of[0]), float(param.of[1])), 1)
        return int(exact) if exact == int(exact) or rng.random() < 0.5 else exact
    if param.kind == "code":
        return "".join(rng.choice(_LETTERS.get(c, c)) for c in rng.choice(param.of))
    value = rng.choice([v for v in param.of if v not in taken])  # nobody converts miles to miles
    taken.add(value)
    return value


def _style(rng: random.Random, sentence: str) -> str:
    """As people type: half of the time with a capital and a full stop or question mark. A leading slot keeps its letters."""
    if rng.random() < 0.5:
        return sentence
    return sentence[0].upper() + sentence[1:] + ("" if sentence[-1] in "?.!" else rng.choice((".", "", "!")))


def _with_choices(spec: ToolSpec, tool: Tool) -> ToolSpec:
    grounding = dict(spec.grounding)
    for param in tool.params:
        known = grounding.get(param.key)
        if known is not None and known.kind == "choice" and param.kind == "text":
            grounding[param.key] = Grounding("choice", param.of)
    return replace(spec, grounding=grounding)


def _spec(tool: Tool) -> ToolSpec:
    kinds: dict[str, dict[str, Any]] = {"int": {"type": "integer"}, "float": {"type": "number"}}
    properties = {
        p.key: {"type": "string", "enum": list(p.of)} if p.kind == "choice" else kinds.get(p.kind, {"type": "string"})
        for p in tool.params
    }
    grounding = {p.key: Grounding("number" if p.kind in kinds else "span") for p in tool.params if p.kind != "choice"}
    required = [p.key for p in tool.params if not p.optional]
    schema = {"type": "object", "properties": properties, "required": required}
    return ToolSpec(tool.key, tool.abouts[0], schema, grounding=grounding)


def _result(rng: random.Random, tool: Tool, arguments: dict[str, Any]) -> dict[str, Any]:
    vocabularies = read_tools(FOLDER / "shipped.txt").vocabularies
    result: dict[str, Any] = {}
    for key, source in tool.result.items():
        if source.startswith("{"):
            if source[1:-1] in arguments:
                result[key] = arguments[source[1:-1]]
        elif source.startswith(("INT", "FLOAT")):
            low, high = source.split()[1].split("-")
            result[key] = rng.randint(int(float(low)), int(float(high)))
        elif source.startswith("CODE"):
            result[key] = "".join(rng.choice(_LETTERS.get(c, c)) for c in source.split()[1])
        else:
            result[key] = rng.choice(vocabularies.get(source) or source.split("|"))
    return result
