"""Where words of sentences meet words of tool cards: `python -m training.intent.shortlist [--models FOLDER]`.

A square matrix over the encoder's last states, from the identity, under which late interaction (`edged/workers/shortlist.py`)
finds the right one among the written tools. It runs on the shipped int8 encoder, so `export` comes first. It writes words.npz.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from edged.workers.encoding import Encoder, Floats
from training.intent.declared import declare
from training.intent.network import WIDTH
from training.intent.rows import Groups, read_fields
from training.material import Ask, Tool
from training.surface import dress

_SENTENCES, _CARDS = 7, 2  # of a tool
_FIELDS, _TOOLS, _BATCH = 3, 12, 16  # of a step: so many fields with at most so many tools each, and sentences
_RATE, _TIE = (
    3e-4,
    0.02,
)  # how much it costs to leave the identity: meaning is what the encoder learnt from more text than ours

Texts = list[NDArray[np.float16]]


class Material:
    """States of all words, by tool: `cards` (tools, _CARDS) and `sentences` (tools, _SENTENCES) of (S, WIDTH)."""

    def __init__(self, encoder: Encoder, rng: random.Random) -> None:
        fields = read_fields()
        groups = Groups.load(fields, {})
        self.homes: list[list[int]] = []
        self.cards: list[Texts] = []
        self.sentences: list[Texts] = []
        for field in fields:
            self.homes.append([*range(len(self.cards), len(self.cards) + len(field.tools))])
            for tool in field.tools:
                self._add(encoder, rng, groups, tool)

    def _add(self, encoder: Encoder, rng: random.Random, groups: Groups, tool: Tool) -> None:
        cards = [declare(rng, tool, groups.words).card.text for _ in range(_CARDS)]
        asks = [rng.choice(tool.asks) for _ in range(_SENTENCES)]
        said = [groups.say(rng, tool.params, Ask(dress(rng, a.text), a.fixed)) for a in asks]
        words = [states[1:-1].astype(np.float16) for states, _ in encoder.words([*cards, *said])]
        self.cards.append(words[:_CARDS])
        self.sentences.append(words[_CARDS:])


def train(material: Material, steps: int, rng: random.Random) -> Tensor:
    """The matrix (WIDTH, WIDTH)."""
    turn = nn.Linear(WIDTH, WIDTH, bias=False)
    nn.init.eye_(turn.weight)
    sharp = nn.Parameter(torch.tensor(3.0))
    optimizer = torch.optim.AdamW(
        [{"params": turn.parameters(), "lr": _RATE}, {"params": [sharp], "lr": 3e-3}], weight_decay=0
    )
    for step in range(steps):
        homes = rng.sample(material.homes, _FIELDS)
        pool = [tool for home in homes for tool in rng.sample(home, min(_TOOLS, len(home)))]
        meant = rng.sample(range(len(pool)), _BATCH)
        said, heard = _stacked([rng.choice(material.sentences[pool[at]]) for at in meant])
        told_, there = _stacked([rng.choice(material.cards[tool]) for tool in pool])
        said, told_ = F.normalize(turn(said), dim=-1), F.normalize(turn(told_), dim=-1)
        alike = torch.einsum("btd,kjd->bktj", said, told_).masked_fill(~there[None, :, None], -1).amax(-1)
        scores = (alike * heard[:, None]).sum(-1) / heard.sum(-1, keepdim=True)
        scores = (
            scores - scores.mean(0, keepdim=True).detach()
        )  # what a tool is to any sentence is taken off in service too
        loss = F.cross_entropy(scores * sharp.exp(), torch.tensor(meant))
        loss = loss + _TIE * (turn.weight - torch.eye(WIDTH)).pow(2).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 200 == 0:
            print(f"step {step} loss {loss.item():.3f}", flush=True)
    return turn.weight.detach()


def _stacked(texts: Sequence[NDArray[np.float16]]) -> tuple[Tensor, Tensor]:
    """(N, longest, WIDTH) and which are words (N, longest)."""
    rows = [torch.from_numpy(text.astype(np.float32)) for text in texts]
    stacked = nn.utils.rnn.pad_sequence(rows, batch_first=True)
    return stacked, torch.arange(stacked.shape[1])[None] < torch.tensor([len(row) for row in rows])[:, None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, default=Path("edged/models/intent"))
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=9)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    rng = random.Random(options.seed)
    matrix: Floats = train(Material(Encoder(options.models, 1), rng), options.steps, rng).numpy()
    np.savez(options.models / "words.npz", matrix=matrix.astype(np.float16))


if __name__ == "__main__":
    main()
