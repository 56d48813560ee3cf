"""Groups as tensors: sentences, cards, and where the right answers stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from edged.workers.wordpieces import Pieces
from training.intent.rows import Group

__all__ = ["Batch", "collate", "padded"]


@dataclass(slots=True)
class Batch:
    """G sentences, R rows (a sentence with one of its cards), P parameters at most, T tokens of the longest row.

    `owner` (R) is the sentence of a row; `act`, `part` (R) are 1 where that is right. `markers` (R, P) positions in the row. Of
    rows whose arguments are known: `start`, `end` (R, P) positions in the row, 0 for "not said", -100 for none; `option` (R, P)
    the same, -1 for "not said"; `candidates` (R, P, T) which positions of the row are its choices. `said` (R, T) are the
    sentence's own tokens, `same` (R, T) the words that stand in sentence and card.
    """

    sentences: list[tuple[int, ...]]
    cards: list[tuple[int, ...]]
    owner: Tensor
    act: Tensor
    part: Tensor
    markers: Tensor
    start: Tensor
    end: Tensor
    option: Tensor
    candidates: Tensor
    said: Tensor
    same: Tensor

    def lengths(self) -> list[int]:
        return [len(self.sentences[g]) + len(card) for g, card in zip(self.owner.tolist(), self.cards, strict=True)]

    def of(self, rows: Sequence[int]) -> Batch:
        """These rows alone, of all sentences."""
        at = torch.tensor(rows)
        tensors = (self.owner, self.act, self.part, self.markers, self.start, self.end, self.option, self.candidates)
        return Batch(
            self.sentences, [self.cards[r] for r in rows], *(t[at] for t in tensors), self.said[at], self.same[at]
        )


def collate(pieces: Pieces, groups: Sequence[Group]) -> Batch:
    """Groups whose right spans do not fit into the sentence's limit teach only the choice of the tool."""
    sentences = [pieces.sentence(group.sentence) for group in groups]
    rows = [(g, i) for g, group in enumerate(groups) for i in range(len(group.cards))]
    cards = [
        pieces.card(c.head, [(slot.text, slot.choices) for slot in c.slots]) for group in groups for c in group.cards
    ]
    owner = torch.tensor([g for g, _ in rows])
    heads = [len(sentences[g].ids) for g, _ in rows]
    count, places = len(rows), max(1, *(len(c.slots) for c in cards))
    width = max(head + len(c.ids) for head, c in zip(heads, cards, strict=True))
    markers = torch.zeros(count, places, dtype=torch.long)
    start, end, option = (torch.full((count, places), -100) for _ in range(3))
    candidates = torch.zeros(count, places, width, dtype=torch.bool)
    said, same = (torch.zeros(count, width, dtype=torch.bool) for _ in range(2))
    act, part = torch.zeros(count), torch.zeros(count)
    for r, ((g, i), tokens, head) in enumerate(zip(rows, cards, heads, strict=True)):
        group = groups[g]
        said[r, 1 : head - 1] = True
        in_sentence, in_card = pieces.same(sentences[g].ids, tokens.ids)
        same[r, :head], same[r, head : head + len(in_card)] = torch.tensor(in_sentence), torch.tensor(in_card)
        markers[r, : len(tokens.slots)] = torch.tensor(tokens.slots, dtype=torch.long) + head
        if i in group.right:
            (act if group.kind == "act" else part)[r] = 1
        if group.kind != "act" or i not in group.right:
            continue
        for p, choices in enumerate(tokens.choices):
            if choices:
                candidates[r, p, [c + head for c in choices]] = True
                option[r, p] = choices[group.options[p]] + head if p in group.options else -1
            else:
                start[r, p], end[r, p] = _tokens(sentences[g].offsets, group.spans.get(p))
    return Batch(
        [s.ids for s in sentences],
        [c.ids for c in cards],
        owner,
        act,
        part,
        markers,
        start,
        end,
        option,
        candidates,
        said,
        same,
    )


def _tokens(offsets: Sequence[tuple[int, int]], span: tuple[int, int] | None) -> tuple[int, int]:
    if span is None:
        return 0, 0
    inside = [t for t, (a, b) in enumerate(offsets) if b > a and a < span[1] and b > span[0]]
    if not inside or offsets[inside[-1]][1] < span[1]:
        return -100, -100
    return inside[0], inside[-1]


def padded(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Ids and mask (rows, longest)."""
    width = max(map(len, rows))
    ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    return ids, mask
