"""How well the bundled language model chooses, alone, on held-out sentences: `python -m bench.accuracy [--json]`.

It runs the real parts: the plugins' own specifications, grounding and grammar, the pool and its worker. No reflex and no other
tier helps. Answers are worded by the model for tools whose template is taken away.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.heldout_samples import Sample, shipped_samples, unseen_samples
from bench.report import Bar, Reported, show
from edged.agent import turn
from edged.agent.dialect import DIALECTS
from edged.domain.messages import ToolResult
from edged.domain.meters import Meters
from edged.domain.ports import Generation
from edged.domain.resources import Agent, Budget, ModelSpec, ToolSpec
from edged.engine.pool import Pool
from edged.tools.host import Host

__all__ = ["main"]

_AGENTS = {"kiosk": ["kiosk.*"], "home": ["home.*", "clock.*"], "desk": ["clock.*", "units.*"]}
_AGENT = Agent("bench", "bundled")
_PLUGINS = Path(__file__).parents[1] / "plugins"


class Score:
    """Counts over one set."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.misses: list[str] = []

    def add(self, sample: Sample, said: tuple[str, dict[str, Any]] | None, valid: bool) -> None:
        c = self.counts
        c["all"] += 1
        c["invalid"] += not valid
        if said is None:
            c["claimed none"] += 1
            c["claimed none rightly"] += sample.wanted is None
        if sample.wanted is None:
            c["none"] += 1
            c[sample.kind] += 1
            c[f"{sample.kind} seen"] += said is None
        else:
            c["calls"] += 1
            c["tool"] += said is not None and said[0] == sample.wanted[0]
            c["exact"] += said is not None and _same(said, sample.wanted)
        if said != sample.wanted and not (said and sample.wanted and _same(said, sample.wanted)):
            self.misses.append(f"{sample.sentence!r}: wanted {sample.wanted}, said {said}")

    def share(self, part: str, whole: str) -> float:
        return self.counts[part] / max(1, self.counts[whole])


def _same(said: tuple[str, dict[str, Any]], wanted: tuple[str, dict[str, Any]]) -> bool:
    """Letter case is the sentence's, not the tool's: "Grow lamp" at the start of a sentence is the grow lamp."""

    def fold(arguments: dict[str, Any]) -> dict[str, Any]:
        return {k: v.lower() if isinstance(v, str) else v for k, v in arguments.items()}

    return said[0] == wanted[0] and fold(said[1]) == fold(wanted[1])


async def ask(pool: Pool, sample: Sample) -> tuple[turn.Transcript, turn.Step]:
    """The model's choice as the next step of the turn."""
    transcript = turn.Transcript(_AGENT, sample.sentence, sample.specs, DIALECTS["edged"])
    transcript, step = turn.begin(transcript)
    return await _generate(pool, transcript, step)


async def _generate(pool: Pool, transcript: turn.Transcript, step: turn.Step) -> tuple[turn.Transcript, turn.Step]:
    assert isinstance(step, turn.Generate)
    made = Generation("bundled", step.messages, step.tools, step.grammar, step.max_tokens)
    return turn.on_generated(transcript, await pool.generate(made))


async def score(pool: Pool, samples: list[Sample]) -> Score:
    total = Score()
    for sample in samples:
        _, step = await ask(pool, sample)
        if isinstance(step, turn.CallTools):
            [call] = step.calls
            said: tuple[str, dict[str, Any]] | None = (call.name, call.arguments)
        else:
            said = None
        malformed = isinstance(step, turn.Escalate) and step.reason == "malformed"
        total.add(sample, said, not malformed and (said is None or _valid(sample.specs, *said)))
    return total


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
    with tempfile.TemporaryDirectory() as folder:
        state, meters = Path(folder), Meters()
        async with Host([_PLUGINS], state, lambda event: None, meters) as host:
            agents = {name: await host.specs(tools) for name, tools in _AGENTS.items()}
        async with Pool({"bundled": ModelSpec("bundled", "bundled")}, Budget(1 << 30), state, meters) as pool:
            shipped = shipped_samples(agents, count, seed)
            own = await score(pool, shipped)
            unseen = await score(pool, unseen_samples(count // 2, seed + 1))
            answers, worded, wrong = await invented(pool, [s for s in shipped if s.wanted][: count // 4])
    for line in (own.misses + unseen.misses)[:misses]:
        print(line)
    bars = [
        Bar("shipped tools: exact call", own.share("exact", "calls"), ">=", 0.70),
        Bar(
            "no tool fits: recall",
            (own.counts["near miss seen"] + own.counts["beyond seen"]) / own.counts["none"],
            ">=",
            0.75,
        ),
        Bar("no tool fits: precision", own.share("claimed none rightly", "claimed none"), ">=", 0.75),
        Bar("syntactically invalid calls", own.counts["invalid"] + unseen.counts["invalid"], "==", 0),
        Bar("answers with invented numbers or names", wrong, "==", 0),
    ]
    reported = [
        Reported("held-out sentences", own.counts["all"]),
        Reported("shipped tools: right tool", own.share("tool", "calls")),
        Reported("near misses: recall", own.share("near miss seen", "near miss")),
        Reported("beyond the device: recall", own.share("beyond seen", "beyond")),
        Reported("unseen tools: sentences", unseen.counts["all"]),
        Reported("unseen tools: exact call", unseen.share("exact", "calls")),
        Reported("unseen tools: right tool", unseen.share("tool", "calls")),
        Reported("unseen tools: no-tool recall", unseen.share("near miss seen", "none")),
        Reported("answers worded", answers),
        Reported("answers in the model's own words", worded),
    ]
    return bars, reported


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
