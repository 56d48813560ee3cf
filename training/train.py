"""Train the bundled language model on a CPU: `python -m training.train --minutes 60 --out DIR`.

The budget is wall time: the learning rate falls to zero when it ends. A checkpoint is written every five minutes, with an
evaluation on fresh samples; `--resume` goes on from the last one.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn

from training.batches import Batch, background, batches
from training.model import LlamaModel, Shape
from training.sentences import Sentences
from training.tokenizer import train_tokenizer

__all__ = ["main"]

ROWS, LENGTH, RATE, CHECK_SECONDS = 24, 384, 3e-3, 300.0
TOKENIZER_SEED, EVALUATION_SEED = 0, 999_983


def optimizers(model: LlamaModel) -> list[torch.optim.Optimizer]:
    """Muon for the hidden matrices, AdamW for the embedding and the norms."""
    hidden = [p for name, p in model.named_parameters() if p.dim() == 2 and "embd" not in name]
    rest = [p for name, p in model.named_parameters() if p.dim() != 2 or "embd" in name]
    return [
        torch.optim.Muon(hidden, lr=RATE, weight_decay=0.05, momentum=0.95, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=RATE, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def rate_at(done: float, step: int) -> float:
    """The share of the full rate: warm-up over 60 steps, flat, then linear to zero over the last half of the time."""
    return min(1.0, (step + 1) / 60) * min(1.0, max(0.0, (1 - done) / 0.5))


def loss_of(model: LlamaModel, hidden: Tensor, batch: Batch) -> Tensor:
    """Weighted mean over the tokens that count; only those are projected onto the vocabulary."""
    counted = batch.weights > 0
    each = F.cross_entropy(model.logits(hidden[counted]).float(), batch.targets[counted], reduction="none")
    weights = batch.weights[counted]
    return (each * weights).sum() / weights.sum()


@torch.no_grad()
def evaluate(model: LlamaModel, held: list[Batch]) -> tuple[float, float, float]:
    """Teacher-forced (answers exact, "no tool" recall, "no tool" precision) over the parts of `held`."""
    exact = total = hit = truth = claimed = 0
    for batch in held:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            right = model.logits(model(batch.ids, batch.positions, batch.mask())).argmax(-1)
        counted = batch.weights == 1.0
        for row in range(len(batch.ids)):
            keys = batch.groups[row] * 100 + batch.parts[row]
            for key in keys[counted[row]].unique():
                at = ((keys == key) & counted[row]).nonzero()[:, 0]
                good, first = right[row, at] == batch.targets[row, at], batch.targets[row, at[0]]
                total, exact = total + 1, exact + bool(good.all())
                none, said = int(first) == 7, int(right[row, at[0]]) == 7
                truth, claimed, hit = truth + none, claimed + said, hit + (none and said)
    return exact / total, hit / max(1, truth), hit / max(1, claimed)


class Clock:
    """Seconds trained so far, over all resumptions."""

    def __init__(self, minutes: float, spent: float) -> None:
        self.budget, self._began = 60 * minutes, time.monotonic() - spent

    @property
    def spent(self) -> float:
        return time.monotonic() - self._began


def train(model: LlamaModel, stream: Iterator[Batch], held: list[Batch], clock: Clock, out: Path, state: dict) -> None:
    tuned, fast, step = optimizers(model), torch.compile(model), state.get("step", 0)
    for optimizer, saved in zip(tuned, state.get("optimizers", ()), strict=False):
        optimizer.load_state_dict(saved)
    checked, tokens, began = clock.spent, 0, time.monotonic()
    for batch in stream:
        share = rate_at(clock.spent / clock.budget, step)
        for optimizer in tuned:
            for group in optimizer.param_groups:
                group["lr"] = RATE * share
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = loss_of(model, fast(batch.ids, batch.positions, batch.mask()), batch)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in tuned:
            optimizer.step()
            optimizer.zero_grad()
        step, tokens = step + 1, tokens + batch.ids.numel()
        if step % 10 == 0:
            speed = tokens / (time.monotonic() - began)
            print(f"{clock.spent / 60:5.1f} min  step {step}  loss {loss.item():.3f}  {speed:.0f} tokens/s", flush=True)
        over = clock.spent >= clock.budget
        if over or clock.spent - checked >= CHECK_SECONDS:
            checked = clock.spent
            exact, recall, precision = evaluate(model, held)
            print(f"      exact {exact:.3f}  no-tool recall {recall:.3f} precision {precision:.3f}", flush=True)
            state = {"model": model.state_dict(), "optimizers": [o.state_dict() for o in tuned], "step": step}
            torch.save({**state, "spent": clock.spent}, out / "checkpoint.tmp")
            (out / "checkpoint.tmp").replace(out / "checkpoint.pt")
        if over:
            return


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--resume", action="store_true")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(options.seed)
    path = options.out / "tokenizer.json"
    if not path.exists():
        train_tokenizer(Sentences().groups(TOKENIZER_SEED)).save(str(path))
    tokenizer = Tokenizer.from_file(str(path))
    model, state = LlamaModel(Shape()), {}
    if options.resume:
        state = torch.load(options.out / "checkpoint.pt")
        model.load_state_dict(state["model"])
    held = list(itertools.islice(batches(EVALUATION_SEED, tokenizer, 8, LENGTH), 6))
    stream = background(batches(options.seed + state.get("step", 0), tokenizer, ROWS, LENGTH))
    train(model, stream, held, Clock(options.minutes, state.get("spent", 0.0)), options.out, state)


if __name__ == "__main__":
    main()
