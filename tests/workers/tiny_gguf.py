"""Tiny random models as GGUF files, made with the standard library: bytes as tokens, the bundled model's control tokens.

A llama (`write`), a LoRA adapter for it (`write_adapter`), and a model whose sequences are whole states that cannot be cut
(`write_recurrent`, a mamba).
"""

from __future__ import annotations

import math
import random
import struct
from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any

WIDTH, LAYERS, HEADS, KV_HEADS, FEED = 64, 2, 4, 2, 128
CONTEXT = 512
CONTROL = ("<|pad|>", "<|user|>", "<|assistant|>", "<|end|>", "<tool_call>", "</tool_call>", "<|tool|>")
USER_DEFINED = ("<think>",)
WORDS = 258 + len(CONTROL) + len(USER_DEFINED)
TEMPLATE = (
    "{% if tools %}{{ tools | tojson }}<|end|>{% endif %}"
    "{% for m in messages %}<|{{ m.role if m.role != 'system' else 'user' }}|>{{ m.content | trim }}"
    "{% for c in m.tool_calls or [] %}<tool_call>{{ c.function.name }}{{ c.arguments | tojson }}</tool_call>{% endfor %}"
    "<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _value(item: Any) -> bytes:
    if isinstance(item, str):
        return struct.pack("<I", 8) + _string(item)
    if isinstance(item, bool):
        return struct.pack("<IB", 7, item)
    if isinstance(item, int):
        return struct.pack("<II", 4, item)
    if isinstance(item, array):
        return struct.pack("<IIQ", 9, 5, len(item)) + item.tobytes()
    if isinstance(item, float):
        return struct.pack("<If", 6, item)
    parts = [_value(one) for one in item]
    return struct.pack("<I", 9) + parts[0][:4] + struct.pack("<Q", len(parts)) + b"".join(p[4:] for p in parts)


def _byte_tokens() -> list[str]:
    """GPT-2's printable stand-ins for the 256 bytes."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    spare = iter(range(256, 512))
    return [chr(b) if b in plain else chr(next(spare)) for b in range(256)]


def _vocabulary(template: str) -> dict[str, Any]:
    tokens = [*_byte_tokens(), "th", "the", *CONTROL, *USER_DEFINED]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": array("i", [1] * 258 + [3] * len(CONTROL) + [4] * len(USER_DEFINED)),
        "tokenizer.ggml.merges": ["t h", "th e"],
        "tokenizer.ggml.eos_token_id": tokens.index("<|end|>"),
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": template,
    }


def _llama(head: int, layers: int) -> tuple[dict[str, Any], dict[str, tuple[int, ...]]]:
    """Metadata, and shapes in GGUF's order (the fastest dimension first)."""
    width, narrow = head * HEADS, head * KV_HEADS
    meta = {
        "llama.context_length": CONTEXT,
        "llama.embedding_length": width,
        "llama.block_count": layers,
        "llama.feed_forward_length": FEED,
        "llama.attention.head_count": HEADS,
        "llama.attention.head_count_kv": KV_HEADS,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.dimension_count": head,
        "llama.vocab_size": WORDS,
    }
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (width, WORDS),
        "output_norm.weight": (width,),
        "output.weight": (width, WORDS),
    }
    for i in range(layers):
        shapes |= {
            f"blk.{i}.attn_norm.weight": (width,),
            f"blk.{i}.ffn_norm.weight": (width,),
            f"blk.{i}.attn_q.weight": (width, width),
            f"blk.{i}.attn_k.weight": (width, narrow),
            f"blk.{i}.attn_v.weight": (width, narrow),
            f"blk.{i}.attn_output.weight": (width, width),
            f"blk.{i}.ffn_gate.weight": (width, FEED),
            f"blk.{i}.ffn_up.weight": (width, FEED),
            f"blk.{i}.ffn_down.weight": (FEED, width),
        }
    return meta, shapes


def _mamba() -> tuple[dict[str, Any], dict[str, tuple[int, ...]]]:
    inner, state, kernel, rank = 2 * WIDTH, 8, 4, 4
    meta = {
        "mamba.context_length": CONTEXT,
        "mamba.embedding_length": WIDTH,
        "mamba.block_count": LAYERS,
        "mamba.feed_forward_length": 0,
        "mamba.attention.head_count": 0,
        "mamba.attention.layer_norm_rms_epsilon": 1e-5,
        "mamba.ssm.conv_kernel": kernel,
        "mamba.ssm.inner_size": inner,
        "mamba.ssm.state_size": state,
        "mamba.ssm.time_step_rank": rank,
        "mamba.vocab_size": WORDS,
    }
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (WIDTH, WORDS), "output_norm.weight": (WIDTH,)}
    for i in range(LAYERS):
        shapes |= {
            f"blk.{i}.attn_norm.weight": (WIDTH,),
            f"blk.{i}.ssm_in.weight": (WIDTH, 2 * inner),
            f"blk.{i}.ssm_conv1d.weight": (kernel, inner),
            f"blk.{i}.ssm_conv1d.bias": (inner,),
            f"blk.{i}.ssm_x.weight": (inner, rank + 2 * state),
            f"blk.{i}.ssm_dt.weight": (rank, inner),
            f"blk.{i}.ssm_dt.bias": (inner,),
            f"blk.{i}.ssm_a": (state, inner),
            f"blk.{i}.ssm_d": (inner,),
            f"blk.{i}.ssm_out.weight": (inner, WIDTH),
        }
    return meta, shapes


def _save(path: Path, meta: dict[str, Any], tensors: Mapping[str, tuple[tuple[int, ...], array[float]]]) -> Path:
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(meta))
    head += b"".join(_string(k) + _value(v) for k, v in meta.items())
    body = b""
    for name, (shape, values) in tensors.items():
        head += _string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 0, len(body))
        body += values.tobytes()
        body += bytes(-len(body) % 32)
    path.write_bytes(head + bytes(-len(head) % 32) + body)
    return path


def _noise(rng: random.Random, shape: tuple[int, ...], spread: float = 0.1) -> array[float]:
    return array("f", (rng.gauss(0, spread) for _ in range(math.prod(shape))))


def _same(value: float, shape: tuple[int, ...]) -> array[float]:
    return array("f", [value]) * math.prod(shape)


def write(
    path: Path,
    *,
    template: str = TEMPLATE,
    fill: float | None = None,
    head: int = WIDTH // HEADS,
    layers: int = LAYERS,
    **more: Any,
) -> Path:
    """The llama, always the same weights; `fill` makes all of them that number (a NaN makes a model that computes NaN). `head`
    is a head's dimensions: a quantized cache wants 32. `more` is metadata, with `__` for dots."""
    meta, shapes = _llama(head, layers)
    rng = random.Random(7)
    tensors = {
        name: (shape, _same(fill or 1.0, shape) if fill or len(shape) == 1 else _noise(rng, shape))
        for name, shape in shapes.items()
    }
    general = {"general.architecture": "llama", "general.name": "tiny", "general.file_type": 0}
    others = {key.replace("__", "."): value for key, value in more.items()}
    return _save(path, {**general, **meta, **_vocabulary(template), **others}, tensors)


def write_recurrent(path: Path) -> Path:
    """The mamba."""
    meta, shapes = _mamba()
    rng = random.Random(7)
    fixed = {"norm.weight": 1.0, "ssm_a": -1.0, "ssm_d": 1.0, "dt.bias": 0.5}
    tensors = {}
    for name, shape in shapes.items():
        value = next((number for end, number in fixed.items() if name.endswith(end)), None)
        tensors[name] = (shape, _noise(rng, shape, 0.3) if value is None else _same(value, shape))
    general = {"general.architecture": "mamba", "general.name": "tiny", "general.file_type": 0}
    return _save(path, {**general, **meta, **_vocabulary(TEMPLATE)}, tensors)


def write_adapter(path: Path, seed: int = 1) -> Path:
    """A LoRA adapter that makes the llama say something else."""
    rng = random.Random(seed)
    tensors = {}
    for name in ("blk.0.ffn_down.weight", "blk.1.attn_v.weight"):
        wide, narrow = _llama(WIDTH // HEADS, LAYERS)[1][name]
        for part, shape in (("lora_a", (wide, 4)), ("lora_b", (4, narrow))):
            tensors[f"{name}.{part}"] = (shape, _noise(rng, shape, 0.5))
    meta = {
        "general.type": "adapter",
        "general.architecture": "llama",
        "adapter.type": "lora",
        "adapter.lora.alpha": 4.0,
    }
    return _save(path, meta, tensors)
