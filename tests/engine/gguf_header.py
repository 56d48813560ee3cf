"""GGUF files with metadata and no tensors: enough for the catalog, and for a pool whose worker is scripted."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any


def string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def value(item: Any) -> bytes:
    """A typed value: str, bool, int (u32), float, or a list of one of them."""
    if isinstance(item, str):
        return struct.pack("<I", 8) + string(item)
    if isinstance(item, bool):
        return struct.pack("<IB", 7, item)
    if isinstance(item, int):
        return struct.pack("<II", 4, item)
    if isinstance(item, float):
        return struct.pack("<If", 6, item)
    parts = [value(one) for one in item]
    return struct.pack("<I", 9) + parts[0][:4] + struct.pack("<Q", len(parts)) + b"".join(p[4:] for p in parts)


PLAIN: dict[str, Any] = {
    "general.architecture": "llama",
    "general.name": "small",
    "general.file_type": 7,
    "llama.context_length": 2048,
    "llama.embedding_length": 128,
    "llama.block_count": 3,
    "llama.attention.head_count": 4,
    "llama.attention.head_count_kv": 2,
    "tokenizer.ggml.tokens": ["a", "b", "c"],
    "tokenizer.chat_template": "{{ messages }}",
}


def write(path: Path, *, size: int = 0, version: int = 3, **meta: Any) -> Path:
    """PLAIN with changes; a value of None leaves a key out; `size` pads the file to so many bytes."""
    merged = {**PLAIN, **{k.replace("__", "."): v for k, v in meta.items()}}
    pairs = {k: v for k, v in merged.items() if v is not None}
    data = struct.pack("<4sIQQ", b"GGUF", version, 0, len(pairs))
    data += b"".join(string(k) + value(v) for k, v in pairs.items())
    path.write_bytes(data.ljust(size, b"\0"))
    return path
