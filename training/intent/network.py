"""The encoder (a BERT of six layers) and the reader that branches off it, a cross-encoder that chooses and points.

Sentence and tool card go through the encoder apart, so cards are encoded once, when tools change, and the sentence once for both
uses; it stays frozen. The reader has layers of its own over sentence and card together. They begin from the encoder's low states,
which know the words, and from its last ones, which know what they mean.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["SHARED_LAYERS", "WIDTH", "Encoder", "Layer", "Reader", "read_weights"]

WIDTH, HEADS, INNER, LAYERS, VOCABULARY, POSITIONS = 384, 12, 1536, 6, 30522, 512
SHARED_LAYERS = 2
_FIRST = 2  # of the reader's own layers
_EPSILON = 1e-12


class Layer(nn.Module):
    """Post-norm transformer layer, in BERT's tensor shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, INNER), nn.Linear(INNER, WIDTH)
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH, _EPSILON), nn.LayerNorm(WIDTH, _EPSILON)

    def forward(self, h: Tensor, bias: Tensor) -> Tensor:
        """h (B, S, WIDTH); bias (B, 1, 1, S): 0 where there is a token, very negative where there is none."""
        q, k, v = self.qkv(h).view(*h.shape[:2], 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
        return self._mix(h, q, k, v, bias)

    def at(self, places: Tensor, h: Tensor, bias: Tensor) -> Tensor:
        """The same, of `places` (B, Q) alone: (B, Q, WIDTH)."""
        own = _gather(h, places)
        weight, bias_of_q = self.qkv.weight, self.qkv.bias
        q = F.linear(own, weight[:WIDTH], bias_of_q[:WIDTH]).view(*own.shape[:2], HEADS, -1).permute(0, 2, 1, 3)
        k, v = F.linear(h, weight[WIDTH:], bias_of_q[WIDTH:]).view(*h.shape[:2], 2, HEADS, -1).permute(2, 0, 3, 1, 4)
        return self._mix(own, q, k, v, bias)

    def _mix(self, h: Tensor, q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
        scores = q @ k.transpose(-1, -2) / math.sqrt(WIDTH // HEADS) + bias
        mixed = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
        h = self.norm1(h + self.out(mixed))
        return self.norm2(h + self.down(F.gelu(self.up(h))))


class Encoder(nn.Module):
    """all-MiniLM-L6-v2, split in two after `SHARED_LAYERS`."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.positions, self.kinds = (nn.Embedding(n, WIDTH) for n in (VOCABULARY, POSITIONS, 2))
        self.norm = nn.LayerNorm(WIDTH, _EPSILON)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))

    def lower(self, ids: Tensor, mask: Tensor, kind: Tensor) -> Tensor:
        """ids, mask, kind (B, S) -> states (B, S, WIDTH) after the shared layers."""
        h = self.words(ids) + self.positions.weight[: ids.shape[1]] + self.kinds(kind)
        h = self.norm(h)
        for layer in self.layers[:SHARED_LAYERS]:
            h = layer(h, bias_of(mask))
        return h

    def upper(self, states: Tensor, mask: Tensor) -> Tensor:
        """states of `lower` -> those of the last layer, likewise (B, S, WIDTH)."""
        for layer in self.layers[SHARED_LAYERS:]:
            states = layer(states, bias_of(mask))
        return states

    def forward(self, ids: Tensor, mask: Tensor, kind: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """-> states (B, S, WIDTH) of `lower`, tops (B, S, WIDTH) of `upper`, unit vectors (B, WIDTH)."""
        states = self.lower(ids, mask, kind)
        tops, weights = self.upper(states, mask), mask.to(states.dtype)[..., None]
        return states, tops, F.normalize((tops * weights).sum(1) / weights.sum(1).clamp(min=1e-9), dim=-1)


class Reader(nn.Module):
    """Layers over [sentence; card], and the heads.

    `rise` adds what the encoder's last layer knows of a token to the low state that the reader begins from, and `same` marks tokens
    that stand in both sentence and card.
    `act` (R): the sentence asks for this tool and for nothing else; `part` (R): for this tool and for something more; both
    against 0, "for no tool that is listed"; `glance_act` and `glance_part` say the same from half the layers, and most tools need
    no more. Per marker of a parameter: `start`, `end`, `inside` (R, P, T), of which the sentence's count, and `absent` (R, P)
    against the first two. Per token `option` (R, T), read at the markers of choices,
    against the same `absent`.
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS - SHARED_LAYERS))
        self.layers.load_state_dict(encoder.layers[SHARED_LAYERS:].state_dict())
        self.rise = nn.Linear(WIDTH, WIDTH)
        self.same = nn.Parameter(torch.zeros(2, WIDTH))  # of the sentence, of the card
        nn.init.zeros_(self.rise.weight)
        nn.init.zeros_(self.rise.bias)
        self.glance = nn.Sequential(nn.Linear(2 * WIDTH, GLANCE), nn.GELU(), nn.Linear(GLANCE, 2))
        self.match = nn.Linear(WIDTH, 2)
        self.query, self.key = nn.Linear(WIDTH, 3 * POINTER), nn.Linear(WIDTH, 3 * POINTER)
        self.absent, self.option = nn.Linear(WIDTH, 1), nn.Linear(WIDTH, 1)

    def ground(self, states: Tensor, tops: Tensor) -> Tensor:
        """The encoder's states and tops (B, S, WIDTH) -> what the reader begins from, likewise."""
        return states + self.rise(tops)

    def first(self, h: Tensor, mask: Tensor, said: Tensor, same: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """h (R, T, WIDTH): the `ground` of the sentence and then of the card; mask (R, T) of both, said (R, T) of the sentence,
        same (R, T) of words that stand in both -> states (R, T, WIDTH) of the lower half, glance_act and glance_part (R)."""
        here, there = same.to(h.dtype) * said.to(h.dtype), same.to(h.dtype) * (1 - said.to(h.dtype))
        h = h + here[..., None] * self.same[0] + there[..., None] * self.same[1]
        for layer in self.layers[:_FIRST]:
            h = layer(h, bias_of(mask))
        told = mask.to(h.dtype) - said.to(h.dtype)
        glance_act, glance_part = self.glance(torch.cat([_mean(h, said.to(h.dtype)), _mean(h, told)], -1)).unbind(-1)
        return h, glance_act, glance_part

    def second(self, h: Tensor, mask: Tensor, markers: Tensor, places: Tensor | None = None) -> tuple[Tensor, ...]:
        """States of `first` and markers (R, P), positions in T -> the other heads: of all tokens, or of `places` (R, Q), [CLS]
        first, and then markers are positions in Q."""
        *layers, last = self.layers[_FIRST:]
        for layer in layers:
            h = layer(h, bias_of(mask))
        h = last(h, bias_of(mask)) if places is None else last.at(places, h, bias_of(mask))
        act, part = self.match(h[:, 0]).unbind(-1)
        at = _gather(h, markers)
        queries, keys = self.query(at), self.key(h)
        start, end, inside = (
            queries[..., i : i + POINTER] @ keys[..., i : i + POINTER].transpose(-1, -2) / math.sqrt(POINTER)
            for i in range(0, 3 * POINTER, POINTER)
        )
        return act, part, start, end, inside, self.absent(at)[..., 0], self.option(h)[..., 0]


POINTER = 64
GLANCE = 96


def _gather(h: Tensor, places: Tensor) -> Tensor:
    """h (B, S, WIDTH) at places (B, Q): (B, Q, WIDTH)."""
    return h.gather(1, places[..., None].expand(-1, -1, WIDTH))


def _mean(h: Tensor, weights: Tensor) -> Tensor:
    return (h * weights[..., None]).sum(1) / weights.sum(1, keepdim=True)


def bias_of(mask: Tensor) -> Tensor:
    """(B, S) of 0 and 1 -> what is added to attention scores."""
    return (1.0 - mask.to(torch.float32))[:, None, None, :] * -1e4


def read_weights(path: Path) -> Encoder:
    """The encoder from BERT's safetensors."""
    from safetensors.torch import load_file

    found, encoder = load_file(path), Encoder()
    state: dict[str, Tensor] = {}
    for ours, theirs in (("words", "word"), ("positions", "position"), ("kinds", "token_type")):
        state[f"{ours}.weight"] = found[f"embeddings.{theirs}_embeddings.weight"]
    for part in ("weight", "bias"):
        state[f"norm.{part}"] = found[f"embeddings.LayerNorm.{part}"]
        for i in range(LAYERS):
            state.update(_layer(found, i, part))
    encoder.load_state_dict(state)
    return encoder.eval()


def _layer(found: Mapping[str, Tensor], i: int, part: str) -> dict[str, Tensor]:
    theirs, ours = f"encoder.layer.{i}", f"layers.{i}"
    qkv = [found[f"{theirs}.attention.self.{name}.{part}"] for name in ("query", "key", "value")]
    return {
        f"{ours}.qkv.{part}": torch.cat(qkv),
        f"{ours}.out.{part}": found[f"{theirs}.attention.output.dense.{part}"],
        f"{ours}.norm1.{part}": found[f"{theirs}.attention.output.LayerNorm.{part}"],
        f"{ours}.up.{part}": found[f"{theirs}.intermediate.dense.{part}"],
        f"{ours}.down.{part}": found[f"{theirs}.output.dense.{part}"],
        f"{ours}.norm2.{part}": found[f"{theirs}.output.LayerNorm.{part}"],
    }
