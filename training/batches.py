"""Packing: one list of tools serves several sentences of a row.

A row holds groups; a group is a prefix (the tools) and parts. A part attends to its own prefix and to itself, never to another
part, and its positions go on where the prefix ends, so each part computes exactly what it would compute alone.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch import Tensor

from training.dialect import answer_text, group_prefix, part_prompt, result_prompt
from training.sentences import Group, Part, Sentences

__all__ = ["Batch", "background", "batches", "encode_part"]

_WEIGHTS = (0.0, 0.1, 1.0)  # of the loss on tools, on sentences and results, on what the model writes


@dataclass(frozen=True, slots=True)
class Batch:
    """(rows, length) tensors: token ids, targets, loss weights, positions, group numbers, part numbers (0: the prefix)."""

    ids: Tensor
    targets: Tensor
    weights: Tensor
    positions: Tensor
    groups: Tensor
    parts: Tensor

    def mask(self) -> Tensor:
        """(rows, 1, length, length) booleans: may the token in the row see the one in the column?"""
        g, p = self.groups, self.parts
        same = (g[:, :, None] == g[:, None, :]) & ((p[:, None, :] == 0) | (p[:, :, None] == p[:, None, :]))
        causal = torch.ones(g.shape[1], g.shape[1], dtype=torch.bool).tril()
        return (same & causal)[:, None]

    def answers(self) -> Iterator[tuple[int, Tensor]]:
        """(row, columns) of what the model writes in each part."""
        for row, counted in enumerate(self.weights == 1.0):
            keys = self.groups[row] * 100 + self.parts[row]
            for key in keys[counted].unique():
                yield row, ((keys == key) & counted).nonzero()[:, 0]


def encode_part(tokenizer: Tokenizer, part: Part) -> tuple[list[int], list[float]]:
    """Ids of a part and the weight of each as a target."""
    ids, weights = _weighted(tokenizer, part_prompt(part), _WEIGHTS[1])
    pieces = [(answer_text(part), _WEIGHTS[2])]
    if part.wording:
        call = answer_text(part).removesuffix("<|end|>")  # the turn is not over when the call is written
        pieces = [(call, _WEIGHTS[2]), (result_prompt(part), _WEIGHTS[1]), (f"{part.wording}<|end|>", _WEIGHTS[2])]
    for text, weight in pieces:
        more, heavy = _weighted(tokenizer, text, weight)
        if text.startswith("<|tool|>"):
            heavy[0] = 0.0  # the model ends its call; the runtime goes on
        ids, weights = ids + more, weights + heavy
    return ids, weights


def _weighted(tokenizer: Tokenizer, text: str, weight: float) -> tuple[list[int], list[float]]:
    ids = tokenizer.encode(text).ids
    return ids, [weight] * len(ids)


class _Row:
    """One row being filled."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.columns: tuple[list[int], ...] = ([], [], [], [], [], [])
        self.group = 0

    def __len__(self) -> int:
        return len(self.columns[0])

    def add(self, ids: list[int], weights: list[float], start: int, part: int) -> None:
        """Targets are the next token of the same piece; the first of a part is predicted from nothing and does not count."""
        count = len(ids)
        targets, weighed = [*ids[1:], 0][:count], [*weights[1:], 0.0][:count]
        columns = (ids, targets, weighed, range(start, start + count), [self.group] * count)
        for column, values in zip(self.columns, (*columns, [part] * len(ids)), strict=True):
            column.extend(values)

    def finish(self) -> tuple[list[int], ...]:
        spare = self.length - len(self)
        self.group += 1
        self.add([0] * spare, [0.0] * spare, 0, 0)
        return self.columns


def _rows(groups: Iterator[Group], tokenizer: Tokenizer, length: int) -> Iterator[tuple[list[int], ...]]:
    row = _Row(length)
    for group in groups:
        prefix = tokenizer.encode(group_prefix(group)).ids
        parts = [encode_part(tokenizer, part) for part in group.parts]
        if len(row) + len(prefix) + len(parts[0][0]) > length:
            yield row.finish()
            row = _Row(length)
        if len(prefix) + len(parts[0][0]) > length:
            continue
        row.group += 1
        row.add(prefix, [_WEIGHTS[0]] * len(prefix), 0, 0)
        for number, (ids, weights) in enumerate(parts, 1):
            if len(row) + len(ids) > length:
                break
            row.add(ids, weights, len(prefix), number)


def batches(seed: int, tokenizer: Tokenizer, rows: int, length: int) -> Iterator[Batch]:
    """An endless stream of batches, the same for the same seed."""
    stream = _rows(Sentences().groups(seed), tokenizer, length)
    kinds = (torch.long, torch.long, torch.float32, torch.long, torch.int32, torch.int32)
    while True:
        columns = zip(*(next(stream) for _ in range(rows)), strict=True)
        yield Batch(*(torch.tensor(column, dtype=kind) for column, kind in zip(columns, kinds, strict=True)))


def background(stream: Iterator[Batch], ahead: int = 4) -> Iterator[Batch]:
    """Make batches on a thread while the model computes: matrix products hold no interpreter lock."""
    made: queue.Queue[Batch] = queue.Queue(maxsize=ahead)

    def work() -> None:
        for batch in stream:
            made.put(batch)

    threading.Thread(target=work, daemon=True).start()
    while True:
        yield made.get()
