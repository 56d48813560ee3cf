"""Finding the ten nearest of many vectors, in SQLite and beside it: `python -m bench.vectors [--json]`.

Vectors are 384 float32 of unit length, in clusters, as those of sentences are; queries are near to some of them. Each way runs in a
child of its own, with one thread where nothing else is said, and they take turns. sqlite-vec is no dependency: without it
(`pip install sqlite-vec`) its two ways are left out.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from bench.report import Reported, show
from bench.vector_ways import WAYS, WIDTH, Way
from edged.ipc.frames import FrameDecoder, encode
from edged.ipc.memory import resident_bytes
from edged.store.database import Database
from edged.store.vectors import Entry, Vectors

__all__ = ["main"]

_SIZES = {1_000: 20, 10_000: 10, 100_000: 4}  # and how many searches a round
_REFERENCE = "numpy float32 in memory"
_K = 10


@dataclass(slots=True)
class Figures:
    """What one way showed at one size."""

    fills: list[float] = field(default_factory=list)
    file_bytes: int = 0
    open_seconds: float = 0.0
    resident: int = 0
    seconds: list[float] = field(default_factory=list)
    hits: int = 0
    wanted: int = 0


def sentences(count: int, queries: int, seed: int = 7) -> tuple[Any, Any]:
    """Unit vectors (count, WIDTH) and (queries, WIDTH). Components decay, as those of trained encoders do."""
    import numpy as np

    rng = np.random.default_rng(seed)
    spectrum = (np.arange(1, WIDTH + 1, dtype=np.float32) ** -0.4) / 4
    turn = np.linalg.qr(rng.standard_normal((WIDTH, WIDTH)))[0].astype(np.float32)
    centres = rng.standard_normal((max(8, count // 25), WIDTH), np.float32)
    found = centres[rng.integers(0, len(centres), count)] + 0.8 * rng.standard_normal((count, WIDTH), np.float32)
    asked = found[rng.integers(0, count, queries)] + 0.5 * rng.standard_normal((queries, WIDTH), np.float32)
    rows, wanted = ((part * spectrum) @ turn for part in (found, asked))
    return rows / np.linalg.norm(rows, axis=1)[:, None], wanted / np.linalg.norm(wanted, axis=1)[:, None]


def child(pipe: Connection, name: str, file: Path) -> None:
    """Open the file in the named way, say what that took, then search whenever asked."""
    before = resident_bytes()
    way, began = WAYS[name](), time.perf_counter()
    way.open(file)
    opened = time.perf_counter() - began
    pipe.send((opened, before))
    while queries := pipe.recv():
        answers = []
        for query in queries:
            began = time.perf_counter()
            ids = way.find(query, _K)
            answers.append((time.perf_counter() - began, ids))
        pipe.send((answers, resident_bytes() - before))


@contextmanager
def running(name: str, file: Path, figures: Figures) -> Iterator[Connection]:
    os.environ["OPENBLAS_NUM_THREADS"] = str(WAYS[name].threads)
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=child, args=(theirs, name, file))
    process.start()
    try:
        figures.open_seconds, _ = ours.recv()
        yield ours
        ours.send(None)
    finally:
        process.join(10)
        process.kill()


def fill(names: list[str], vectors: Any, folder: Path, rounds: int, figures: dict[str, Figures]) -> dict[str, Path]:
    """Write the files, several times in turns; those with equal tables share theirs."""
    tables: dict[str, type[Way]] = {WAYS[name].table: WAYS[name] for name in names}
    rows = {table: list(enumerate(way.packed(vectors))) for table, way in tables.items()}
    files: dict[str, Path] = {}
    for turn in range(rounds):
        for number, (table, way) in enumerate(tables.items()):
            files[table] = folder / f"{number}-{turn}.db"
            began = time.perf_counter()
            way().fill(files[table], iter(rows[table]))
            taken = time.perf_counter() - began
            for name in names:
                if WAYS[name].table == table:
                    figures[name].fills.append(taken / len(vectors))
                    figures[name].file_bytes = files[table].stat().st_size
    return {name: files[WAYS[name].table] for name in names}


def measure(names: list[str], size: int, rounds: int) -> dict[str, Figures]:
    """All ways over `size` vectors."""
    import numpy as np

    per_round = _SIZES[size]
    vectors, queries = sentences(size, rounds * per_round)
    exact = [set(np.argsort(-(vectors @ query))[:_K].tolist()) for query in queries]
    figures = {name: Figures() for name in names}
    with tempfile.TemporaryDirectory(prefix="edged-vectors-") as folder:
        files = fill(names, vectors, Path(folder), rounds if size <= 10_000 else 1, figures)
        pipes, stack = {}, []
        for name in names:
            stack.append(running(name, files[name], figures[name]))
            pipes[name] = stack[-1].__enter__()
        for turn in range(rounds + 1):  # the first warms caches and is not counted
            at = max(0, turn - 1) * per_round
            for name in names:
                pipes[name].send(WAYS[name].asked(queries[at : at + per_round]))
                answers, figures[name].resident = pipes[name].recv()
                for (seconds, ids), right in zip(answers, exact[at:], strict=False):
                    if turn:
                        figures[name].seconds.append(seconds)
                        figures[name].hits += len(right & set(ids))
                        figures[name].wanted += _K
        for context in stack:
            context.__exit__(None, None, None)
    return figures


def rows_of(size: int, figures: dict[str, Figures]) -> list[Reported]:
    base = statistics.median(figures[_REFERENCE].seconds)
    plain = statistics.median(figures[_REFERENCE].fills)
    found: list[Reported] = []
    for name, f in figures.items():
        middle = statistics.median(f.seconds)
        of = f"{size:,}: {name}: "
        found += [
            Reported(of + "search, ms", middle * 1e3),
            Reported(of + "search, of numpy float32's time", middle / base),
            Reported(of + "recall at 10", f.hits / f.wanted),
            Reported(of + "opening, ms", f.open_seconds * 1e3),
            Reported(of + "memory it adds, MB", f.resident / 1e6),
            Reported(of + "file, MB", f.file_bytes / 1e6),
            Reported(of + "writing, microseconds a vector", statistics.median(f.fills) * 1e6),
            Reported(of + "writing, of plain BLOBs' time", statistics.median(f.fills) / plain),
        ]
    return found


async def whole(size: int, rounds: int, file: Path) -> list[Reported]:
    """edged's own store and search over the same vectors, through frames, in one process: all but the way to the child."""
    from edged.workers.nearest import Nearest

    near, decoder = Nearest(), FrameDecoder()

    async def ask(verb: str, params: dict[str, Any]) -> Any:
        [got] = decoder.feed(encode(params))
        answer = near.search(**got) if verb == "search" else near.hold(**got)
        return decoder.feed(encode(answer))[0]

    rows, queries = sentences(size, rounds * _SIZES[size] + 1)
    text = "a passage of some length. " * 12
    entries = [Entry(str(at), vector, text) for at, vector in enumerate(Way.packed(rows))]
    async with Database.open(file) as db:
        vectors, marks = Vectors(db, limit_rows=size), [time.perf_counter()]
        for at in range(0, size, 500):
            await vectors.add("docs", "bench", entries[at : at + 500])
        marks.append(time.perf_counter())
        for query in Way.packed(queries):
            await vectors.search("docs", "bench", query, _K, ask)
            marks.append(time.perf_counter())
    seconds = [after - before for before, after in pairwise(marks)]
    of = f"{size:,}: edged, store and frames: "
    return [
        Reported(of + "adding, microseconds a vector", seconds[0] / size * 1e6),
        Reported(of + "first search, which sends all rows, ms", seconds[1] * 1e3),
        Reported(of + "search, ms", statistics.median(seconds[2:]) * 1e3),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", type=int, nargs="*", default=list(_SIZES), choices=list(_SIZES))
    options = parser.parse_args()
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # for `whole`, before numpy is loaded
    has_vec = importlib.util.find_spec("sqlite_vec") is not None
    names = [name for name in WAYS if has_vec or not name.startswith("sqlite-vec")]
    reported = [Reported("sqlite-vec is installed", has_vec), Reported("rounds (medians are shown)", options.rounds)]
    for size in options.sizes:
        reported += rows_of(size, measure(names, size, options.rounds))
        with tempfile.TemporaryDirectory(prefix="edged-vectors-") as folder:
            reported += asyncio.run(whole(size, options.rounds, Path(folder) / "edged.db"))
    show("vectors", [], reported, as_json=options.json)


if __name__ == "__main__":
    main()
