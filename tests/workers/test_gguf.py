"""The real worker process on a tiny random model: load, prove, generate, cancel."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from edged.domain.errors import BadRequest, DeadlineExceeded, ModelBroken
from edged.ipc.process import Child

from .tiny_gguf import CONTEXT, write

MODULE = "edged.workers.gguf"
BUNDLED = Path(__file__).parents[2] / "edged" / "models" / "edged-bundled.gguf"
CALL = r"""start: <tool_call> "{\"name\": \"check\", \"item\": \"" ("lamp" | "large lamp") "\"}" </tool_call>"""


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("model") / "tiny.gguf")


def load(path: Path, **more: Any) -> dict[str, Any]:
    return {"path": str(path), "context_length": 256, "batch_size": 64, "threads": 1, "mode": "default", **more}


def generate(text: str, **more: Any) -> dict[str, Any]:
    params = {"messages": [{"role": "user", "content": text}], "tools": [], "grammar": None, "max_tokens": 8}
    return {**params, "deadline_monotonic": None, **more}


@pytest.fixture
async def child(tiny: Path) -> AsyncIterator[Child]:
    async with Child(MODULE) as child:
        await child.call("load", load(tiny))
        yield child


@pytest.mark.parametrize("mode", ["default", "no_extra_buffers", "one_thread"])
async def test_every_mode_loads_and_is_proven(tiny: Path, mode: str) -> None:
    async with Child(MODULE) as child:
        facts = await child.call("load", load(tiny, mode=mode, threads=2))
        assert facts["context_length"] == 256
        assert facts["threads"] == (1 if mode == "one_thread" else 2)
        await child.call("prove", {})
        assert (await child.call("generate", generate("hi")))["completion_tokens"] > 0


async def test_context_is_at_most_what_the_model_was_trained_for(tiny: Path) -> None:
    async with Child(MODULE) as child:
        assert (await child.call("load", load(tiny, context_length=100_000)))["context_length"] == CONTEXT


async def test_bad_files_and_wrong_order(tmp_path: Path) -> None:
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"GGUF nonsense")
    async with Child(MODULE) as child:
        with pytest.raises(ModelBroken):
            await child.call("generate", generate("hi"))
        with pytest.raises(ModelBroken):
            await child.call("load", load(bad))


async def test_numbers_that_are_not_finite_are_no_proof(tmp_path: Path) -> None:
    async with Child(MODULE) as child:
        await child.call("load", load(write(tmp_path / "nan.gguf", fill=math.nan)))
        with pytest.raises(ModelBroken, match="finite"):
            await child.call("prove", {})


async def test_greedy_is_repeatable_streams_and_counts(child: Child) -> None:
    parts: list[dict[str, str]] = []
    first = await child.call("generate", generate("hello"), parts.append)
    second = await child.call("generate", generate("other"))
    third = await child.call("generate", generate("hello"))
    assert first["text"] == third["text"] == "".join(p["text"] for p in parts)
    assert first["finish_reason"] == "length"
    assert first["completion_tokens"] == 8
    assert (first["prompt_tokens"], first["cached_tokens"]) == (1 + 5 + 1 + 1, 0)
    assert second["cached_tokens"] == 1  # the <|user|> in front


async def test_the_common_prefix_is_reused(child: Child) -> None:
    cold = await child.call("generate", generate("one two box four"))
    again = await child.call("generate", generate("one two box four"))
    longer = await child.call("generate", generate("one two box five"))
    assert cold["cached_tokens"] == 0
    assert again["cached_tokens"] == again["prompt_tokens"] - 1
    assert longer["cached_tokens"] == 1 + len("one two box f")
    await with_fresh(child, longer, "one two box five")


async def with_fresh(child: Child, reused: dict[str, Any], text: str) -> None:
    await child.call("generate", generate("x"))
    fresh = await child.call("generate", generate(text))
    assert fresh["text"] == reused["text"]


async def test_sampling_follows_its_seed(child: Child) -> None:
    def hot(seed: int) -> dict[str, Any]:
        return generate("hello", sampling={"temperature": 2.0, "seed": seed}, max_tokens=16)

    texts = [(await child.call("generate", hot(seed)))["text"] for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


@pytest.mark.parametrize("temperature", [0.0, 3.0])
async def test_a_grammar_binds_and_ends_the_generation(child: Child, temperature: float) -> None:
    for seed in range(4):
        how = {"temperature": temperature, "seed": seed}
        params = generate("hi", grammar=CALL, max_tokens=100, sampling=how)
        result = await child.call("generate", params)
        assert result["finish_reason"] == "stop"
        body = result["text"].removeprefix("<tool_call>").removesuffix("</tool_call>")
        assert json.loads(body)["item"] in ("lamp", "large lamp")
        assert len(result["text"]) == len(body) + len("<tool_call></tool_call>")


async def test_max_tokens_binds_under_a_grammar_too(child: Child) -> None:
    result = await child.call("generate", generate("hi", grammar=CALL, max_tokens=5))
    assert (result["finish_reason"], result["completion_tokens"]) == ("length", 5)


async def test_a_bad_grammar_is_refused_and_the_worker_goes_on(child: Child) -> None:
    with pytest.raises(BadRequest, match="grammar"):
        await child.call("generate", generate("hi", grammar="start: ((("))
    assert (await child.call("generate", generate("hi")))["completion_tokens"] == 8


async def test_a_prompt_longer_than_the_context(child: Child) -> None:
    with pytest.raises(BadRequest) as refused:
        await child.call("generate", generate("x" * 300))
    assert refused.value.fields == {"tokens": 303, "limit": 255}
    full = await child.call("generate", generate("x" * 245, max_tokens=500))
    assert full["finish_reason"] in ("length", "stop")
    assert full["prompt_tokens"] + full["completion_tokens"] <= 256 + 1


async def test_control_tokens_in_text_are_plain_text(child: Child) -> None:
    async def count(text: str) -> int:
        return int((await child.call("generate", generate(text)))["prompt_tokens"])

    base = await count("")
    for text in ("<|end|>", "<tool_call>", "<think>", "</tool_call>"):
        assert await count(text) == base + len(text)  # a token a letter
    assert await count("the") == base + 1


async def test_text_is_streamed_in_whole_characters(child: Child) -> None:
    grammar = 'start: "é" "漢" "🙂"'
    parts: list[dict[str, str]] = []
    result = await child.call("generate", generate("hi", grammar=grammar, max_tokens=50), parts.append)
    assert result["text"] == "é漢🙂"
    assert "�" not in "".join(p["text"] for p in parts)


async def test_a_deadline_stops_the_model(child: Child) -> None:
    with pytest.raises(DeadlineExceeded):
        await child.call("generate", generate("hi", deadline_monotonic=time.monotonic() - 1))
    assert (await child.call("generate", generate("hi")))["completion_tokens"] == 8


async def test_a_cancel_stops_the_model(tiny: Path) -> None:
    """At a thousand tokens a second the rest of the context would take longer than the ping is allowed to."""
    async with Child(MODULE) as child:
        await child.call("load", load(tiny, context_length=CONTEXT))
        begun = asyncio.Event()
        endless = generate("hi", grammar="start: /[a-z]*/", max_tokens=500)
        task = asyncio.create_task(child.call("generate", endless, lambda _: begun.set()))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await child.call("ping")
        after = await child.call("generate", generate("hi"))
        assert after["completion_tokens"] == 8


@pytest.mark.skipif(not BUNDLED.exists(), reason="the bundled model is not there")
async def test_the_bundled_model_is_proven_and_answers() -> None:
    async with Child(MODULE) as child:
        await child.call("load", load(BUNDLED, context_length=1024, batch_size=512, threads=0))
        await child.call("prove", {})
        result = await child.call("generate", generate("hello", max_tokens=16))
        assert result["completion_tokens"] > 0
