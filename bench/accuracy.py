"""How well the cascade understands held-out sentences, with what is in the box: `python -m bench.accuracy [--json]`.

It runs the real parts: the plugins' own specifications, the router with reflexes, encoder and language model, the pool and its
workers. Only the tools do nothing. Answers are worded by the language model for tools whose template is taken away.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.cascade import Score, ask_cascade, same
from bench.heldout_samples import Sample, shipped_samples, unseen_samples
from bench.report import Bar, Reported, show
from edged.agent import turn
from edged.agent.dialect import DIALECTS
from edged.domain.messages import ToolResult
from edged.domain.meters import Meters
from edged.domain.ports import Generation
from edged.domain.resources import Agent, Budget, ModelSpec, ToolSpec
from edged.engine.pool import Pool
from edged.fleet.settings import ENCODER, load
from edged.tools.host import Host

__all__ = ["main"]

_AGENTS = {"kiosk": ["kiosk.*"], "home": ["home.*", "clock.*"], "desk": ["clock.*", "units.*"]}
_AGENT = Agent("bench", "bundled")
_PLUGINS = Path(__file__).parents[1] / "plugins"
_CONFIG = Path(__file__).parents[1] / "config"


async def ask(pool: Pool, sample: Sample) -> tuple[turn.Transcript, turn.Step]:
    """The model's choice as the next step of the turn."""
    transcript = turn.Transcript(_AGENT, sample.sentence, sample.specs, DIALECTS["edged"])
    transcript, step = turn.begin(transcript)
    return await _generate(pool, transcript, step)


async def _generate(pool: Pool, transcript: turn.Transcript, step: turn.Step) -> tuple[turn.Transcript, turn.Step]:
    assert isinstance(step, turn.Generate)
    made = Generation("bundled", step.messages, step.tools, step.grammar, max_tokens=step.max_tokens)
    return turn.on_generated(transcript, await pool.generate(made))


async def alone(pool: Pool, samples: list[Sample]) -> tuple[float, int]:
    """The language model without the tiers before it: the share of exact calls, and how many were not valid."""
    calls = exact = invalid = 0
    for sample in samples:
        _, step = await ask(pool, sample)
        said = (step.calls[0].name, step.calls[0].arguments) if isinstance(step, turn.CallTools) else None
        malformed = isinstance(step, turn.Escalate) and step.reason == "malformed"
        invalid += malformed or (said is not None and not _valid(sample.specs, *said))
        calls += sample.wanted is not None
        exact += said is not None and sample.wanted is not None and same(said, sample.wanted)
    return exact / max(1, calls), invalid


def _valid(specs: tuple[ToolSpec, ...], name: str, arguments: dict[str, Any]) -> bool:
    """Does the call satisfy its tool's schema? Judged here again, apart from the grammar."""
    spec = next((spec for spec in specs if spec.name == name), None)
    if spec is None or not set(spec.required) <= arguments.keys():
        return False
    kinds = {"string": str, "integer": int, "number": (int, float), "boolean": bool}
    for key, value in arguments.items():
        schema = spec.parameters.get("properties", {}).get(key)
        if schema is None or ("enum" in schema and value not in schema["enum"]):
            return False
        if "enum" not in schema and not isinstance(value, kinds.get(schema.get("type", ""), object)):  # type: ignore[arg-type]
            return False
    return True


async def invented(pool: Pool, samples: list[Sample]) -> tuple[int, int, int]:
    """(answers, worded by the model, with a number or a name that neither the result nor the call has)."""
    names = {c for s in samples for spec in s.specs for g in spec.grounding.values() for c in g.choices}
    answers = worded = wrong = 0
    for sample in samples:
        bare = tuple(replace(spec, say=None, say_error=None) for spec in sample.specs)
        transcript, step = await ask(pool, replace(sample, specs=bare))
        if not isinstance(step, turn.CallTools) or sample.result is None:
            continue
        result = ToolResult(step.calls[0].id, step.calls[0].name, True, content=sample.result)
        transcript, step = turn.on_results(transcript, [result])
        if isinstance(step, turn.Generate):
            transcript, step = await _generate(pool, transcript, step)
        assert isinstance(step, turn.Answer)
        known = json.dumps([sample.result, transcript.calls[0].arguments]).lower()
        answers, worded = answers + 1, worded + (":" not in step.text)
        numbers = [n for n in re.findall(r"\d+(?:\.\d+)?", step.text) if n not in re.findall(r"\d+(?:\.\d+)?", known)]
        strange = [n for n in names if re.search(rf"\b{re.escape(n)}\b", step.text.lower()) and n.lower() not in known]
        wrong += bool(numbers or strange)
    return answers, worded, wrong


async def run(count: int, seed: int, misses: int) -> tuple[list[Bar], list[Reported]]:
    models = {"bundled": ModelSpec("bundled", "bundled"), ENCODER: ModelSpec(ENCODER, "bundled", "encoder")}
    with tempfile.TemporaryDirectory() as folder:
        state, meters = Path(folder), Meters()
        async with Host([_PLUGINS], state, lambda event: None, meters) as host:
            shown = {name: await host.specs(tools) for name, tools in _AGENTS.items()}
        agents = load(_CONFIG).agent_specs()
        shipped, unseen = shipped_samples(shown, count, seed), unseen_samples(count // 2, seed + 1)
        async with Pool(models, Budget(1 << 30), state, meters) as pool:
            own, strange = await ask_cascade(pool, shipped, agents), await ask_cascade(pool, unseen, {})
            by_model, invalid = await alone(pool, shipped[: count // 4])
            answers, worded, wrong = await invented(pool, [s for s in shipped if s.wanted][: count // 4])
    for line in (own.misses + strange.misses)[:misses]:
        print(line)
    bars = [*_bars("shipped", own, 0.95, 0.02), *_bars("unseen", strange, 0.85, 0.05)]
    right = own.counts["exact"] + strange.counts["exact"]
    by_intent = own.counts["exact by intent"] + strange.counts["exact by intent"]
    bars += [
        Bar("right calls made by the intent tier", by_intent / max(1, right), ">=", 0.80),
        Bar("syntactically invalid calls of the language model", invalid, "==", 0),
        Bar("answers with invented numbers or names", wrong, "==", 0),
    ]
    reported = [*_reported("shipped", own), *_reported("unseen", strange)]
    reported += [
        Reported("language model alone, shipped tools: exact call", by_model),
        Reported("answers worded", answers),
        Reported("answers in the model's own words", worded),
    ]
    return bars, reported


def _bars(name: str, score: Score, exact: float, wrong: float) -> list[Bar]:
    return [
        Bar(f"{name} tools: exact call", score.share("exact", "calls"), ">=", exact),
        Bar(f"{name} tools: wrong calls made, of all requests", score.share("wrong", "all"), "<=", wrong),
        Bar(f"{name} tools: no-tool recall", score.none_recall, ">=", 0.92),
        Bar(f"{name} tools: no-tool precision", score.share("claimed none rightly", "claimed none"), ">=", 0.92),
    ]


def _reported(name: str, score: Score) -> list[Reported]:
    return [
        Reported(f"{name}: held-out sentences", score.counts["all"]),
        Reported(f"{name}: right tool", score.share("right tool", "calls")),
        Reported(f"{name}: near misses, recall", score.share("near miss seen", "near miss")),
        Reported(f"{name}: beyond the device, recall", score.share("beyond seen", "beyond")),
        Reported(f"{name}: asked back, of all requests", score.share("asked back", "all")),
        Reported(f"{name}: asked what was meant, of all requests", score.share("unsure", "all")),
        *(
            Reported(f"{name}: {how} by {tier}", score.counts[f"{how} by {tier}"])
            for how in ("exact", "wrong")
            for tier in ("reflex", "intent", "model")
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--count", type=int, default=1200)
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--misses", type=int, default=0, help="show this many misses")
    options = parser.parse_args()
    bars, reported = asyncio.run(run(options.count, options.seed, options.misses))
    show("accuracy", bars, reported, as_json=options.json)


if __name__ == "__main__":
    main()
