"""Train the reader: `python -m training.intent.train --encoder FOLDER --minutes 80 --out FOLDER`.

The encoder and its lowest layers stay as they are; only the reader's own layers and heads learn, so choosing by meaning is kept.
"""

from __future__ import annotations

import argparse
import os
import random
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.multiprocessing
import torch.nn.functional as F
from torch import Tensor, nn

from edged.workers.wordpieces import Pieces
from training.intent.batches import Batch, collate, padded
from training.intent.network import Encoder, Reader, read_weights
from training.intent.rows import Group, Groups, read_fields
from training.material import Field, Tool, slots

_BODY_RATE, _HEAD_RATE = 1.2e-4, 1e-3
_INSIDE, _GLANCE = 4.0, 0.5
_FALL = 0.4  # of the time, in which the rates fall to zero
_NEVER = -1e4


def losses(reader: Reader, encoder: Encoder, batch: Batch, counts: Counter[str] | None = None) -> Tensor:
    """The choice among the cards of a sentence and "none", and the pointers of the right card."""
    act, part, start, end, inside, absent, option, glance_act, glance_part = read(reader, encoder, batch)
    chosen = _choice(batch, act, part, counts) + _GLANCE * _choice(batch, glance_act, glance_part, None)
    spans = _spans(batch, start, end, absent, counts) + _insides(batch, inside)
    options = _options(batch, option, absent, counts)
    return chosen + spans + options


def read(reader: Reader, encoder: Encoder, batch: Batch, pieces: int = 3) -> list[Tensor]:
    """All heads over all rows, as float32; rows of like length together, for padding is most of the work otherwise."""
    owner, lengths = batch.owner.tolist(), batch.lengths()
    width, order = batch.said.shape[1], sorted(range(len(lengths)), key=lengths.__getitem__)
    found: list[list[Tensor]] = []
    with torch.autocast("cpu", dtype=torch.bfloat16):
        said, told = lowered(encoder, batch.sentences, 0), lowered(encoder, batch.cards, 1)
        size = -(-len(order) // pieces)
        for at in range(0, len(order), size):
            rows = order[at : at + size]
            states = [torch.cat([said[owner[r]], told[r]]) for r in rows]
            h = torch.nn.utils.rnn.pad_sequence(states, batch_first=True)
            mask = torch.arange(h.shape[1])[None] < torch.tensor([lengths[r] for r in rows])[:, None]
            sentence = torch.arange(h.shape[1])[None] < torch.tensor([len(said[owner[r]]) for r in rows])[:, None]
            heads = [x.float() for x in reader(h, mask, sentence, batch.markers[rows])]
            missing = width - h.shape[1]
            found.append([F.pad(x, (0, missing)) if i in (2, 3, 4, 6) else x for i, x in enumerate(heads)])
    back = torch.tensor(order).argsort()
    return [torch.cat(column)[back] for column in zip(*found, strict=True)]


@torch.no_grad()
def lowered(encoder: Encoder, rows: Sequence[Sequence[int]], kind: int, size: int = 32) -> list[Tensor]:
    """States of each row, without padding."""
    order = sorted(range(len(rows)), key=lambda r: len(rows[r]))
    states: list[Tensor] = [torch.empty(0)] * len(rows)
    for at in range(0, len(order), size):
        chunk = order[at : at + size]
        ids, mask = padded([rows[r] for r in chunk])
        h = encoder.lower(ids, mask, torch.full_like(ids, kind))
        for r, state in zip(chunk, h, strict=True):
            states[r] = state[: len(rows[r])]
    return states


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


@torch.no_grad()
def neighbours(fields: Sequence[Field], encoder: Encoder, pieces: Pieces) -> dict[str, list[Tool]]:
    """For each tool the others it may be listed with: its field's, nearest first, then some of other fields, surely different."""
    homes, tools, vectors = [], [], []
    for f in fields:
        for tool in f.tools:
            texts = [a.text for a in tool.asks[:16]] + [n.replace("_", " ") for n in tool.names] + list(tool.abouts)
            texts = [t.format_map({key: key.replace("_", " ") for key in slots(t)}) for t in texts]
            tokens = [pieces.sentence(t) for t in texts]
            width = max(len(t.ids) for t in tokens)
            ids = torch.tensor([[*t.ids, *[0] * (width - len(t.ids))] for t in tokens])
            mask = torch.tensor([[1] * len(t.ids) + [0] * (width - len(t.ids)) for t in tokens])
            homes.append(f.name)
            tools.append(tool)
            vectors.append(F.normalize(encoder(ids, mask, torch.zeros_like(ids))[2].mean(0), dim=0))
    likeness = torch.stack(vectors) @ torch.stack(vectors).T
    found: dict[str, list[Tool]] = {}
    for i, (home, tool) in enumerate(zip(homes, tools, strict=True)):
        order = likeness[i].argsort(descending=True).tolist()
        own = [tools[j] for j in order if j != i and homes[j] == home]
        far = [tools[j] for j in order if homes[j] != home and likeness[i, j] < 0.5][:12]
        found[f"{home}.{tool.key}"] = [*own[:20], *far]
    return found


class Together:
    """Gradients and the clock of several processes, one a core: two threads of one process wait for each other most of the time."""

    def __init__(self, rank: int, options: argparse.Namespace) -> None:
        self.rank, self._count = rank, options.processes
        self._began, self._seconds = time.monotonic(), 60 * options.minutes
        self.done = 0.0
        if self._count > 1:
            torch.set_num_threads(1)
            meeting = (options.out / "meeting").absolute()
            torch.distributed.init_process_group("gloo", f"file://{meeting}", rank=rank, world_size=self._count)

    @property
    def minutes(self) -> float:
        return (time.monotonic() - self._began) / 60

    def share(self, parameters: Sequence[nn.Parameter]) -> None:
        """Average the gradients; and all agree on how much of the time is over, or they would not end at the same step."""
        done = (time.monotonic() - self._began) / self._seconds
        if self._count == 1:
            self.done = done
            return
        for p in parameters:  # a batch without a choice gives that head no gradient, and all must send the same
            if p.grad is None:
                p.grad = torch.zeros_like(p)
        flat = torch.cat([*(p.grad.flatten() for p in parameters if p.grad is not None), torch.tensor([done])])
        torch.distributed.all_reduce(flat)
        flat /= self._count
        at = 0
        for p in parameters:
            if p.grad is not None:
                p.grad.copy_(flat[at : at + p.numel()].view_as(p))
                at += p.numel()
        self.done = float(flat[-1])


def work(rank: int, options: argparse.Namespace) -> None:
    """One process of the run; the first one reports and saves."""
    together = Together(rank, options)
    torch.manual_seed(options.seed)
    encoder = read_weights(options.encoder / "model.safetensors")
    pieces = Pieces(str(options.encoder / "tokenizer.json"))
    reader = Reader(encoder)
    if options.resume:
        reader.load_state_dict(_grown(torch.load(options.resume), reader))
    fields = read_fields()
    groups = Groups.load(fields, neighbours(fields, encoder, pieces))
    rng = random.Random(1000 * rank + options.seed)
    check = [groups.group(random.Random(10_000 + i)) for i in range(400)]
    heads = [p for n, p in reader.named_parameters() if not n.startswith("layers.")]
    optimizer = torch.optim.AdamW([{"params": reader.layers.parameters()}, {"params": heads}], weight_decay=0.01)
    parameters, size = list(reader.parameters()), options.sentences // options.processes
    step, running = 0, 0.0
    while together.done < 1:
        loss = losses(reader, encoder, collate(pieces, [groups.group(rng) for _ in range(size)]))
        loss.backward()
        before = together.done
        together.share(parameters)
        for part, rate in zip(optimizer.param_groups, (_BODY_RATE, _HEAD_RATE), strict=True):
            part["lr"] = rate * min(1.0, (step + 1) / 60, max(0.02, (1 - together.done) / _FALL))
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        step, running = step + 1, 0.98 * running + 0.02 * loss.item()
        if rank == 0 and before <= 1 - _FALL < together.done:
            save(reader, options.out / "steady.pt")
        if rank == 0 and step % 300 == 0:
            head = f"step {step} {together.minutes:.1f} min loss {running:.3f}"
            report(reader, encoder, pieces, check, head)
            save(reader, options.out / "reader.pt")
    if rank == 0:
        report(reader, encoder, pieces, check, f"end, step {step}")
        save(reader, options.out / "reader.pt")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoder", type=Path, required=True, help="folder with model.safetensors and tokenizer.json")
    parser.add_argument("--minutes", type=float, default=90)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--sentences", type=int, default=40, help="a step, of all processes together")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--resume", type=Path, help="a checkpoint to go on from (one before the rate fell: steady.pt)")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "meeting").unlink(missing_ok=True)
    if options.processes == 1:
        work(0, options)
    else:
        torch.multiprocessing.spawn(work, (options,), options.processes)


def _grown(state: dict[str, Tensor], reader: Reader) -> dict[str, Tensor]:
    """A checkpoint from before a head was there, with that head as it begins."""
    own = reader.state_dict()
    return {**own, **{name: weights for name, weights in state.items() if name in own}}


@torch.no_grad()
def report(reader: Reader, encoder: Encoder, pieces: Pieces, groups: Sequence[Group], head: str) -> None:
    """Shares right: of sentences by kind, and of parameters read exactly, on fresh samples of `groups`."""
    reader.eval()
    counts: Counter[str] = Counter()
    for i in range(0, len(groups), 32):
        losses(reader, encoder, collate(pieces, groups[i : i + 32]), counts)
    kinds = ("act", "none", "part", "span", "option")
    print(head, " ".join(f"{k} {counts[f'{k} right'] / max(1, counts[f'{k} all']):.3f}" for k in kinds), flush=True)
    reader.train()


def save(reader: Reader, to: Path) -> None:
    temporary = to.with_suffix(".tmp")
    torch.save(reader.state_dict(), temporary)
    temporary.replace(to)


if __name__ == "__main__":
    main()
