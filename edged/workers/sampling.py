"""From logits to the next token.

The order is the one that callers of chat APIs expect: penalties, then what a grammar allows, then temperature, then
top-k, top-p and min-p on the tempered distribution. Temperature 0 is argmax, and draws nothing from the generator.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

from edged.domain.ports import Sampling
from edged.workers.guiding import Guide

__all__ = ["Choice", "Sampler"]


@dataclass(frozen=True, slots=True)
class Choice:
    """A chosen token; with `logprobs`, its logarithmic probability and the likeliest (token, logprob), by the raw model."""

    token: int
    logprob: float | None = None
    likeliest: tuple[tuple[int, float], ...] = ()


class Sampler:
    """Chooses the tokens of one generation."""

    def __init__(self, how: Sampling, guide: Guide | None = None) -> None:
        import numpy as np

        self._np = np
        self._how = how
        self._random = np.random.default_rng(how.seed) if how.temperature > 0 else None
        self._counts: Counter[int] = Counter()
        self.guide = guide

    @property
    def finished(self) -> bool:
        return self.guide is not None and self.guide.finished

    def choose(self, logits: Any) -> Choice:
        """A token of `logits` (`float32[vocabulary]`, which are changed). Raises `BadRequest` when the grammar breaks."""
        tell = None if self._how.logprobs is None else self._distribution(logits)
        if self._how.penalizes and self._counts:
            self._penalize(logits)
        token = self._pick(logits)
        if self._how.penalizes:
            self._counts[token] += 1
        if self.guide is not None:
            self.guide.accept([token])
        if tell is None:
            return Choice(token)
        top = self._np.argsort(-tell)[: self._how.logprobs] if self._how.logprobs else ()
        return Choice(token, float(tell[token]), tuple((int(t), float(tell[t])) for t in top))

    def forced(self, room: int) -> list[int]:
        """What the grammar leaves no choice about; at most `room` tokens."""
        if self.guide is None or self.finished or room <= 0 or self._how.logprobs is not None:
            return []  # each token's probability is asked for, so each is chosen
        tokens = self.guide.forced()[:room]
        if tokens:
            self.guide.accept(tokens)
            if self._how.penalizes:
                self._counts.update(tokens)
        return tokens

    def _pick(self, logits: Any) -> int:
        if self._random is None:
            best = int(logits.argmax())
            if self.guide is None or self.guide.admits(best):
                return best  # most of the time a model wants what it may: no mask is needed to see that
        if self.guide is not None:
            self.guide.mask(logits)
        return int(logits.argmax()) if self._random is None else self._draw(logits)

    def _draw(self, logits: Any) -> int:
        np, how = self._np, self._how
        assert self._random is not None
        ids = None
        if 0 < how.top_k < len(logits):
            ids = np.argpartition(logits, -how.top_k)[-how.top_k :]
            logits = logits[ids]
        weights = np.exp((logits - logits.max()) / max(how.temperature, 1e-6), dtype=np.float64)
        least = how.min_p  # the likeliest one weighs 1
        kept = weights >= least
        weights /= weights.sum()
        if how.top_p < 1:
            weights = self._nucleus(weights)
        if least > 0:
            weights = np.where(kept, weights, 0.0)
            weights /= weights.sum()
        at = int(self._random.choice(len(weights), p=weights))
        return at if ids is None else int(ids[at])

    def _nucleus(self, weights: Any) -> Any:
        np = self._np
        order = np.argsort(-weights)
        kept = order[: int(np.searchsorted(np.cumsum(weights[order]), self._how.top_p)) + 1]
        out = np.zeros_like(weights)
        out[kept] = weights[kept]
        return out / out.sum()

    def _penalize(self, logits: Any) -> None:
        np, how = self._np, self._how
        ids = np.fromiter(self._counts, dtype=np.int64, count=len(self._counts))
        times = np.fromiter(self._counts.values(), dtype=np.float32, count=len(self._counts))
        values = logits[ids]
        values = np.where(values > 0, values / how.repeat_penalty, values * how.repeat_penalty)
        logits[ids] = values - times * how.frequency_penalty - how.presence_penalty

    def _distribution(self, logits: Any) -> Any:
        shifted = logits - logits.max()
        return shifted - math.log(float(self._np.exp(shifted, dtype=self._np.float64).sum()))
