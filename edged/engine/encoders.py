"""What is on disk of an encoder: a folder with `encoder.onnx`, `tokenizer.json`, and `reader.onnx` where it also reads arguments.

Nothing is parsed here beyond the few words of `model.json`: protocol buffers are the worker's to open, and to die of.
"""

from __future__ import annotations

import hashlib
import json
from importlib.resources import files
from pathlib import Path

from edged.domain.errors import ModelBroken
from edged.engine.catalog import ModelFacts

__all__ = ["PARTS", "describe_encoder", "need_of_encoder", "resolve_encoder", "stamp_of_encoder"]

_NEEDED = ("encoder.onnx", "tokenizer.json", "model.json")
PARTS = (*_NEEDED, "ground.onnx", "glance.onnx", "reader.onnx", "metric.npz", "words.npz", "usual.txt")
_PROCESS = (
    110 << 20
)  # Python, numpy, onnxruntime, tokenizers and the arithmetic's own buffers, as measured by `bench.intent`


def resolve_encoder(path: str) -> Path:
    """The folder of a spec's path; "bundled" is the one inside the package."""
    return Path(str(files("edged"))) / "models" / "intent" if path == "bundled" else Path(path)


def stamp_of_encoder(path: str) -> tuple[int, int]:
    """Bytes in all, and the time of the last change: other numbers when a file was replaced. Raises `ModelBroken`."""
    folder = resolve_encoder(path)
    try:
        stats = [(folder / name).stat() for name in PARTS if name in _NEEDED or (folder / name).exists()]
    except OSError as error:
        raise ModelBroken(f"cannot read the encoder {folder.name}: {error}", path=str(folder)) from error
    return sum(status.st_size for status in stats), max(status.st_mtime_ns for status in stats)


def describe_encoder(path: str) -> ModelFacts:
    """The facts of the folder; it reads all of the encoder for the digest. Raises `ModelBroken`."""
    folder = resolve_encoder(path)
    size, _ = stamp_of_encoder(path)
    try:
        facts = json.loads((folder / "model.json").read_text())
        width, longest = int(facts["width"]), int(facts["longest"])
        digest = _digest(folder / "encoder.onnx", folder / "tokenizer.json")
    except OSError as error:
        raise ModelBroken(f"cannot read the encoder {folder.name}: {error}", path=str(folder)) from error
    except (ValueError, KeyError, TypeError) as error:
        raise ModelBroken(f"{folder / 'model.json'} cannot be read: {error!r}", path=str(folder)) from error
    return ModelFacts(
        path=str(folder),
        name=str(facts.get("name", folder.name)),
        architecture="encoder",
        quantization=str(facts.get("quantization", "unknown")),
        context_length=longest,
        n_vocab=0,
        n_layer=0,
        n_embd=width,
        n_head_kv=0,
        head_dim_k=0,
        head_dim_v=0,
        file_bytes=size,
        chat_template="",
        dialect="none",
        digest=digest,
    )


def _digest(*files: Path) -> str:
    """Of what vectors depend on, in hex: vectors of encoders with the same digest can be compared."""
    made = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            made.update(hashlib.file_digest(stream, "sha256").digest())
    return made.hexdigest()


def need_of_encoder(facts: ModelFacts) -> int:
    """Bytes that it holds when resident."""
    return facts.file_bytes + _PROCESS
