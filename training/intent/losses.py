"""What the reader is taught by: the choice among the cards of a sentence, and the pointers of the right card.

All cards go through the lower half. Through the upper one go the right card and the wrong ones that the lower half likes best, as
in service: most of the work is there, and the others would teach it nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from training.intent.batches import Batch, padded
from training.intent.network import WIDTH, Encoder, Reader

__all__ = ["losses"]

_INSIDE, _GLANCE = 4.0, 0.5
_HARD = 2  # rows of a sentence that go through the upper half, and more only if more are right
_NEVER = -1e4


def losses(reader: Reader, encoder: Encoder, batch: Batch, counts: Counter[str] | None = None) -> Tensor:
    """The choice among the cards of a sentence and "none", and the pointers of the right card."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        states, glance_act, glance_part = glance(reader, encoder, batch)
        worth = _worth(batch, torch.maximum(glance_act, glance_part))
        few = batch.of(worth)
        act, part, start, end, inside, absent, option = read(reader, few, [states[r] for r in worth])
    chosen = _choice(few, act, part, counts) + _GLANCE * _choice(batch, glance_act, glance_part, None)
    spans = _spans(few, start, end, absent, counts) + _insides(few, inside)
    options = _options(few, option, absent, counts)
    return chosen + spans + options


def glance(reader: Reader, encoder: Encoder, batch: Batch) -> tuple[list[Tensor], Tensor, Tensor]:
    """The lower half over all rows: states of each (its length, WIDTH), and the two scores (R)."""
    said, told = encoded(encoder, batch.sentences, 0), encoded(encoder, batch.cards, 1)
    owner, lengths = batch.owner.tolist(), batch.lengths()
    states: list[Tensor] = [torch.empty(0)] * len(lengths)
    scores: list[Tensor] = [torch.empty(0)] * len(lengths)
    for rows in _alike(lengths):
        h, mask = _stacked([torch.cat([said[owner[r]], told[r]]) for r in rows])
        sentence = torch.arange(h.shape[1])[None] < torch.tensor([len(said[owner[r]]) for r in rows])[:, None]
        low, top = h.split(WIDTH, -1)
        h, act, part = reader.first(reader.ground(low, top), mask, sentence, batch.same[rows, : h.shape[1]])
        for r, row, score in zip(rows, h, torch.stack([act, part], 1).float(), strict=True):
            states[r], scores[r] = row[: lengths[r]], score
    act, part = torch.stack(scores).unbind(1)
    return states, act, part


def _worth(batch: Batch, scores: Tensor) -> list[int]:
    """The right rows, and of each sentence the wrong ones that a glance likes best: the others teach the upper half nothing."""
    right = (batch.act + batch.part) > 0
    order = torch.argsort(scores.detach(), descending=True).tolist()
    left = Counter(dict.fromkeys(range(len(batch.sentences)), _HARD))
    left.subtract(batch.owner[right].tolist())
    chosen = [r for r in order if bool(right[r])]
    for r in order:
        if not right[r] and left[int(batch.owner[r])] > 0:
            left[int(batch.owner[r])] -= 1
            chosen.append(r)
    return sorted(chosen)


def read(reader: Reader, batch: Batch, states: Sequence[Tensor]) -> list[Tensor]:
    """The upper half's heads over all rows, from the states of the lower one, as float32."""
    lengths, width = batch.lengths(), batch.said.shape[1]
    order: list[int] = []
    found: list[list[Tensor]] = []
    for rows in _alike(lengths):
        h, mask = _stacked([states[r] for r in rows])
        heads = [x.float() for x in reader.second(h, mask, batch.markers[rows])]
        missing = width - h.shape[1]
        found.append([F.pad(x, (0, missing)) if i in (2, 3, 4, 6) else x for i, x in enumerate(heads)])
        order += rows
    back = torch.tensor(order).argsort()
    return [torch.cat(column)[back] for column in zip(*found, strict=True)]


def _alike(lengths: Sequence[int], pieces: int = 3) -> list[list[int]]:
    """Rows of like length together, for padding is most of the work otherwise."""
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    size = -(-len(order) // pieces)
    return [order[at : at + size] for at in range(0, len(order), size)]


def _stacked(rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Rows (L, width) -> (N, longest, width) and a mask (N, longest)."""
    h = torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True)
    return h, torch.arange(h.shape[1])[None] < torch.tensor([len(row) for row in rows])[:, None]


@torch.no_grad()
def encoded(encoder: Encoder, rows: Sequence[tuple[int, ...]], kind: int, size: int = 32) -> list[Tensor]:
    """States and tops of each row (S, 2 * WIDTH), without padding; equal rows are encoded once."""
    order = sorted(set(rows), key=len)
    found: dict[tuple[int, ...], Tensor] = {}
    for at in range(0, len(order), size):
        chunk = order[at : at + size]
        ids, mask = padded(chunk)
        states, tops, _ = encoder(ids, mask, torch.full_like(ids, kind))
        for row, h in zip(chunk, torch.cat([states, tops], -1), strict=True):
            found[row] = h[: len(row)]
    return [found[row] for row in rows]


def _choice(batch: Batch, act: Tensor, part: Tensor, counts: Counter[str] | None) -> Tensor:
    groups = len(batch.sentences)
    logits = torch.full((groups, 2 * len(act) + 1), float("-inf"))
    logits[:, 0] = 0.0  # none of them
    rows = torch.arange(len(act))
    logits = logits.index_put((batch.owner, 1 + rows), act).index_put((batch.owner, 1 + len(act) + rows), part)
    right = torch.zeros(groups, 2 * len(act) + 1)
    right[batch.owner, 1 + rows], right[batch.owner, 1 + len(act) + rows] = batch.act, batch.part
    right[:, 0] = (right.sum(1) == 0).float()
    chance = logits.log_softmax(1)
    if counts is not None:
        best = chance.argmax(1)
        hit = right[torch.arange(groups), best] > 0
        kinds = torch.where(right[:, 0] > 0, 0, torch.where(right[:, 1 : 1 + len(act)].any(1), 1, 2))
        for kind, ok in zip(kinds.tolist(), hit.tolist(), strict=True):
            counts[f"{('none', 'act', 'part')[kind]} all"] += 1
            counts[f"{('none', 'act', 'part')[kind]} right"] += ok
    return -(chance.masked_fill(right == 0, float("-inf")).logsumexp(1)).mean()


def _spans(batch: Batch, start: Tensor, end: Tensor, absent: Tensor, counts: Counter[str] | None) -> Tensor:
    taught = batch.start >= 0
    if not taught.any():
        return torch.zeros(())
    hidden = ~batch.said[:, None, :]
    total, hits = torch.zeros(()), torch.ones(int(taught.sum()), dtype=torch.bool)
    for scores, target in ((start, batch.start), (end, batch.end)):
        full = scores.masked_fill(hidden, _NEVER)
        full = torch.cat([absent[..., None], full[..., 1:]], -1)[taught]  # [CLS]'s place is "not said"
        total = total + F.cross_entropy(full, target[taught])
        hits &= full.argmax(-1) == target[taught]
    if counts is not None:
        counts["span all"] += len(hits)
        counts["span right"] += int(hits.sum())
    return total


def _insides(batch: Batch, inside: Tensor) -> Tensor:
    """Each word of the sentence belongs to the parameter or does not: many more lessons a sentence than its two ends."""
    taught = (batch.start >= 0)[..., None] & batch.said[:, None, :]
    if not taught.any():
        return torch.zeros(())
    places = torch.arange(inside.shape[2])
    within = (places >= batch.start[..., None]) & (places <= batch.end[..., None]) & (batch.start[..., None] > 0)
    loss = F.binary_cross_entropy_with_logits(inside[taught], within[taught].float())
    return _INSIDE * loss


def _options(batch: Batch, option: Tensor, absent: Tensor, counts: Counter[str] | None) -> Tensor:
    taught = batch.option >= -1
    if not taught.any():
        return torch.zeros(())
    scores = option[:, None, :].expand_as(batch.candidates).masked_fill(~batch.candidates, _NEVER)
    full, target = torch.cat([absent[..., None], scores], -1)[taught], batch.option[taught] + 1
    if counts is not None:
        counts["option all"] += len(target)
        counts["option right"] += int((full.argmax(-1) == target).sum())
    return F.cross_entropy(full, target)
