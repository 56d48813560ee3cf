"""A tiny random llama as a GGUF file, made with the standard library: bytes as tokens, the bundled model's control tokens."""

from __future__ import annotations

import random
import struct
from array import array
from pathlib import Path
from typing import Any

WIDTH, LAYERS, HEADS, KV_HEADS, FEED = 64, 2, 4, 2, 128
CONTEXT = 512
CONTROL = ("<|pad|>", "<|user|>", "<|assistant|>", "<|end|>", "<tool_call>", "</tool_call>", "<|tool|>")
USER_DEFINED = ("<think>",)
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


def _metadata(template: str) -> dict[str, Any]:
    tokens = [*_byte_tokens(), "th", "the", *CONTROL, *USER_DEFINED]
    return {
        "general.architecture": "llama",
        "general.name": "tiny",
        "general.file_type": 0,
        "llama.context_length": CONTEXT,
        "llama.embedding_length": WIDTH,
        "llama.block_count": LAYERS,
        "llama.feed_forward_length": FEED,
        "llama.attention.head_count": HEADS,
        "llama.attention.head_count_kv": KV_HEADS,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.dimension_count": WIDTH // HEADS,
        "llama.vocab_size": len(tokens),
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": array("i", [1] * 258 + [3] * len(CONTROL) + [4] * len(USER_DEFINED)),
        "tokenizer.ggml.merges": ["t h", "th e"],
        "tokenizer.ggml.eos_token_id": tokens.index("<|end|>"),
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": template,
    }


def _tensors(vocabulary: int) -> dict[str, tuple[int, ...]]:
    """Shapes in GGUF's order (the fastest dimension first)."""
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (WIDTH, vocabulary),
        "output_norm.weight": (WIDTH,),
        "output.weight": (WIDTH, vocabulary),
    }
    narrow = WIDTH // HEADS * KV_HEADS
    for i in range(LAYERS):
        shapes |= {
            f"blk.{i}.attn_norm.weight": (WIDTH,),
            f"blk.{i}.ffn_norm.weight": (WIDTH,),
            f"blk.{i}.attn_q.weight": (WIDTH, WIDTH),
            f"blk.{i}.attn_k.weight": (WIDTH, narrow),
            f"blk.{i}.attn_v.weight": (WIDTH, narrow),
            f"blk.{i}.attn_output.weight": (WIDTH, WIDTH),
            f"blk.{i}.ffn_gate.weight": (WIDTH, FEED),
            f"blk.{i}.ffn_up.weight": (WIDTH, FEED),
            f"blk.{i}.ffn_down.weight": (FEED, WIDTH),
        }
    return shapes


def write(path: Path, *, template: str = TEMPLATE, fill: float | None = None) -> Path:
    """The model, always the same weights; `fill` makes all of them that number (a NaN makes a model that computes NaN)."""
    meta = _metadata(template)
    shapes = _tensors(len(meta["tokenizer.ggml.tokens"]))
    rng = random.Random(7)
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(shapes), len(meta))
    head += b"".join(_string(k) + _value(v) for k, v in meta.items())
    body = b""
    for name, shape in shapes.items():
        count = shape[0] * (shape[1] if len(shape) > 1 else 1)
        head += _string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 0, len(body))
        one = len(shape) == 1
        body += array("f", ((fill or 1.0) if one or fill else rng.gauss(0, 0.1) for _ in range(count))).tobytes()
        body += bytes(-len(body) % 32)
    path.write_bytes(head + bytes(-len(head) % 32) + body)
    return path
