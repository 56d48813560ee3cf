"""The intent tier by itself: time, memory, size, and whether many tools confuse it: `python -m bench.intent [--json]`.

The worker is pinned to one core. Times are the caller's, in the daemon's process: cards, frames, the worker, and the decision.
Few-shot learning is in `bench.intent_fewshot`; how well the whole cascade understands is `bench.accuracy`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench import intent_fewshot
from bench.cascade import same
from bench.heldout_samples import Sample, taught, unseen_samples
from bench.report import Bar, Reported, show
from edged.agent.intent import Act
from edged.agent.reader import Reader
from edged.domain.meters import Meters
from edged.domain.resources import Budget, ModelSpec, ToolSpec
from edged.engine.encoders import resolve_encoder
from edged.engine.pool import Pool
from edged.ipc.memory import resident_bytes
from edged.tools.host import Host

__all__ = ["main"]

_ENCODER = "encoder"
_PLUGINS = Path(__file__).parents[1] / "plugins"
_MODELS = Path(__file__).parents[1] / "edged" / "models"
_SHORT = "turn on the light in the kitchen"
_LEGAL_MB = 64
_LESSONS = 5


class _Read:
    """What one run over samples gave: seconds each, and the share of exact calls."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.right = 0
        self.wanted = 0

    @property
    def p95(self) -> float:
        return statistics.quantiles(self.seconds, n=20)[-1] * 1e3

    @property
    def exact(self) -> float:
        return self.right / max(1, self.wanted)


async def read(reader: Reader, samples: Sequence[Sample]) -> _Read:
    found = _Read()
    for sample in samples:
        await reader.read("bench", sample.specs, "", None)  # the tools are taught before requests come
        began = time.perf_counter()
        decided = await reader.read("bench", sample.specs, sample.sentence, None)
        found.seconds.append(time.perf_counter() - began)
        if sample.wanted is not None:
            found.wanted += 1
            found.right += isinstance(decided, Act) and same((decided.call.name, decided.call.arguments), sample.wanted)
    return found


def crowd(samples: Sequence[Sample], others: Sequence[ToolSpec], size: int) -> list[Sample]:
    """The same sentences, with further tools registered until there are `size`."""
    return [replace(s, specs=(*s.specs, *others)[:size]) for s in samples]


async def encoding(pool: Pool, pid: int, rounds: int = 300) -> tuple[float, float]:
    """Milliseconds to encode a short sentence: through the pool, and in a bare onnxruntime session beside it, turn by turn."""
    from edged.workers.encoding import Encoder  # in this process: a session, its tokenizer, and nothing else

    bare = Encoder(resolve_encoder("bundled"), 1)
    ours, theirs = [], []
    for _ in range(rounds):
        began = time.perf_counter()
        await pool.infer(_ENCODER, "embed", {"texts": [_SHORT]})
        middle = time.perf_counter()
        bare.embed([_SHORT])
        theirs.append(time.perf_counter() - middle)
        ours.append(middle - began)
    return statistics.median(ours) * 1e3, statistics.median(theirs) * 1e3


async def run(count: int) -> tuple[list[Bar], list[Reported]]:
    with tempfile.TemporaryDirectory() as folder:
        state, meters = Path(folder), Meters()
        async with Host([_PLUGINS], state, lambda event: None, meters) as host:
            shipped = await host.specs(["kiosk.*", "home.*", "clock.*", "units.*"])
        async with Pool({_ENCODER: ModelSpec(_ENCODER, "bundled", "encoder")}, Budget(1 << 30), state, meters) as pool:
            await pool.warm(_ENCODER)
            pid = int(pool.status()[0]["pid"])
            os.sched_setaffinity(pid, {min(os.sched_getaffinity(0))})
            reader = Reader(pool.infer, _ENCODER)
            few = unseen_samples(count, 31, (4, 4))
            many = crowd(unseen_samples(count, 31, (29, 29)), shipped, 40)
            five, forty = await read(reader, few), await read(reader, many)
            alone = unseen_samples(count, 32, (7, 7), apart=_LESSONS)
            bare, told = await read(reader, alone), await read(reader, taught(alone, _LESSONS, 33))
            ours, theirs = await encoding(pool, pid)
            resident = resident_bytes(pid)
    bars = [
        Bar("5 tools: p95, ms", five.p95, "<=", 20),
        Bar("40 tools: p95, ms", forty.p95, "<=", 30),
        Bar("exact calls lost from 5 to 40 tools", five.exact - forty.exact, "<=", 0.02),
        Bar("encoding a short sentence, of a bare session's time", ours / theirs, "<=", 1.15),
        Bar("worker with bundled ONNX models, RSS in MB", resident / 1e6, "<=", 150),
        Bar("all bundled models, MB", _bundled_bytes() / 1e6, "<=", _LEGAL_MB),
    ]
    bars += intent_fewshot.run()
    reported: list[Any] = [
        Reported("5 tools: median, ms", statistics.median(five.seconds) * 1e3),
        Reported("40 tools: median, ms", statistics.median(forty.seconds) * 1e3),
        Reported("5 tools: exact calls by this tier alone", five.exact),
        Reported("40 tools: exact calls by this tier alone", forty.exact),
        Reported("8 tools, nothing taught: exact calls", bare.exact),
        Reported(f"8 tools, {_LESSONS} sentences taught each: exact calls", told.exact),
        Reported("encoding a short sentence, ms", ours),
    ]
    return bars, reported


def _bundled_bytes() -> int:
    return sum(file.stat().st_size for file in _MODELS.rglob("*") if file.is_file())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--count", type=int, default=400)
    options = parser.parse_args()
    intent_fewshot.require()
    bars, reported = asyncio.run(run(options.count))
    show("intent", bars, reported, as_json=options.json)


if __name__ == "__main__":
    main()
