"""Reading GGUF metadata: what is taken from it, and files that are not what they claim."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import sdist

from edged.agent.dialects import DIALECTS
from edged.domain.errors import ModelBroken
from edged.domain.resources import ModelSpec
from edged.engine.catalog import describe, need, resolve
from edged.engine.records import Record

from .gguf_header import write


def test_facts_of_a_plain_file(tmp_path: Path) -> None:
    file = write(tmp_path / "m.gguf", size=5000)
    facts = describe(str(file))
    assert (facts.name, facts.architecture, facts.quantization) == ("small", "llama", "Q8_0")
    assert (facts.context_length, facts.n_vocab, facts.n_layer, facts.n_embd) == (2048, 3, 3, 128)
    assert (facts.n_head_kv, facts.head_dim_k, facts.head_dim_v) == (6, 32, 32)
    assert facts.file_bytes == 5000
    assert facts.digest == hashlib.sha256(file.read_bytes()).hexdigest()


def test_heads_may_differ_by_layer_and_long_arrays_are_only_counted(tmp_path: Path) -> None:
    meta: dict[str, Any] = {
        "llama__attention__head_count_kv": [1, 2, 4],
        "llama__attention__key_length": 40,
        "tokenizer__ggml__tokens": ["x"] * 3000,
        "tokenizer__ggml__scores": [0.5] * 3000,
        "tokenizer__ggml__token_type": [1] * 3000,
    }
    facts = describe(str(write(tmp_path / "m.gguf", **meta)))
    assert (facts.n_head_kv, facts.head_dim_k, facts.n_vocab) == (7, 40, 3000)


@pytest.mark.parametrize(
    ("template", "dialect"),
    [
        ("<|tools|>{{ x }}", "edged"),
        ('<tool_call>{"arguments": {{ x }}', "hermes"),
        (r'{{ "<tool_call>{\"name\": NAME, \"arguments\": {}}" }}', "hermes"),
        ("<tool_call>{{ name }}", "json"),
        ("<tool_call> or <escalate>", "edged"),
        ("<|python_tag|>", "llama3"),
        ("<|tool|>{{ tools }}<|/tool|>", "phi4"),
        ("<start_of_turn><start_function_call>call:{{ name }}", "functiongemma"),
        ("You are a helpful AI assistant named SmolLM, trained by Hugging Face", "smollm2"),
        ("{{ messages }}", "json"),
        (None, "json"),
    ],
)
def test_dialect_is_read_off_the_template(tmp_path: Path, template: str | None, dialect: str) -> None:
    assert describe(str(write(tmp_path / "m.gguf", tokenizer__chat_template=template))).dialect == dialect


FAMILIES = {
    "Bielik-11B-v3.0-Instruct": "hermes",
    "HuggingFaceTB-SmolLM3-3B": "smollm3",
    "MiMo-VL": "hermes",
    "Mistral-Small-3.2-24B-Instruct-2506": "mistral_args",
    "NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use": "hermes",
    "NousResearch-Hermes-3-Llama-3.1-8B-tool_use": "hermes",
    "Qwen-QwQ-32B": "hermes",
    "Qwen-Qwen2.5-7B-Instruct": "hermes",
    "Qwen-Qwen3-0.6B": "hermes",
    "Reka-Edge": "hermes",
    "fireworks-ai-llama-3-firefunction-v2": "functools",
    "google-gemma-2-2b-it": "gemma",
    "google-gemma-4-31B-it": "gemma4",
    "google-gemma-4-31B-it-interleaved": "gemma4",
    "ibm-granite-granite-3.3-2B-Instruct": "granite3",
    "ibm-granite-granite-4.0": "hermes",
    "ibm-granite-granite-4.1": "hermes",
    "meta-llama-Llama-3.1-8B-Instruct": "llama3",
    "meta-llama-Llama-3.2-3B-Instruct": "llama3",
    "meta-llama-Llama-3.3-70B-Instruct": "llama3",
    "mistralai-Ministral-3-14B-Reasoning-2512": "mistral_args",
    "mistralai-Mistral-Nemo-Instruct-2407": "mistral",
    "unsloth-mistral-Devstral-Small-2507": "mistral_args",
}


@pytest.mark.timeout(sdist.TIMEOUT)
def test_real_templates_are_told_apart(tmp_path: Path) -> None:
    """Those of other families (DeepSeek, GLM, Qwen3-Coder, Kimi, ...) are told to write JSON."""

    def dialect(template: Path) -> str:
        return describe(str(write(tmp_path / "m.gguf", tokenizer__chat_template=template.read_text()))).dialect

    found = {template.stem: dialect(template) for template in sdist.templates()}
    assert len(found) > len(FAMILIES)
    assert found == dict.fromkeys(found, "json") | FAMILIES
    assert set(found.values()) <= set(DIALECTS)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"GGUF",
        b"GGML" + bytes(40),
        b"GGUF" + bytes(20),
        b"GGUF\3\0\0\0" + bytes(8) + b"\xff" * 8,
        b"GGUF\3\0\0\0" + bytes(8) + b"\1" + bytes(7) + b"\xff" * 8,
        b"GGUF\3\0\0\0" + bytes(8) + b"\1" + bytes(7) + b"\1" + bytes(7) + b"k\x63\0\0\0",
        b"GGUF\3\0\0\0" + bytes(16),
    ],
)
def test_bad_files_are_model_broken(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "m.gguf"
    file.write_bytes(content)
    with pytest.raises(ModelBroken, match=r"m\.gguf"):
        describe(str(file))


def test_every_truncation_is_model_broken(tmp_path: Path) -> None:
    file = write(tmp_path / "m.gguf")
    whole = file.read_bytes()
    for size in range(0, len(whole), 7):
        file.write_bytes(whole[:size])
        with pytest.raises(ModelBroken):
            describe(str(file))


def test_missing_file_is_model_broken(tmp_path: Path) -> None:
    with pytest.raises(ModelBroken, match="No such file"):
        describe(str(tmp_path / "none.gguf"))


def test_the_digest_is_remembered_until_the_file_changes(tmp_path: Path) -> None:
    file = write(tmp_path / "m.gguf")
    state = tmp_path / "state"
    true = describe(str(file), state).digest
    rows = json.loads((state / "digests.json").read_text())
    rows[0][3] = "remembered"
    (state / "digests.json").write_text(json.dumps(rows))
    assert describe(str(file), state).digest == "remembered"
    write(file, size=9000)
    assert describe(str(file), state).digest not in ("remembered", true)
    (state / "digests.json").write_text("{broken")
    assert len(describe(str(file), state).digest) == 64


def test_need_counts_weights_and_kv(tmp_path: Path) -> None:
    facts = describe(str(write(tmp_path / "m.gguf", size=100_000)))
    small = need(facts, ModelSpec("m", "x", context_length=1024))
    large = need(facts, ModelSpec("m", "x", context_length=9999))
    assert small.weights == 100_000
    assert small.kv == 1024 * 6 * (32 + 32) * 2
    assert large.kv == 2 * small.kv  # the file was trained for 2,048
    assert small.total == small.weights + small.kv + small.compute


async def test_adapters_are_held_too(tmp_path: Path) -> None:
    base, adapter = write(tmp_path / "m.gguf", size=100_000), tmp_path / "lora.gguf"
    adapter.write_bytes(bytes(7_000))
    bare, adapted = Record(ModelSpec("m", str(base))), Record(ModelSpec("m", str(base), adapters={"a": str(adapter)}))
    for record in (bare, adapted):
        await record.read(tmp_path)
    assert adapted.size() == bare.size() + 7_000
    adapter.unlink()
    with pytest.raises(ModelBroken, match=r"lora\.gguf"):
        await Record(adapted.spec).read(tmp_path)


def test_bundled_is_inside_the_package() -> None:
    assert resolve("bundled").parts[-3:] == ("edged", "models", "edged-bundled.gguf")
    assert resolve("/x/y.gguf") == Path("/x/y.gguf")
