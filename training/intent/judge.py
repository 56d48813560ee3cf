"""How well the exported models understand development tools: `python -m training.intent.judge [--shipped]`.

`training/dev/` holds tools and sentences that no training run reads. On them `calibrate` sets the weights of
`edged/agent/intent.py`; the benchmark's held-out sets are never looked at for that.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.cascade import same
from bench.heldout_samples import Sample, shipped_samples, unseen_samples
from edged.agent import intent
from edged.agent.cards import card
from edged.agent.reader import taught
from edged.domain.meters import Meters
from edged.domain.resources import ToolSpec
from edged.tools.host import Host
from edged.workers.onnx import Backend

_AGENTS = {"kiosk": ["kiosk.*"], "home": ["home.*", "clock.*"], "desk": ["clock.*", "units.*"]}
_PLUGINS = Path(__file__).parents[2] / "plugins"
DEV = Path(__file__).parents[1] / "dev"


@dataclass(slots=True)
class _Call:
    params: dict[str, Any]


@dataclass(slots=True)
class Seen:
    """A sample and what the worker told of it."""

    sample: Sample
    tools: list[dict[str, Any]]
    cut: bool


def worker(models: Path) -> Backend:
    """The encoders' worker, in this process."""
    backend = Backend()
    backend.load(_Call({"path": str(models), "threads": 1}))  # type: ignore[arg-type]
    return backend


def see(backend: Backend, sample: Sample, most: int = 6) -> Seen:
    cards = [card(spec) for spec in sample.specs]
    tools = [taught(c, spec) for c, spec in zip(cards, sample.specs, strict=True)]
    key = repr(tools)
    asked = _Call({"key": key, "text": sample.sentence, "most": most})
    found = backend.understand(asked)  # type: ignore[arg-type]
    if not found["known"]:
        backend.teach(_Call({"key": key, "tools": tools}))  # type: ignore[arg-type]
        found = backend.understand(asked)  # type: ignore[arg-type]
    return Seen(sample, found["tools"], found["cut"])


def judge(seen: list[Seen], show: int = 0, weights: intent.Weights = intent.WEIGHTS) -> dict[str, float]:
    """Shares: of the calls that were wanted, exact; of all requests, wrong calls; recall and precision of "no tool"."""
    c: Counter[str] = Counter()
    for s in seen:
        cards = [card(spec) for spec in s.sample.specs]
        decided = intent.decide(s.tools, cards, s.sample.specs, cut=s.cut, weights=weights)
        kind, wanted = type(decided).__name__, s.sample.wanted
        c["all"] += 1
        c["wanted"] += wanted is not None
        c[f"{'call' if wanted else 'none'} {kind}"] += 1
        ok = (
            isinstance(decided, intent.Act)
            and wanted is not None
            and same((decided.call.name, decided.call.arguments), wanted)
        )
        c["exact"] += ok
        wrong = isinstance(decided, intent.Act) and not ok
        c["wrong"] += wrong
        if wanted:
            names = [s.sample.specs[t["index"]].name for t in s.tools]
            c["shortlisted"] += wanted[0] in names
            c["tool"] += names[max(range(len(names)), key=lambda i: s.tools[i]["act"])] == wanted[0]
        if (wrong or (wanted and not ok)) and c["shown"] < show:
            c["shown"] += 1
            print(f"  {s.sample.sentence!r}: wanted {wanted}\n      {decided}")
    claimed = c["call NoTool"] + c["none NoTool"]
    return {
        "exact": c["exact"] / max(1, c["wanted"]),
        "tool": c["tool"] / max(1, c["wanted"]),
        "shortlisted": c["shortlisted"] / max(1, c["wanted"]),
        "wrong": c["wrong"] / max(1, c["all"]),
        "ask back, wrongly": c["call AskBack"] / max(1, c["wanted"]),
        "passed on": c["call PassOn"] / max(1, c["wanted"]),
        "none recall": c["none NoTool"] / max(1, c["all"] - c["wanted"]),
        "none precision": c["none NoTool"] / max(1, claimed),
        "none acted": c["none Act"] / max(1, c["all"] - c["wanted"]),
    }


async def shipped_specs() -> dict[str, list[ToolSpec]]:
    """The tools of the shipped agents, as their plugins tell them."""
    with tempfile.TemporaryDirectory() as folder:
        async with Host([_PLUGINS], Path(folder), lambda event: None, Meters()) as host:
            return {name: await host.specs(tools) for name, tools in _AGENTS.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, default=Path("edged/models/intent"))
    parser.add_argument("--count", type=int, default=800)
    parser.add_argument("--show", type=int, default=0)
    parser.add_argument("--others", type=int, nargs=2, default=(3, 5))
    parser.add_argument("--file", type=Path, default=DEV / "unseen.txt")
    parser.add_argument("--shipped", action="store_true", help="the shipped tools instead of unseen ones")
    options = parser.parse_args()
    backend = worker(options.models)
    if options.shipped:
        samples = shipped_samples(asyncio.run(shipped_specs()), options.count, 77, DEV / "shipped.txt")
    else:
        samples = unseen_samples(options.count, 77, tuple(options.others), options.file)
    seen = [see(backend, sample) for sample in samples]
    for name, share in judge(seen, options.show).items():
        print(f"{name:20} {share:.3f}")


if __name__ == "__main__":
    main()
