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

from training.sentences import Group, Part, Sentences
from training.tokenizer import answer_text, group_prefix, part_prompt

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


def encode_part(tokenizer: Tokenizer, part: Part) -> tuple[list[int], list[float]]:
    """Ids of a part and the weight of each as a target."""
    pieces = [(part_prompt(part), _WEIGHTS[1]), (answer_text(part), _WEIGHTS[2])]
    if part.wording:
        pieces += [(f"<|tool|>{part.result}<|assistant|>", _WEIGHTS[1]), (f"{part.wording}<|end|>", _WEIGHTS[2])]
    ids, weights = [], []
    for text, weight in pieces:
        if text.startswith("<|tool|>"):  # the template shows the call without its end mark
            ids.pop(), weights.pop()
        piece = tokenizer.encode(text).ids
        ids += piece
        weights += [weight] * len(piece)
    return ids, weights


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
        columns = (ids, [*ids[1:], 0][: len(ids)], [*weights[1:], 0.0][: len(ids)], range(start, start + len(ids)), [self.group] * len(ids))
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


