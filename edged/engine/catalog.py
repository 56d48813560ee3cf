"""What is on disk, read without loading it: a GGUF's metadata, its digest, and what the model will need.

The rule: stdlib only and no array kept, since this runs in the daemon. The layout is that of ggml's docs/gguf.md, version
2 and 3: magic, version, counts of tensors and of key-values, then key-values. Everything blocking; call it in a thread.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any, BinaryIO

from edged.domain.errors import ModelBroken
from edged.domain.resources import ModelSpec
from edged.engine.header import HeaderReader

__all__ = ["ModelFacts", "Need", "check_tensors", "describe", "need", "resolve"]

_LARGEST = 1 << 31
# llama.cpp's enum llama_ftype; what is not here is named by its number.
_QUANTIZATIONS = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S", 12: "Q3_K_M",
    13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K", 19: "IQ2_XXS", 20: "IQ2_XS",
    23: "IQ3_XXS", 25: "IQ4_NL", 30: "IQ4_XS", 32: "BF16",
}  # fmt: skip
# What in a chat template tells a family's way of writing tool calls (`agent/dialects`): all of the first texts and none of the
# second. The first row that fits counts; a template that nothing fits is told to write JSON.
_DIALECTS: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("edged", ("<escalate>",), ()),
    ("edged", ("<|tools|>",), ()),
    ("functiongemma", ("<start_function_call>",), ()),
    ("gemma4", ("<|tool_call>call:",), ()),
    ("mistral_args", ("[TOOL_CALLS]", "[ARGS]"), ()),
    ("mistral", ("[TOOL_CALLS]",), ()),
    ("granite3", ("<|tool_call|>", "<|start_of_role|>"), ()),
    ("phi4", ("<|tool|>", "<|/tool|>"), ()),
    ("functools", ("functools[",), ()),
    # others put a function's name or one argument a line between the same marks, or a list
    ("hermes", ("<tool_call>", '"arguments":'), ("<function=", "<arg_key>", "<tool_calls>")),
    ("gemma", ("<start_of_turn>",), ()),
    ("smollm3", ("SmolLM", "/no_think"), ()),
    ("smollm2", ("SmolLM",), ()),
    ("llama3", ('{"name": function name, "parameters":',), ()),
    ("llama3", ("<|python_tag|>",), ("<function=",)),
)
_KV_BYTES = {"f16": 2.0, "q8_0": 34 / 32, "q4_0": 18 / 32}  # an element, its share of the block's scale included
_PROCESS = 48 << 20  # the worker itself: Python, numpy, llguidance and llama.cpp's code
_WORD = 640  # a token of the vocabulary in llama.cpp's tables and the grammar's: 100 MB for Qwen2's 152k


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What a GGUF file says of itself.

    `context_length` is what it was trained for (tokens); `n_head_kv` is the sum over all layers; head dimensions are
    elements; `digest` is the file's sha256 in hex; `dialect` is how it writes tool calls ("edged", "hermes", ..., "json").
    """

    path: str
    name: str
    architecture: str
    quantization: str
    context_length: int
    n_vocab: int
    n_layer: int
    n_embd: int
    n_head_kv: int
    head_dim_k: int
    head_dim_v: int
    file_bytes: int
    chat_template: str
    dialect: str
    digest: str


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes that a resident model holds: weights, KV cache, and compute (graph buffers, and the process around them)."""

    weights: int
    kv: int
    compute: int

    @property
    def total(self) -> int:
        return self.weights + self.kv + self.compute


def resolve(path: str) -> Path:
    """The file of a spec's path; "bundled" is the model inside the package."""
    return Path(str(files("edged"))) / "models" / "edged-bundled.gguf" if path == "bundled" else Path(path)


def describe(path: str, state_dir: Path | None = None, digest: str | None = None) -> ModelFacts:
    """Read a file's metadata and digest. Raises `ModelBroken`.

    The digest of a large file takes seconds, so it is remembered in `state_dir`/digests.json by path, size and mtime. With
    `digest` it is taken as said, "" for a look at the metadata alone.
    """
    with _readable(path) as (file, stream, status):
        meta = HeaderReader(stream, status.st_size).metadata()
        known = _digest(file, status, state_dir) if digest is None else digest
        return _facts(file, meta, status.st_size, known)


def check_tensors(path: str) -> None:
    """Is every tensor of the file in it, whole? Raises `ModelBroken`."""
    with _readable(path) as (_, stream, status):
        reader = HeaderReader(stream, status.st_size)
        meta = reader.metadata()
        if meta.get("split.count", 0) not in (0, 1):
            raise ValueError(f"it is one of {str(meta['split.count'])[:20]} files of a model; join them")
        last = max(reader.tensors(), key=lambda tensor: tensor.offset + tensor.size)
        if last.offset + last.size > status.st_size - reader.data_begins(meta):
            raise EOFError(f"it ends before its tensor {last.name[:40]!r} does")


@contextlib.contextmanager
def _readable(path: str) -> Iterator[tuple[Path, BinaryIO, os.stat_result]]:
    """What goes wrong while it is read becomes `ModelBroken`."""
    file = resolve(path)
    try:
        with open(file, "rb", opener=_opener) as stream:
            yield file, stream, os.fstat(stream.fileno())
    except OSError as error:
        raise ModelBroken(f"cannot read the model {file.name}: {error.strerror}", path=str(file)) from error
    except (struct.error, ValueError, TypeError, OverflowError, EOFError) as error:
        raise ModelBroken(f"{file.name} is not a GGUF file that can be read: {error}", path=str(file)) from error


def _opener(path: str, flags: int) -> int:
    """Only a plain file: a pipe would be waited for."""
    fd = os.open(path, flags | os.O_NONBLOCK)
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    raise ValueError("it is no plain file")


def need(facts: ModelFacts, spec: ModelSpec) -> Need:
    """What the model will hold when resident, in bytes. Compute is two activations' worth of the widest rows, a row of logits for
    each stream, and the tables of the vocabulary."""
    context = min(spec.context_length or facts.context_length, facts.context_length)
    cells = max(spec.cache_length, context)
    batch = min(spec.batch_size, cells)
    kv = int(cells * facts.n_head_kv * (facts.head_dim_k + facts.head_dim_v) * _KV_BYTES[spec.kv_type])
    compute = 4 * (spec.streams * facts.n_vocab + batch * facts.n_embd * 12) + 4 * batch * cells
    return Need(facts.file_bytes, kv, compute + _PROCESS + _WORD * facts.n_vocab)


def _facts(file: Path, meta: dict[str, Any], size: int, digest: str) -> ModelFacts:
    arch = meta.get("general.architecture", "")
    if not arch or not isinstance(arch, str):
        raise ModelBroken(f"{file.name} does not name its architecture", path=str(file))

    def number(key: str, default: int = 0) -> int:
        value = meta.get(f"{arch}.{key}", default)
        return _count(key, max(map(partial(_count, key), value), default=0) if isinstance(value, list) else value)

    layers, heads, width = number("block_count"), number("attention.head_count", 1), number("embedding_length")
    per_layer = meta.get(f"{arch}.attention.head_count_kv", heads)
    in_all = (
        sum(map(partial(_count, "head_count_kv"), per_layer)) if isinstance(per_layer, list) else per_layer * layers
    )
    head = width // max(1, heads)
    template = str(meta.get("tokenizer.chat_template", ""))
    kind = int(meta.get("general.file_type", -1))
    return ModelFacts(
        path=str(file),
        name="".join(c if c.isprintable() else "?" for c in str(meta.get("general.name", file.stem))[:200]),
        architecture=arch,
        quantization=_QUANTIZATIONS.get(kind, f"type {kind}" if kind >= 0 else "unknown"),
        context_length=number("context_length"),
        n_vocab=_count("tokens", meta.get("tokenizer.ggml.tokens", 0)),
        n_layer=layers,
        n_embd=width,
        n_head_kv=_count("head_count_kv", in_all),
        head_dim_k=number("attention.key_length", head),
        head_dim_v=number("attention.value_length", head),
        file_bytes=size,
        chat_template=template,
        dialect=_dialect(template, meta),
        digest=digest,
    )


def _count(name: str, value: Any) -> int:
    if not isinstance(value, (int, float)) or not math.isfinite(value) or not 0 <= value < _LARGEST:
        raise ValueError(f"its {name} is {str(value)[:40]!r}")
    return int(value)


def _dialect(template: str, meta: dict[str, Any]) -> str:
    """What the file says itself, else what its template gives away."""
    stated = meta.get("edged.dialect")
    if stated:
        return str(stated)
    plain = template.replace('\\"', '"')  # templates quote their own strings
    rows = (
        name for name, has, lacks in _DIALECTS if all(m in plain for m in has) and not any(m in plain for m in lacks)
    )
    return next(rows, "json")


def _digest(file: Path, status: os.stat_result, state_dir: Path | None) -> str:
    key = [str(file), status.st_size, status.st_mtime_ns]
    cache = None if state_dir is None else state_dir / "digests.json"
    known = _remembered(cache)
    for path, size, mtime, digest in known:
        if [path, size, mtime] == key:
            return str(digest)
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if cache is not None:
        rows = [row for row in known if row[0] != str(file)] + [[*key, digest]]
        cache.parent.mkdir(parents=True, exist_ok=True)
        temporary = cache.with_suffix(".tmp")
        temporary.write_text(json.dumps(rows))
        temporary.replace(cache)
    return digest


def _remembered(cache: Path | None) -> list[list[Any]]:
    """The remembered rows [path, size, mtime_ns, digest]; a damaged file is only a slower start."""
    if cache is None:
        return []
    try:
        rows = json.loads(cache.read_text())
    except (OSError, ValueError):
        return []
    return [row for row in rows if isinstance(row, list) and len(row) == 4] if isinstance(rows, list) else []
