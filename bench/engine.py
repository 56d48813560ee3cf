"""The engine beside its peers, in one run on one machine: `python -m bench.engine [--json] [--runs N] [--only PART]`.

The first time a model of Qwen2.5-0.5B's shape is made and llama.cpp's programs are built; both are kept in `.run/bench/engine`.
Then each part of `bench.engine_parts` is run N times. A bar is the median of the runs' ratios. A decode step reads all weights
once, so the memory's bandwidth over their bytes is as fast as one stream can be; it is printed first.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Literal

from bench.engine_model import VERSION, Model, Texts, model
from bench.engine_parts import PARTS, Setting
from bench.engine_peers import build
from bench.report import Bar, Reported, machine, show

__all__ = ["main"]

_FAILED = {">=": 0.0, "<=": 1e9}  # a bar whose part could not be run
_ARRAY = 1 << 30  # bytes

Runs = dict[str, list[float]]


@dataclass(frozen=True, slots=True)
class _Ratio:
    """A bar: one figure over another, or over the greatest of several, run by run."""

    part: str
    name: str
    above: str
    below: tuple[str, ...]
    op: Literal[">=", "<="]
    limit: float

    def bar(self, runs: Runs) -> Bar:
        if not all(runs.get(name) for name in (self.above, *self.below)):
            return Bar(self.name, _FAILED[self.op], self.op, self.limit)
        rivals = [max(values) for values in zip(*(runs[name] for name in self.below), strict=True)]
        ratios = [ours / theirs for ours, theirs in zip(runs[self.above], rivals, strict=True)]
        return Bar(self.name, statistics.median(ratios), self.op, self.limit)


_SERVERS = ("llama-server", "llama-server -kvu")
_BARS = (
    _Ratio("stream", "one stream, edged over llama-bench", "stream.edged", ("stream.llama-bench",), ">=", 0.92),
    _Ratio(
        "waves",
        "8 clients, first wave, edged over the better llama-server",
        "first.edged",
        tuple(f"first.{name}" for name in _SERVERS),
        ">=",
        2.0,
    ),
    _Ratio(
        "waves",
        "8 clients, later waves, edged over the better llama-server",
        "later.edged",
        tuple(f"later.{name}" for name in _SERVERS),
        ">=",
        1.25,
    ),
    _Ratio(
        "waves",
        "8 clients, first wave, edged over llama_cpp.server",
        "first.edged",
        ("first.llama_cpp.server",),
        ">=",
        2.5,
    ),
    _Ratio(
        "waves",
        "8 clients, later waves, edged over llama_cpp.server",
        "later.edged",
        ("later.llama_cpp.server",),
        ">=",
        2.5,
    ),
    _Ratio(
        "waves",
        "8 streams decoding, edged over llama-batched-bench",
        "decode.edged",
        ("decode.llama-batched-bench",),
        ">=",
        0.92,
    ),
    _Ratio(
        "restart",
        "first token after a restart, llama-server over edged's worker",
        "restart.llama-server",
        ("restart.worker",),
        ">=",
        4.0,
    ),
    _Ratio(
        "restart",
        "first token after a restart, llama-server over edged's daemon",
        "restart.llama-server",
        ("restart.edged",),
        ">=",
        3.0,
    ),
    _Ratio("gap", "worst gap of a stream, llama-server over edged", "gap.llama-server", ("gap.edged",), ">=", 8.0),
    _Ratio(
        "gap",
        "first token of the prompt that made it, edged over llama-server",
        "arriving.edged",
        ("arriving.llama-server",),
        "<=",
        1.4,
    ),
    _Ratio("schema", "decode under a JSON schema over free decode", "json.schema", ("json.free",), ">=", 0.95),
)
_LABELS = {
    "stream": "one stream, decode, tokens/s",
    "first": "8 clients, first wave, tokens/s",
    "later": "8 clients, later waves, tokens/s",
    "decode": "8 streams decoding, tokens/s",
    "prompt": "8 clients, tokens of each prompt",
    "cached": "8 clients, later waves, tokens of each from the cache",
    "short": "answers that ended early",
    "restart": "start to first token, seconds",
    "gap": "worst gap of a stream, seconds",
    "arriving": "long prompt's first token, seconds",
    "json": "decode in the worker, tokens/s",
}


class _Spread(list[float]):
    """Median, least and greatest: a list in JSON, one text in the table."""

    def __init__(self, values: list[float]) -> None:
        super().__init__([statistics.median(values), min(values), max(values)])

    def __format__(self, spec: str) -> str:
        middle, least, greatest = (format(value, ".3f" if self[2] < 10 else ".1f") for value in self)
        return format(f"{middle} ({least} to {greatest})", spec)


def memory_bandwidth(threads: int) -> float:
    """Bytes a second that `threads` threads read together, a part of one array of 1 GiB each; the best of five times."""
    import numpy as np

    parts = np.array_split(np.ones(_ARRAY // 8, dtype=np.float64), threads)

    def once(clients: ThreadPoolExecutor) -> float:
        began = time.perf_counter()
        list(clients.map(np.sum, parts))  # numpy lets the interpreter go while it sums
        return time.perf_counter() - began

    with ThreadPoolExecutor(threads) as clients:
        return _ARRAY / min(once(clients) for _ in range(5))


def _machine(made: Model, threads: int) -> list[Reported]:
    """The first lines of the table, and the same for machines."""
    bandwidth = memory_bandwidth(threads)
    facts = machine()
    bound = bandwidth / made.weights
    print(f"{facts['cores']} cores ({' '.join(facts['cpu'])}), {threads} threads each; llama-cpp-python {VERSION}")
    print(f"memory read by all cores: {bandwidth / 1e9:.1f} GB/s; a decode step reads {made.weights / 1e6:.0f} MB,")
    print(f"so one stream can have {bound:.1f} tokens/s at most\n", flush=True)
    return [
        Reported("threads of every contender", threads),
        Reported("memory read by all cores, GB/s", bandwidth / 1e9),
        Reported("weights that a decode step reads, MB", made.weights / 1e6),
        Reported("bound of one stream's decode, tokens/s", bound),
    ]


def _measure(setting: Setting, parts: list[str], count: int) -> Runs:
    """Every part `count` times. A part that fails is told and left; its whole runs before that count."""
    runs: Runs = defaultdict(list)
    for part in parts:
        try:
            once = PARTS[part](setting)
            for run in range(count):
                began = time.monotonic()
                for name, value in once(run).items():
                    runs[name].append(value)
                print(f"{part} {run + 1}/{count}, {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
        except Exception as error:  # the other parts' figures are worth having
            print(f"{part} failed: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
    return runs


def _rows(runs: Runs) -> list[Reported]:
    rows = []
    for name, values in runs.items():
        what, _, who = name.partition(".")
        if any(values):
            rows.append(Reported(f"{_LABELS[what]}: {who}", _Spread(values)))
    return rows


def _ended(number: int, frame: FrameType | None) -> None:
    """A polite end runs the context managers, which end the servers."""
    sys.exit(128 + number)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--only", choices=sorted(PARTS), action="append", help="this part; may be repeated")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, _ended)
    parts = options.only or list(PARTS)
    made, threads = model(), len(os.sched_getaffinity(0))
    build()
    with tempfile.TemporaryDirectory(prefix="edged-engine-") as folder:
        reported = _machine(made, threads)
        runs = _measure(Setting(made, Texts(made.path), threads, Path(folder)), parts, options.runs)
    bars = [ratio.bar(runs) for ratio in _BARS if ratio.part in parts]
    whole = max((len(values) for values in runs.values()), default=0)
    reported += [Reported("runs (medians of their ratios; least and greatest)", whole), *_rows(runs)]
    show("engine", bars, reported, as_json=options.json)


if __name__ == "__main__":
    main()
