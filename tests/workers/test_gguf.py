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

from .tiny_gguf import CONTEXT, write, write_adapter, write_recurrent

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


def tokens_of(result: dict[str, Any]) -> list[tuple[list[int], float]]:
    """Of a result with two alternatives told: each token's bytes, and by how much it was preferred to the next best."""
    return [(e["bytes"], e["top_logprobs"][0]["logprob"] - e["top_logprobs"][1]["logprob"]) for e in result["logprobs"]]


def alike(alone: dict[str, Any], together: dict[str, Any]) -> bool:
    """Whether they say the same up to the first token that was a near tie (see `test_batcher`)."""
    for (mine, margin), (theirs, _) in zip(tokens_of(alone), tokens_of(together), strict=False):
        if mine != theirs:
            return margin < 0.01
    return bool(alone["completion_tokens"] == together["completion_tokens"])


async def test_greedy_is_bit_for_bit_repeatable_in_fresh_workers(tiny: Path) -> None:
    """At batch one: the same text, and the very same logits."""
    results = []
    for _ in range(2):
        async with Child(MODULE) as child:
            await child.call("load", load(tiny))
            asked = generate("tell me something", max_tokens=40, sampling={"logprobs": 5})
            results.append(await child.call("generate", asked))
    first, second = results
    assert first["completion_tokens"] == 40
    assert (first["text"], first["logprobs"]) == (second["text"], second["logprobs"])


async def test_many_at_once_are_answered_as_if_each_were_alone(tiny: Path) -> None:
    sampling = {"logprobs": 2}
    asks = [generate(f"ask {i} " + "x" * 9 * i, max_tokens=20, sampling=sampling, rank=i % 3) for i in range(7)]
    async with Child(MODULE) as child:
        await child.call("load", load(tiny, slots=3, cells=300))
        begun = asyncio.Event()
        endless = generate("hi", grammar="start: /[a-z]*/", max_tokens=240)
        cancelled = asyncio.create_task(child.call("generate", endless, lambda _: begun.set()))
        await begun.wait()
        parts: list[list[dict[str, str]]] = [[] for _ in asks]
        calls = [child.call("generate", one, said.append) for one, said in zip(asks, parts, strict=True)]
        bound = child.call("generate", generate("hi", grammar=CALL, max_tokens=100))
        late = child.call("generate", generate("hi", deadline_monotonic=time.monotonic() - 1))
        together, call, expired, _ = await asyncio.gather(
            asyncio.gather(*calls), bound, asyncio.gather(late, return_exceptions=True), soon(cancelled)
        )
        assert cancelled.cancelled()
        assert isinstance(expired[0], DeadlineExceeded)
        assert json.loads(call["text"].removeprefix("<tool_call>").removesuffix("</tool_call>"))["name"] == "check"
        for one, result, said in zip(asks, together, parts, strict=True):
            assert "".join(part["text"] for part in said) == result["text"]
            assert alike(await child.call("generate", one), result)


async def soon(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.wait({task})


async def test_what_was_dropped_is_told(child: Child) -> None:
    roles = ("system", "user", "assistant", "user")
    texts = ("be brief", "x" * 150, "y" * 50, "z" * 50)
    messages = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=True)]
    with pytest.raises(BadRequest) as refused:
        await child.call("generate", generate("", messages=messages, fixed=1))
    assert refused.value.code == "context_overflow"
    result = await child.call("generate", generate("", messages=messages, fixed=1, overflow="drop_oldest"))
    assert result["dropped_messages"] == 2
    assert result["prompt_tokens"] < 80


@pytest.mark.parametrize("kv_type", ["q8_0", "q4_0"])
async def test_a_quantized_cache(tmp_path: Path, kv_type: str) -> None:
    path = write(tmp_path / "wide.gguf", head=32)
    async with Child(MODULE) as child:
        await child.call("load", load(path, kv_type=kv_type))
        await child.call("prove", {})
        assert (await child.call("generate", generate("hi")))["completion_tokens"] == 8


async def test_a_quantized_cache_that_the_heads_do_not_fit(tiny: Path) -> None:
    async with Child(MODULE) as child:
        with pytest.raises(ModelBroken, match="q8_0"):
            await child.call("load", load(tiny, kv_type="q8_0"))


async def test_adapters_change_what_is_said_and_only_where_they_are_asked_for(tiny: Path, tmp_path: Path) -> None:
    adapters = {name: str(write_adapter(tmp_path / f"{name}.gguf", i)) for i, name in enumerate("ab")}
    async with Child(MODULE) as child:
        await child.call("load", load(tiny, slots=3, adapters=adapters))
        with pytest.raises(BadRequest) as refused:
            await child.call("generate", generate("hi", adapter="c"))
        assert refused.value.fields == {"adapters": ["a", "b"]}
        lanes = (None, "a", "b")
        one_by_one = [(await child.call("generate", generate("hello", adapter=lane)))["text"] for lane in lanes]
        calls = [child.call("generate", generate("hello", adapter=lane)) for lane in lanes]
        assert [result["text"] for result in await asyncio.gather(*calls)] == one_by_one
        assert len(set(one_by_one)) == 3


@pytest.mark.parametrize("kind", ["missing", "garbage", "a model", "for another model"])
async def test_adapters_that_are_none_are_named(tiny: Path, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "odd.gguf"
    if kind == "garbage":
        path.write_bytes(b"GGUF garbage")
    elif kind == "a model":
        write(path)
    elif kind == "for another model":
        write_adapter(path)
        tiny = write_recurrent(tmp_path / "mamba.gguf")
    async with Child(MODULE) as child:
        with pytest.raises(ModelBroken, match=r"odd\.gguf") as broken:
            await child.call("load", load(tiny, adapters={"a": str(path)}))
    assert broken.value.fields == {"path": str(path)}


async def test_a_recurrent_model(tmp_path: Path) -> None:
    async with Child(MODULE) as child:
        await child.call("load", load(write_recurrent(tmp_path / "mamba.gguf"), slots=2))
        await child.call("prove", {})
        first = await child.call("generate", generate("hello", max_tokens=30))
        calls = [child.call("generate", generate(text, max_tokens=30)) for text in ("one", "two", "three", "hello")]
        assert (await asyncio.gather(*calls))[3]["text"] == first["text"]


async def test_a_batch_may_be_smaller_than_the_streams_are_many(tiny: Path) -> None:
    # Once: llama.cpp aborts: a batch must hold a row for each sequence.
    async with Child(MODULE) as child:
        await child.call("load", load(tiny, batch_size=2, slots=8))
        calls = [child.call("generate", generate(f"hi {i}")) for i in range(8)]
        assert {result["completion_tokens"] for result in await asyncio.gather(*calls)} == {8}


async def test_a_long_literal_in_a_grammar_harms_nobody(tiny: Path) -> None:
    # Once: more tokens than a batch holds are forced at once, and the worker ends with all that it had.
    schema = {"enum": ["x" * 100 + end for end in "ab"]}
    async with Child(MODULE) as child:
        await child.call("load", load(tiny, slots=2))
        other = child.call("generate", generate("hi", max_tokens=30))
        grammar = {"kind": "json_schema", "source": schema}
        bound = child.call("generate", generate("hi", grammar=grammar, max_tokens=200))
        result, _ = await asyncio.gather(bound, other)
        assert json.loads(result["text"])[:-1] == "x" * 100


@pytest.mark.skipif(not BUNDLED.exists(), reason="the bundled model is not there")
async def test_the_bundled_model_is_proven_and_answers() -> None:
    async with Child(MODULE) as child:
        await child.call("load", load(BUNDLED, context_length=1024, batch_size=512, threads=0))
        await child.call("prove", {})
        result = await child.call("generate", generate("hello", max_tokens=16))
        assert result["completion_tokens"] > 0
