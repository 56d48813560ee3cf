"""Prefixes on disk: what comes back, what is refused, how much is kept, and disks that do not take it."""

from __future__ import annotations

import asyncio
import os
import queue
import random
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from edged.ipc.process import Child
from edged.workers.snapshots import Snapshots

from .batching import Desk, loaded
from .tiny_gguf import write, write_adapter

MODULE = "edged.workers.gguf"
ROOT = Path(__file__).parents[2]
PREFIX = list(range(100))
STATE = bytes(range(256)) * 4


class Kept(Snapshots):
    """Tells when a write has ended, and counts what is read."""

    def __init__(self, directory: Path, limit: int = 1 << 30, basis: str = "model") -> None:
        super().__init__(directory, limit, basis)
        self._written = threading.Semaphore(0)
        self.loads = 0
        self.most = 0  # bytes in the directory after a write

    def _write(self, path: Path, tokens: bytes, state: bytes) -> None:
        try:
            super()._write(path, tokens, state)
            self.most = max(self.most, sum(file.stat().st_size for file in path.parent.iterdir()))
        finally:
            self._written.release()

    def load(self, tokens: Sequence[int], lane: str | None) -> bytes | None:
        self.loads += 1
        return super().load(tokens, lane)

    def saved(self, tokens: Sequence[int], lane: str | None = None, state: bytes = STATE) -> None:
        self.save(tokens, lane, state)
        self.settle()

    def settle(self) -> None:
        assert self._written.acquire(timeout=10)


def files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def test_what_was_saved_comes_back_to_whoever_asks_for_the_same(tmp_path: Path) -> None:
    Kept(tmp_path / "new").saved(PREFIX)
    later = Kept(tmp_path / "new")
    assert later.has(PREFIX, None)
    assert later.load(PREFIX, None) == STATE
    for tokens, lane in (
        (PREFIX, "x"),
        (PREFIX[:-1], None),
        ([*PREFIX, 1], None),
        ([*PREFIX[:-1], 7], None),
        ([], None),
    ):
        assert not later.has(tokens, lane)
        assert later.load(tokens, lane) is None
    assert not Kept(tmp_path / "new", basis="another model").has(PREFIX, None)


def test_lanes_are_apart(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.saved(PREFIX, "x", b"x")
    kept.saved(PREFIX, None, b"none")
    assert (kept.load(PREFIX, "x"), kept.load(PREFIX, None)) == (b"x", b"none")


def damages(whole: bytes) -> list[bytes]:
    rng = random.Random(3)
    cuts = [whole[:n] for n in (0, 1, 7, 8, 40, 47, 48, 49, 447, 448, len(whole) - 1)]
    flips = []
    for _ in range(150):
        at = rng.randrange(len(whole))
        flips.append(whole[:at] + bytes([whole[at] ^ 1 << rng.randrange(8)]) + whole[at + 1 :])
    return [*cuts, *flips, whole + b"\0", bytes(len(whole)), b"GGUF" + whole[4:], rng.randbytes(len(whole))]


def test_every_damage_is_seen_and_the_file_is_gone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    kept = Kept(tmp_path)
    kept.saved(PREFIX)
    (file,) = files(tmp_path)
    whole = file.read_bytes()
    for damaged in damages(whole):
        file.write_bytes(damaged)
        assert kept.load(PREFIX, None) is None
        assert not file.exists()
        assert file.name in capfd.readouterr().err
    file.write_bytes(whole)
    assert kept.load(PREFIX, None) == STATE


def test_a_file_of_other_tokens_under_this_name_is_refused(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.saved(PREFIX)
    (file,) = files(tmp_path)
    whole = file.read_bytes()
    kept.saved(PREFIX[::-1])
    (other,) = set(files(tmp_path)) - {file}
    other.write_bytes(whole)
    assert kept.load(PREFIX[::-1], None) is None
    assert kept.load(PREFIX, None) == STATE


@pytest.mark.parametrize("size", [1000, 1900, 4400, 4999, 5000])
def test_the_bound_holds_in_bytes(tmp_path: Path, size: int) -> None:
    # Once: the header and the tokens of the file to come are not counted.
    kept = Kept(tmp_path, 5000)
    for i in range(12):
        kept.save([i, *PREFIX], None, bytes(size))
    kept.save([99], None, b"the last")
    while not kept.has([99], None):
        kept.settle()
    assert 0 < kept.most <= 5000


def test_the_one_that_was_not_used_for_longest_goes(tmp_path: Path) -> None:
    kept = Kept(tmp_path, 5000)
    names = [[i, 1, 2, 3] for i in range(4)]
    for i, tokens in enumerate(names):
        kept.saved(tokens, state=bytes(1000))
        for file in files(tmp_path):
            os.utime(file, ns=(0, file.stat().st_mtime_ns - 10**9))  # a second has gone by
        assert kept.has(names[0], None), i
    assert kept.load(names[0], None) is not None
    kept.saved([9, 9], state=bytes(1500))
    assert [kept.has(tokens, None) for tokens in names] == [True, False, True, True]


def test_what_is_larger_than_the_bound_is_not_written_and_pushes_nothing_out(tmp_path: Path) -> None:
    kept = Kept(tmp_path, 2000)
    kept.saved(PREFIX)
    kept.save([1, 2], None, bytes(2001))
    kept.saved([3, 4], None, bytes(10))
    assert kept.load(PREFIX, None) == STATE
    assert not kept.has([1, 2], None)


def test_what_was_left_half_written_is_cleared_away(tmp_path: Path) -> None:
    Kept(tmp_path).saved(PREFIX)
    (tmp_path / "half.kv.tmp").write_bytes(b"edged-kv")
    (tmp_path / "mine.txt").write_text("not theirs")
    Kept(tmp_path)
    assert [file.suffix for file in files(tmp_path)] == [".kv", ".txt"]


class Said:
    """A standard error that one can wait at."""

    def __init__(self) -> None:
        self._lines = queue.SimpleQueue[str]()

    def write(self, text: str) -> None:
        self._lines.put(text)

    def line(self) -> str:
        return self._lines.get(timeout=10)


@pytest.mark.parametrize("place", ["file", "file/below", "x" * 300])
def test_a_directory_that_cannot_be_costs_nothing_but_time(
    tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Once: `has` raises OSError for a name that is too long (as for a directory that may not be read): the worker dies
    # of it.
    (tmp_path / "file").write_text("in the way")
    kept, said = Kept(tmp_path / place), Said()
    monkeypatch.setattr(sys, "stderr", said)
    assert not kept.has(PREFIX, None)
    assert kept.load(PREFIX, None) is None
    for _ in range(2):  # the writer is still there
        kept.save(PREFIX, None, STATE)
        assert "cannot save" in said.line()
    assert not kept.has(PREFIX, None)
    assert (tmp_path / "file").read_text() == "in the way"


FULL = """
import sys
from pathlib import Path
from tests.workers.test_snapshots import Kept, files
kept = Kept(Path(sys.argv[1]))
for i in range(3):
    kept.saved([i], state=bytes(400_000))
print([kept.load([i], None) == bytes(400_000) for i in range(3)], [file.suffix for file in files(Path(sys.argv[1]))])
"""


def test_a_full_disk(tmp_path: Path) -> None:
    # Once: what could be written of the one that did not fit stays on the full disk, until the next start.
    unshare = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    mount = f"mount -t tmpfs -o size=1m none {shlex.quote(str(tmp_path))}"
    if (
        shutil.which("unshare") is None
        or subprocess.run([*unshare, mount], capture_output=True, check=False).returncode
    ):
        pytest.skip("user namespaces are off: no tmpfs to fill")
    command = f"{mount} && {shlex.join([sys.executable, '-c', FULL, str(tmp_path)])}"
    done = subprocess.run([*unshare, command], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "No space left" in done.stderr
    assert done.stdout == "[True, True, False] ['.kv', '.kv']\n"


# in the worker


def agent_prompt(text: bytes) -> list[int]:
    return [*PREFIX, *text]


@pytest.mark.parametrize("kind", ["llama", "mamba"])
def test_a_restart_restores_the_agents_prefix(tmp_path: Path, kind: str) -> None:
    kept = Kept(tmp_path)
    first = Desk(loaded(kind), kept).alone(agent_prompt(b"hi"), agent="a", fixed=100)
    kept.settle()
    assert first.result["cached_tokens"] == 0
    desk = Desk(loaded(kind), Kept(tmp_path))
    again = desk.alone(agent_prompt(b"hi"), agent="a", fixed=100)
    other = desk.alone(agent_prompt(b"you"), agent="a", fixed=100)
    assert again.result["cached_tokens"] == other.result["cached_tokens"] == 100
    assert again.made == first.made
    assert desk.leaks() == []


def test_short_prefixes_and_those_of_nobody_are_not_saved(tmp_path: Path) -> None:
    desk = Desk(snapshots=Kept(tmp_path))
    desk.alone(PREFIX[:60], agent="a", fixed=50)
    desk.alone(PREFIX)
    assert files(tmp_path) == []


def test_a_prefix_is_saved_once_and_only_when_nobody_waits(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    desk = Desk(snapshots=kept)
    for text in (b"one", b"two"):
        desk.ask(agent_prompt(text), agent="a", fixed=100)
    desk.until(lambda: not desk.batcher.busy)
    assert files(tmp_path) == []
    desk.batcher.idle()
    kept.settle()
    (file,) = files(tmp_path)
    at = file.stat().st_mtime_ns
    desk.alone(agent_prompt(b"three"), agent="a", fixed=100)
    assert kept._writing.empty()
    assert file.stat().st_mtime_ns == at


def test_a_prefix_that_was_evicted_before_anybody_rested_is_not_saved(tmp_path: Path) -> None:
    """Its number may be another sequence's by then."""
    kept = Kept(tmp_path)
    desk = Desk(snapshots=kept, cells=256, context_length=256, sequences=12)
    desk.ask(agent_prompt(b"hi"), 2, agent="a", fixed=100)
    desk.until(lambda: not desk.batcher.busy)
    for number in range(9):
        desk.ask([number] * 200, 20, rank=number % 3)
    desk.run()
    desk.batcher.idle()
    kept.saved([1], state=b"the last")
    assert len(files(tmp_path)) == 1


def test_a_snapshot_is_read_once_however_long_one_waits(tmp_path: Path) -> None:
    # Once: while a request waits for a slot, and what is read is evicted again, its snapshot is read anew at every
    # step.
    kept = Kept(tmp_path)
    Desk(snapshots=kept).alone(agent_prompt(b"hi"), agent="a", fixed=100)
    kept.settle()
    desk = Desk(snapshots=kept, slots=1, cells=256, context_length=256)
    desk.ask(b"q" * 40, 200, rank=0)
    desk.step()
    waits = desk.ask(agent_prompt(b"hi"), agent="a", fixed=100)
    desk.run()
    assert len(waits.made) == 8
    assert kept.loads <= 3


def test_a_snapshot_that_llama_cpp_refuses_is_given_up(tmp_path: Path) -> None:
    # Once: it is read again at every step while somebody waits, and stays on disk for the next one.
    kept = Kept(tmp_path)
    kept.saved(PREFIX, state=b"nothing that llama.cpp wrote")
    desk = Desk(snapshots=kept, slots=1)
    desk.ask(b"busy", 30, rank=0)
    waits = desk.ask(agent_prompt(b"hi"), agent="a", fixed=100)
    desk.until(lambda: not desk.batcher.busy)
    assert waits.result["cached_tokens"] == 0
    assert desk.leaks() == []
    assert waits.made == Desk().alone(agent_prompt(b"hi")).made
    assert kept.loads == 1
    assert not kept.has(PREFIX, None)


# the whole worker process

LONG = "You switch lamps on and off, and you say what you did. " * 3


def load(folder: Path, **more: Any) -> dict[str, Any]:
    base = {"path": str(folder / "tiny.gguf"), "context_length": 512, "batch_size": 64, "threads": 1, "mode": "default"}
    snapshots = {"directory": str(folder / "prefixes"), "bytes": 1 << 26}
    return {**base, "digest": "abc", "snapshots": snapshots, **more}


def ask(**more: Any) -> dict[str, Any]:
    messages = [{"role": "system", "content": LONG}, {"role": "user", "content": "the lamp"}]
    base = {"messages": messages, "tools": [], "grammar": None, "max_tokens": 12, "deadline_monotonic": None}
    return {**base, "agent": "a", "fixed": 1, **more}


async def answers(folder: Path, *asks: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    """Of a worker of its own, which is left when its snapshots are written."""
    async with Child(MODULE) as child:
        await child.call("load", load(folder, **more))
        found = [await child.call("generate", one) for one in asks]
        async with asyncio.timeout(10):
            while not list((folder / "prefixes").glob("*.kv")):  # noqa: ASYNC110 - another process's file
                await asyncio.sleep(0.002)
    return found


async def test_a_worker_goes_on_where_another_left_off(tmp_path: Path) -> None:
    write(tmp_path / "tiny.gguf")
    prefixes = tmp_path / "prefixes"
    (first,) = await answers(tmp_path, ask())
    (again,) = await answers(tmp_path, ask())
    assert first["cached_tokens"] == 0
    assert again["cached_tokens"] >= len(LONG) // 2
    assert again["text"] == first["text"]
    (file,) = prefixes.glob("*.kv")
    data = bytearray(file.read_bytes())
    data[-100] ^= 4
    file.write_bytes(data)
    (damaged,) = await answers(tmp_path, ask())
    assert (damaged["cached_tokens"], damaged["text"]) == (0, first["text"])
    (foreign,) = await answers(tmp_path, ask(), digest="another file")
    assert (foreign["cached_tokens"], foreign["text"]) == (0, first["text"])


async def test_an_adapter_that_was_replaced_has_no_snapshots(tmp_path: Path) -> None:
    # Once: snapshots are keyed by the adapter's path, not by what is in it.
    write(tmp_path / "tiny.gguf")
    adapters = {"x": str(write_adapter(tmp_path / "x.gguf", 1))}
    (first,) = await answers(tmp_path, ask(adapter="x"), adapters=adapters)
    (again,) = await answers(tmp_path, ask(adapter="x"), adapters=adapters)
    write_adapter(tmp_path / "x.gguf", 2)
    (replaced,) = await answers(tmp_path, ask(adapter="x"), adapters=adapters)
    assert again["cached_tokens"] > 0
    assert again["text"] == first["text"]
    assert replaced["cached_tokens"] == 0


async def test_a_directory_that_cannot_be_loses_no_request(tmp_path: Path) -> None:
    write(tmp_path / "tiny.gguf")
    (tmp_path / "prefixes").write_text("a file in the way")
    async with Child(MODULE) as child:
        await child.call("load", load(tmp_path))
        texts = {(await child.call("generate", ask()))["text"] for _ in range(2)}
    assert len(texts) == 1
