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
from training.intent.batches import collate
from training.intent.losses import losses
from training.intent.network import Encoder, Reader, read_weights
from training.intent.released import reader_weights
from training.intent.rows import Group, Groups, read_fields
from training.material import Field, Tool, slots

_BODY_RATE, _HEAD_RATE = 1.8e-4, 1e-3
_TOGETHER = 4  # sentences over the same cards
_FALL = 0.4  # of the time, in which the rates fall to zero


@torch.no_grad()
def neighbours(fields: Sequence[Field], encoder: Encoder, pieces: Pieces) -> dict[str, list[Tool]]:
    """For each tool the others it may be listed with: its field's, nearest first, then some of other fields, surely different."""
    homes, tools, vectors = [], [], []
    for f in fields:
        for tool in f.tools:
            texts = [a.text for a in tool.asks[:4]] + [tool.names[0].replace("_", " "), tool.abouts[0]]
            texts = [t.format_map({key: key.replace("_", " ") for key in slots(t)}) for t in texts]
            tokens = [pieces.sentence(t) for t in texts]
            width = max(len(t.ids) for t in tokens)
            ids = torch.tensor([[*t.ids, *[0] * (width - len(t.ids))] for t in tokens])
            mask = torch.tensor([[1] * len(t.ids) + [0] * (width - len(t.ids)) for t in tokens])
            homes.append(f.name)
            tools.append(tool)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                units = encoder(ids, mask, torch.zeros_like(ids))[2]
            vectors.append(F.normalize(units.float().mean(0), dim=0))
    likeness = torch.stack(vectors) @ torch.stack(vectors).T
    found: dict[str, list[Tool]] = {}
    for i, (home, tool) in enumerate(zip(homes, tools, strict=True)):
        order = likeness[i].argsort(descending=True).tolist()
        own = [tools[j] for j in order if j != i and homes[j] == home]
        far = [tools[j] for j in order if homes[j] != home and likeness[i, j] < 0.58][:12]
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
        known = reader_weights(options.resume) if options.resume.is_dir() else torch.load(options.resume)
        reader.load_state_dict(_grown(known, reader))
    fields = read_fields()
    groups = Groups.load(fields, neighbours(fields, encoder, pieces))
    rng = random.Random(1000 * rank + options.seed)
    check = [groups.group(random.Random(10_000 + i)) for i in range(400)]
    heads = [p for n, p in reader.named_parameters() if not n.startswith(("layers.", "rise.", "same"))]
    body = [*reader.layers.parameters(), *reader.rise.parameters(), reader.same]
    optimizer = torch.optim.AdamW([{"params": body}, {"params": heads}], weight_decay=0.01)
    parameters, size = list(reader.parameters()), options.sentences // options.processes
    step, running = 0, 0.0
    while together.done < 1:
        batch = [group for _ in range(size // _TOGETHER) for group in groups.company(rng, _TOGETHER)]
        loss = losses(reader, encoder, collate(pieces, batch))
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
    parser.add_argument(
        "--resume", type=Path, help="go on from this: steady.pt of a run, or the folder of a released reader"
    )
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
