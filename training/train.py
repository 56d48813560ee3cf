"""Train the bundled language model on a CPU: `python -m training.train --minutes 88 --out DIR`.

The budget is wall time: the learning rate falls to zero when it ends. A checkpoint is written every five minutes, with an
evaluation on fresh samples; `--resume` goes on from the last one.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections import Counter
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn

from training.batches import Batch, background, batches
from training.dialect import ESCALATE
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
def evaluate(model: LlamaModel, held: list[Batch], tokenizer: Tokenizer) -> dict[str, float]:
    """Teacher-forced shares over the parts of `held`: all right, the right tool among calls, "no tool" recall and precision."""
    escalate, arguments = tokenizer.token_to_id(ESCALATE), tokenizer.token_to_id("arguments")
    seen: Counter[str] = Counter()
    for batch in held:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            written = model.logits(model(batch.ids, batch.positions, batch.mask())).argmax(-1)
        for row, at in batch.answers():
            targets, made = batch.targets[row, at], written[row, at]
            none, said = bool(targets[0] == escalate), bool(made[0] == escalate)
            name = (targets == arguments).int().argmax()  # what stands before the arguments says which tool
            seen += Counter(
                exact=bool((made == targets).all()),
                tool=not none and bool((made[:name] == targets[:name]).all()),
                rightly=none and said,
            )
            seen.update(parts=1, calls=not none, none=none, said=said)
    pairs = {"exact": "parts", "tool": "calls", "recall": "none", "precision": "said"}
    return {
        key: seen["rightly" if key in ("recall", "precision") else key] / max(1, seen[of]) for key, of in pairs.items()
    }


class Clock:
    """Seconds trained so far, over all resumptions."""

    def __init__(self, minutes: float, spent: float) -> None:
        self.budget, self._began = 60 * minutes, time.monotonic() - spent

    @property
    def spent(self) -> float:
        return time.monotonic() - self._began

    @property
    def done(self) -> float:
        return self.spent / self.budget


class Run:
    """One training run in a folder: `tokenizer.json` and `checkpoint.pt`."""

    def __init__(self, folder: Path, minutes: float, seed: int, *, resume: bool) -> None:
        self.folder = folder
        self.tokenizer = self._tokenizer(folder / "tokenizer.json")
        torch.manual_seed(seed)
        self.model = LlamaModel(Shape())
        self.optimizers = optimizers(self.model)
        self.step, spent = 0, 0.0
        if resume:
            state = torch.load(folder / "checkpoint.pt")
            self.model.load_state_dict(state["model"])
            for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(saved)
            self.step, spent = state["step"], state["spent"]
        self.held = list(itertools.islice(batches(EVALUATION_SEED, self.tokenizer, 8, LENGTH), 6))
        self.stream = background(batches(seed + self.step, self.tokenizer, ROWS, LENGTH))
        self.clock = Clock(minutes, spent)

    def _tokenizer(self, path: Path) -> Tokenizer:
        if not path.exists():
            train_tokenizer(Sentences().groups(TOKENIZER_SEED)).save(str(path))
        return Tokenizer.from_file(str(path))

    def train(self) -> None:
        """Until the time is over."""
        fast = torch.compile(self.model)
        checked, tokens, began = self.clock.spent, 0, time.monotonic()
        for batch in self.stream:
            loss = self._learn(fast, batch)
            self.step, tokens = self.step + 1, tokens + batch.ids.numel()
            if self.step % 10 == 0:
                speed, minutes = tokens / (time.monotonic() - began), self.clock.spent / 60
                print(f"{minutes:5.1f} min  step {self.step}  loss {loss:.3f}  {speed:.0f} tokens/s", flush=True)
            over = self.clock.done >= 1
            if over or self.clock.spent - checked >= CHECK_SECONDS:
                checked = self.clock.spent
                self._check()
            if over:
                return

    def _learn(self, fast: nn.Module, batch: Batch) -> float:
        share = rate_at(self.clock.done, self.step)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = loss_of(self.model, fast(batch.ids, batch.positions, batch.mask()), batch)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = RATE * share
            optimizer.step()
            optimizer.zero_grad()
        return loss.item()

    def _check(self) -> None:
        shares = evaluate(self.model, self.held, self.tokenizer)
        print("     ", *(f"{name} {share:.3f}" for name, share in shares.items()), flush=True)
        state = {"model": self.model.state_dict(), "optimizers": [o.state_dict() for o in self.optimizers]}
        draft = self.folder / "checkpoint.tmp"
        torch.save({**state, "step": self.step, "spent": self.clock.spent}, draft)
        draft.replace(self.folder / "checkpoint.pt")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=62.0)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--resume", action="store_true")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    Run(options.out, options.minutes, options.seed, resume=options.resume).train()


if __name__ == "__main__":
    main()
