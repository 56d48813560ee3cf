"""Texts to states and vectors: one onnxruntime session as a device wants it, and what is made of its numbers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read when the library is loaded

import numpy as np
from numpy.typing import NDArray

from edged.domain.errors import ModelBroken
from edged.workers.wordpieces import Pieces

__all__ = ["CARD", "SENTENCE", "Encoder", "Floats", "features_of", "session"]

Floats = NDArray[np.float32]
SENTENCE, CARD = 0, 1
_LONGEST_TEXT = 256  # tokens of a text to embed
_BATCH = 768  # tokens


def session(file: Path, threads: int) -> Any:
    """An onnxruntime session as a device wants it. Raises `ModelBroken`."""
    import onnxruntime as ort

    settings = ort.SessionOptions()
    settings.intra_op_num_threads, settings.inter_op_num_threads = threads, 1
    settings.enable_cpu_mem_arena = settings.enable_mem_pattern = False
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    settings.log_severity_level = 4  # what goes wrong is raised; the library would also print it
    try:
        return ort.InferenceSession(str(file), settings, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own exceptions share no base class
        raise ModelBroken(f"onnxruntime cannot load {file.name}: {str(error)[:200]}", path=str(file)) from None


class Encoder:
    """Texts to states and unit vectors."""

    def __init__(self, folder: Path, threads: int) -> None:
        try:
            self.pieces = Pieces(str(folder / "tokenizer.json"))
        except Exception as error:  # the tokenizers library raises bare Exception
            raise ModelBroken(
                f"cannot read {folder / 'tokenizer.json'}: {str(error)[:200]}", path=str(folder)
            ) from None
        self._session = session(folder / "encoder.onnx", threads)

    def run(self, rows: list[tuple[int, ...]], kind: int, *outputs: str) -> list[Floats]:
        """Of token rows each of `outputs`: "states" and "tops" (B, S, width), a low and the last layer's, "vector" (B, width)."""
        width = max(map(len, rows))
        ids = np.zeros((len(rows), width), np.int64)
        mask = np.zeros_like(ids)
        for at, row in enumerate(rows):
            ids[at, : len(row)], mask[at, : len(row)] = row, 1
        found: list[Floats] = self._session.run(
            list(outputs), {"ids": ids, "mask": mask, "kind": np.full_like(ids, kind)}
        )
        return found

    def embed(self, texts: list[str]) -> Floats:
        """Unit vectors (len(texts), width)."""
        return _stacked([vector for (vector,) in self._each(texts, "vector")])

    def features(self, texts: list[str]) -> Floats:
        """As `features_of`, (len(texts), 2 * width)."""
        return _stacked([features_of(states, vector) for states, vector in self._each(texts, "states", "vector")])

    def words(self, texts: list[str]) -> list[tuple[Floats, Floats]]:
        """Of each text its tokens' states in the last layer (S, width), and its `features_of` (2 * width)."""
        found = self._each(texts, "states", "tops", "vector")
        return [(tops, features_of(states, vector)) for states, tops, vector in found]

    def _each(self, texts: list[str], *outputs: str) -> list[list[Floats]]:
        """The outputs of each text without padding; short texts are batched with short ones, `_BATCH` tokens at a time."""
        tokens = [self.pieces.sentence(text, _LONGEST_TEXT).ids for text in texts]
        order = sorted(range(len(tokens)), key=lambda i: len(tokens[i]))
        found: list[list[Floats]] = [[]] * len(tokens)
        while order:
            size = max(1, _BATCH // len(tokens[order[-1]]))
            order, chunk = order[:-size], order[-size:]
            for i, *rows in zip(chunk, *self.run([tokens[i] for i in chunk], SENTENCE, *outputs), strict=True):
                found[i] = [row[: len(tokens[i])] if row.ndim > 1 else row for row in rows]
        return found


def _stacked(rows: list[Floats]) -> Floats:
    return np.stack(rows) if rows else np.empty((0, 0), np.float32)


def features_of(states: Floats, vector: Floats) -> Floats:
    """What `fewshot` learns from: a text's unit vector, and the unit mean of its `states` (S, width) but [CLS] and [SEP]."""
    low = (states[1:-1] if len(states) > 2 else states).mean(axis=0)
    return np.concatenate([vector, low / np.linalg.norm(low)])
