"""Files that are not what they say: the catalog in this process, the loader in children, and a pool that goes on serving.

Whatever a file holds, the outcome is `ModelBroken` that names the file, or the child ends by a signal and the pool says so; nothing
hangs, and the daemon's own process never holds much of it.
"""

from __future__ import annotations

import asyncio
import math
import os
import random
import struct
import threading
import time
import tracemalloc
from array import array
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from engine.gguf_header import string, value
from engine.gguf_header import write as write_header

from edged.domain.errors import EdgedError, EngineCrashed, ModelBroken
from edged.domain.messages import Message
from edged.domain.meters import Meters
from edged.domain.ports import Completion, Generation
from edged.domain.resources import Budget, ModelSpec
from edged.engine.catalog import ModelFacts, describe, need
from edged.engine.pool import Pool
from edged.ipc.channel import ChannelClosed
from edged.ipc.process import Child

from .tiny_gguf import write

MODULE = "edged.workers.gguf"
SECONDS = 10.0  # more than any load of a tiny model may take on a busy machine


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write(tmp_path_factory.mktemp("model") / "tiny.gguf").read_bytes()


def tensors_at(whole: bytes) -> int:
    """Where the metadata ends."""
    return whole.index(b"token_embd.weight") - 8


def flipped(whole: bytes, rng: random.Random, end: int) -> bytes:
    at = rng.randrange(end)
    return whole[:at] + bytes([whole[at] ^ 1 << rng.randrange(8)]) + whole[at + 1 :]


# the catalog, in the daemon's process


def described(file: Path) -> ModelFacts | None:
    """The facts, which must be such that the ledger can add them up, or None when the file was refused in a clear way."""
    try:
        facts = describe(str(file))
    except ModelBroken as broken:
        assert file.name in broken.detail
        assert broken.fields["path"] == str(file)
        return None
    numbers = (
        facts.context_length,
        facts.n_vocab,
        facts.n_layer,
        facts.n_embd,
        facts.n_head_kv,
        facts.head_dim_k,
        facts.head_dim_v,
    )
    assert all(0 <= number < 1 << 31 for number in numbers), numbers
    assert need(facts, ModelSpec("m", str(file))).total >= facts.file_bytes
    return facts


def test_every_truncation_of_the_metadata_is_refused(tmp_path: Path, whole: bytes) -> None:
    file = tmp_path / "cut.gguf"
    for size in (*range(0, tensors_at(whole), 37), tensors_at(whole) - 1):
        file.write_bytes(whole[:size])
        assert described(file) is None


@pytest.mark.parametrize("seed", range(2))
def test_flipped_bits_are_refused_or_harmless(tmp_path: Path, whole: bytes, seed: int) -> None:
    file, rng = tmp_path / "flipped.gguf", random.Random(seed)
    outcomes = Counter[bool]()
    for _ in range(250):
        data = flipped(whole, rng, tensors_at(whole))
        for _ in range(rng.randrange(3)):
            data = flipped(data, rng, tensors_at(whole))
        file.write_bytes(data)
        outcomes[described(file) is None] += 1
    assert min(outcomes[True], outcomes[False]) > 25


def scalar(kind: int, form: str, number: float) -> bytes:
    return struct.pack(f"<I{form}", kind, number)


def many(kind: int, count: int, body: bytes = b"") -> bytes:
    return struct.pack("<IIQ", 9, kind, count) + body


LLAMA = ("general.architecture", value("llama"))
LIES: dict[str, tuple[str, bytes]] = {
    "a value's type that there is not": ("x", struct.pack("<I", 99)),
    "an array of a type that there is not": ("x", many(99, 1)),
    "text where a number should be": ("llama.block_count", value("many")),
    "text for the vocabulary": ("tokenizer.ggml.tokens", value("many")),
    "numbers for the vocabulary": ("tokenizer.ggml.tokens", many(4, 2, bytes(8))),
    "text for the quantization": ("general.file_type", value("Q4")),
    "text for the heads": ("llama.attention.head_count_kv", value("two")),
    "no number": ("llama.block_count", scalar(6, "f", math.nan)),
    "no number in a list": ("llama.attention.head_count_kv", many(6, 1, struct.pack("<f", math.nan))),
    "an endless number": ("llama.context_length", scalar(12, "d", math.inf)),
    "a negative number": ("llama.context_length", scalar(5, "i", -5)),
    "a negative number in a list": ("llama.attention.head_count_kv", many(5, 1, struct.pack("<i", -5))),
    "a number too large": ("llama.block_count", scalar(10, "Q", 1 << 63)),
    "all bits": ("llama.embedding_length", scalar(4, "I", (1 << 32) - 1)),
    "an array that looks negative": ("x", many(4, 1 << 63)),
    "an array beyond the end": ("x", many(0, 1 << 40)),
    "a vocabulary beyond the end": ("tokenizer.ggml.tokens", many(4, 1 << 40)),
    "an array as large as can be": ("x", many(0, (1 << 64) - 1)),
    "texts beyond the end": ("x", many(8, 1 << 60)),
    "a text that looks negative": ("x", many(8, 2, struct.pack("<Q", 1 << 63))),
    "a text as large as can be": ("x", struct.pack("<IQ", 8, (1 << 64) - 1)),
    "a text that is none": ("general.name", struct.pack("<IQ", 8, 2) + b"\xff\xfe"),
    "an array in an array": ("x", many(9, 1, struct.pack("<IQ", 4, 1) + bytes(4))),
    "arrays in arrays in arrays": ("x", struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 5000),
    "a list for the architecture": ("general.architecture", many(4, 2, bytes(8))),
    "a key as large as can be": ("", b""),
}


@pytest.mark.parametrize("lie", LIES)
def test_lies_in_the_metadata_are_refused(tmp_path: Path, lie: str) -> None:
    # Once: values of the wrong type, NaN, infinity and nested arrays come out as ValueError, TypeError, OverflowError
    # and RecursionError, which in the daemon are bugs that end it; negative numbers and counts beyond the end are
    # believed.
    key, content = LIES[lie]
    pairs = [LLAMA, (key, content)] if key else [LLAMA]
    data = struct.pack("<4sIQQ", b"GGUF", 3, 0, len(pairs) + (not key))
    data += b"".join(string(name) + inside for name, inside in pairs)
    file = tmp_path / "lie.gguf"
    file.write_bytes(data if key else data + b"\xff" * 16)
    assert described(file) is None


@pytest.mark.parametrize(("tensors", "count"), [((1 << 64) - 1, 10), (0, (1 << 64) - 1), (0, 1 << 16), (0, 11)])
def test_wrong_counts(tmp_path: Path, tensors: int, count: int) -> None:
    """A wrong count of tensors is for the loader to find."""
    file = write_header(tmp_path / "m.gguf")
    data = file.read_bytes()
    file.write_bytes(data[:8] + struct.pack("<QQ", tensors, count) + data[24:])
    assert (described(file) is None) == (count != 10)


def test_a_name_is_only_a_name(tmp_path: Path) -> None:
    # Once: it goes into errors and logs as it stands, however long and with whatever control characters.
    file = write_header(tmp_path / "m.gguf", general__name="../../etc/passwd\0\n\x1b[31m" + "x" * 100_000)
    facts = described(file)
    assert facts is not None
    assert facts.path == str(file)
    assert facts.name.isprintable()
    assert len(facts.name) <= 200


def sparse(file: Path, *pieces: tuple[bytes, int]) -> Path:
    """Bytes and after each of them so many zeros, which the disk need not hold."""
    with file.open("wb") as stream:
        for data, zeros in pieces:
            stream.write(data)
            stream.seek(zeros, os.SEEK_CUR)
        stream.truncate()
    return file


def test_the_daemon_never_holds_much_of_a_file(tmp_path: Path) -> None:
    # Once: each text of up to 64 MB is kept, and there may be many.
    size = 40 << 20
    head = struct.pack("<4sIQQ", b"GGUF", 3, 0, 4) + string("general.architecture") + value("llama")
    texts = [(string(f"key {i}") + struct.pack("<IQ", 8, size), size) for i in range(3)]
    file = sparse(tmp_path / "m.gguf", (head, 0), *texts)
    tracemalloc.start()
    try:
        described(file)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16 << 20


def test_a_vocabulary_of_millions_is_not_read_word_by_word(tmp_path: Path) -> None:
    # Once: a gigabyte of zeros as empty words keeps the daemon busy for minutes.
    count = 2_000_000
    head = struct.pack("<4sIQQ", b"GGUF", 3, 0, 2) + string("general.architecture") + value("llama")
    file = sparse(tmp_path / "m.gguf", (head + string("tokenizer.ggml.tokens") + many(8, count), 8 * count))
    began = time.thread_time()
    described(file)
    assert time.thread_time() - began < 0.5


def loop(path: Path) -> None:
    path.symlink_to(path)


PLACES: dict[str, Callable[[Path], object]] = {
    "missing": lambda path: None,
    "a folder": Path.mkdir,
    "a loop of links": loop,
    "a link to nowhere": lambda path: path.symlink_to(path.with_name("nowhere")),
    "zeros without end": lambda path: path.symlink_to("/dev/zero"),
    "nothing": lambda path: path.symlink_to("/dev/null"),
    "the process itself": lambda path: path.symlink_to("/proc/self/mem"),
    "a pipe": os.mkfifo,
}


def in_time(work: Callable[[], object], seconds: float) -> bool:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    return not thread.is_alive()


@pytest.mark.parametrize("place", PLACES)
def test_paths_that_are_no_files(tmp_path: Path, place: str) -> None:
    # Once: a pipe is opened and waited for, for ever.
    path, raised = tmp_path / "odd.gguf", list[BaseException]()
    PLACES[place](path)

    def look() -> None:
        try:
            describe(str(path))
        except BaseException as error:
            raised.append(error)

    try:
        assert in_time(look, 3.0)
    finally:
        release(path)
    (broken,) = raised
    assert isinstance(broken, ModelBroken)
    assert "odd.gguf" in broken.detail


def release(path: Path) -> None:
    """Whoever waits at this pipe waits no more."""
    with suppress(OSError):
        if path.is_fifo():
            os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))


def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    file = write_header(tmp_path / "m.gguf")
    file.chmod(0)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)  # root reads everything
    try:
        with pytest.raises(ModelBroken, match="Permission denied"):
            describe(str(file))
    finally:
        if root:
            os.seteuid(0)


def test_a_path_with_a_nul() -> None:
    with pytest.raises(ModelBroken):
        describe("/tmp/model\0.gguf")


# the loader, in children


class Loader:
    """Loads one file after the other, in the same child for as long as it lives."""

    def __init__(self) -> None:
        self._children = AsyncExitStack()
        self._child: Child | None = None

    async def __aenter__(self) -> Loader:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._children.aclose()

    async def outcome(self, file: Path) -> str:
        """ "loaded", the signal that the child died of, or the reason that it gave. What loads must compute, too."""
        if self._child is None:
            self._child = await self._children.enter_async_context(Child(MODULE, grace=0.1))
        params = {"path": str(file), "context_length": 128, "batch_size": 32, "threads": 1, "mode": "default"}
        try:
            async with asyncio.timeout(SECONDS):
                await self._child.call("load", params)
                await self._child.call("prove", {})
        except ChannelClosed:
            ending = await self._child.exited
            self._child = None
            assert ending.signal is not None
            return str(ending)
        except EdgedError as error:
            assert isinstance(error, ModelBroken), error
            return error.detail
        return "loaded"


@pytest.fixture
async def loader(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Loader]:
    monkeypatch.setenv("GGML_NO_BACKTRACE", "1")  # or an abort asks a debugger first, where there is one
    async with Loader() as made:
        yield made


def clear(outcome: str) -> bool:
    """A signal, or a reason that says more than that it failed. (The pool's error names the file.)"""
    return outcome.startswith("SIG") or not outcome.endswith("failed to load model")


async def test_truncated_files(tmp_path: Path, whole: bytes, loader: Loader) -> None:
    # Once: of what llama.cpp complains of only its last line is told, which says nothing.
    file = tmp_path / "cut.gguf"
    sizes = [0, 3, 4, 23, 24, 1000, *range(tensors_at(whole) - 1, len(whole), 60_000), len(whole) - 1]
    for size in sizes:
        file.write_bytes(whole[:size])
        outcome = await loader.outcome(file)
        assert outcome != "loaded", size
        assert clear(outcome), outcome


async def test_flipped_files(tmp_path: Path, whole: bytes, loader: Loader) -> None:
    # Once: as for truncated files; and a chat template that is no UTF-8 counts as a bug of the worker.
    file, rng = tmp_path / "flipped.gguf", random.Random(11)
    outcomes = Counter[bool]()
    for i in range(40):
        file.write_bytes(flipped(whole, rng, tensors_at(whole) + 1500 if i % 4 else len(whole)))
        outcome = await loader.outcome(file)
        outcomes[outcome == "loaded"] += 1
        assert outcome == "loaded" or clear(outcome), outcome
    assert min(outcomes.values()) > 5


async def test_a_template_that_is_no_text(tmp_path: Path, whole: bytes, loader: Loader) -> None:
    # Once: a UnicodeDecodeError, which counts as a bug of the worker.
    file = tmp_path / "template.gguf"
    file.write_bytes(whole.replace(b"{% if tools %}", b"\xff\xfe if tools %}"))
    outcome = await loader.outcome(file)
    assert outcome == "loaded" or clear(outcome)


WRONG: dict[str, dict[str, Any]] = {
    "layers": {"llama__block_count": 4_000_000_000},
    "no layers": {"llama__block_count": 0},
    "a layer too many": {"llama__block_count": 3},
    "no heads": {"llama__attention__head_count": 0},
    "odd heads": {"llama__attention__head_count_kv": 3},
    "heads by layer": {"llama__attention__head_count_kv": array("i", [2])},
    "no width": {"llama__embedding_length": 0},
    "all the width": {"llama__embedding_length": (1 << 32) - 1},
    "no context": {"llama__context_length": 0},
    "alignment": {"general__alignment": 0},
    "odd alignment": {"general__alignment": 3},
    "rope": {"llama__rope__dimension_count": 10**6},
    "a text for a number": {"llama__attention__layer_norm_rms_epsilon": "x"},
    "keys": {"llama__attention__key_length": 10**6},
    "experts": {"llama__expert_count": 1000},
    "words": {"tokenizer__ggml__tokens": ["a", "b"]},
    "the same words": {"tokenizer__ggml__tokens": ["a"] * 266},
    "kinds of words": {"tokenizer__ggml__token_type": array("i", [1] * 3)},
    "a tokenizer": {"tokenizer__ggml__model": "none"},
    "an architecture": {"general__architecture": "../../none"},
    "parts": {"split__count": 3},
    "a template": {"template": "{% for %}"},
    "a template too deep": {"template": "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}"},
    "a template too costly": {
        "template": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    },
}


async def test_wrong_numbers(tmp_path: Path, loader: Loader) -> None:
    # Once: as for truncated files; and a template that nests too deep counts as a bug of the worker.
    unclear = {}
    for name, more in WRONG.items():
        file = write(tmp_path / "wrong.gguf", **more)
        outcome = await loader.outcome(file)
        if name != "a template too costly":  # it is found to be so when it is rendered
            assert outcome != "loaded", name
            if not clear(outcome):
                unclear[name] = outcome
    assert unclear == {}


async def test_a_templates_constants_hold_nobody_up(tmp_path: Path, loader: Loader) -> None:
    # Once: they are computed by the compiler, in native code that no alarm interrupts.
    file = write(tmp_path / "power.gguf", template="{{ 9 ** (9 ** 9) }}")
    assert clear(await loader.outcome(file))


HARMLESS: Sequence[dict[str, Any]] = (
    {"tokenizer__ggml__eos_token_id": 10**9},
    {"tokenizer__ggml__bos_token_id": 10**9, "tokenizer__ggml__add_bos_token": True},
    {"general__name": "../../evil\n\0"},
    {"llama__vocab_size": 10**9},
    {"tokenizer__ggml__merges": ["nospace", ""]},
)


@pytest.mark.parametrize("more", HARMLESS, ids=lambda more: next(iter(more)))
async def test_what_does_no_harm(tmp_path: Path, loader: Loader, more: dict[str, Any]) -> None:
    assert await loader.outcome(write(tmp_path / "odd.gguf", **more)) == "loaded"


# the pool


def spec(name: str, path: Path | str) -> ModelSpec:
    return ModelSpec(name, str(path), context_length=256, batch_size=64, threads=1, streams=2)


def hello(model: str) -> Generation:
    return Generation(model, (Message("user", "hello"),), max_tokens=6)


async def test_a_pool_goes_on_serving_beside_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Once: neither the file nor the reason is in the error's text, but the name that the file gives itself.
    monkeypatch.setenv("GGML_NO_BACKTRACE", "1")
    good = write(tmp_path / "good.gguf")
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(good.read_bytes()[:-5000])
    aborts = write(tmp_path / "aborts.gguf", tokenizer__ggml__tokens=["a"] * 266, general__name="../../evil\nname")
    bad = {"cut": cut, "aborts": aborts, "missing": tmp_path / "missing.gguf", "folder": tmp_path}
    models = {name: spec(name, path) for name, path in {"good": good, **bad}.items()}

    async def refused(pool: Pool, name: str) -> None:
        with pytest.raises((ModelBroken, EngineCrashed)) as broken:
            await pool.generate(hello(name))
        assert broken.value.fields
        assert bad[name].name in broken.value.detail, broken.value.detail
        assert "\n" not in broken.value.detail

    async with Pool(models, Budget(1 << 40), tmp_path / "state", Meters()) as pool:
        first = await pool.generate(hello("good"))
        answers = asyncio.gather(*(answered(pool, first.text) for _ in range(5)))
        outcomes = await asyncio.gather(*(refused(pool, name) for name in bad), return_exceptions=True)
        await answers
        assert (await pool.generate(hello("good"))).text == first.text
        assert next(entry for entry in pool.status() if entry["name"] == "good")["restarts"] == 0
    assert names(tmp_path) == {"good.gguf", "cut.gguf", "aborts.gguf", "state"}
    assert [outcome for outcome in outcomes if outcome is not None] == []


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


async def answered(pool: Pool, text: str) -> Completion:
    completion = await pool.generate(hello("good"))
    assert completion.text == text
    return completion


@pytest.mark.parametrize("place", ["a pipe", "a nul", "a lie"])
async def test_what_is_no_model_is_no_bug_of_the_pool(tmp_path: Path, place: str) -> None:
    # Once: a pipe hangs a thread of the daemon, a path with a NUL and text where a number should be end it.
    path = tmp_path / "odd.gguf"
    if place == "a pipe":
        os.mkfifo(path)
    elif place == "a lie":
        write_header(path, llama__block_count="many")
    name = str(path).replace("odd", "o\0d") if place == "a nul" else str(path)
    try:
        async with Pool({"m": spec("m", name)}, Budget(1 << 40), tmp_path / "state", Meters()) as pool:
            with pytest.raises(ModelBroken):
                await asyncio.wait_for(pool.generate(hello("m")), 3.0)
    finally:
        release(path)
