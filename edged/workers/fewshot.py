"""Learning classes of sentences from a few examples each, with the encoder as it is. Numpy, no model.

A metric, measured once over the training material, knows how sentences that mean the same differ (within) and how meanings differ
(between). With it a class of n examples has an exact Gaussian posterior: one example already says which directions matter, and the
likelihood ratio against "any sentence at all" tells what lies outside. Over many examples the Gaussian is too simple, so a logistic
regression learns what it leaves over, starting from it instead of from zero.

The constants were set on fields of the material that the metric had not seen (see `training/intent/metric.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from edged.domain.errors import ModelBroken

__all__ = ["FewShot", "Metric", "Posteriors", "Scores", "minimize", "regress", "shaped"]

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]
Reals = NDArray[Any]  # of either width

_LOWER = 0.5  # weight of the lower states beside the sentence's vector
_TRUST = 0.15  # of the likelihood ratio in the logits: its Gaussians know no correlation between errors
_PLAIN, _MEASURED = (
    2.0,
    0.1,
)  # prior scales of the regression's weights: over the features, and over the metric's directions
_SHARPEN = 1.5  # what makes the probabilities right on sentences that were not learnt
_OUTSIDE = 0.15
_STEPS = 60


@dataclass(frozen=True, slots=True)
class Metric:
    """Directions in which sentences of one meaning scatter with variance 1, and meanings with variance `between`, widest first.

    `lower` (W) is the mean of the lower states, `centre` (2W) of the features, `basis` (2W, D), `between` (D).
    """

    lower: Doubles
    centre: Doubles
    basis: Doubles
    between: Doubles

    @classmethod
    def read(cls, file: Path) -> Metric:
        """Raises `ModelBroken`."""
        try:
            return cls._checked(file)
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise ModelBroken(f"cannot read {file.name}: {str(error)[:200]}", path=str(file)) from None

    @classmethod
    def _checked(cls, file: Path) -> Metric:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as found:
            lower, centre, basis, between = (found[name].astype(np.float64) for name in cls.__slots__)
        if (
            lower.ndim != 1
            or between.ndim != 1
            or centre.shape != (2 * len(lower),)
            or basis.shape != (len(centre), len(between))
        ):
            raise ValueError("its arrays do not fit together")
        if not all(np.isfinite(a).all() for a in (lower, centre, basis, between)) or not (between > 0).all():
            raise ValueError("it holds what is no number, or no variance")
        return cls(lower, centre, basis, between)

    def write(self, file: Path) -> None:
        np.savez_compressed(file, **{name: getattr(self, name).astype(np.float16) for name in self.__slots__})

    def shape(self, features: Floats) -> Doubles:
        """Features of the encoder (N, 2W), unit vectors and unit means of lower states, to those that are learnt from (N, 2W)."""
        return shaped(features, self.lower) - self.centre

    def project(self, shaped: Doubles) -> Doubles:
        """What `shape` gave, in the metric's directions (N, D)."""
        points: Doubles = shaped @ self.basis
        return points


def shaped(features: Floats, lower: Doubles) -> Doubles:
    """The vector as it is; the lower states without what all sentences share, which is most of them."""
    width = len(lower)
    low = features[:, width:] - lower
    low *= _LOWER / np.maximum(np.linalg.norm(low, axis=1, keepdims=True), 1e-9)
    return np.concatenate([features[:, :width].astype(np.float64), low], axis=1)


class Posteriors:
    """What is known of K classes after their examples, in closed form. `points` (N, D) are projected, `labels` (N) below
    K = `count`. A class may be without examples: then nothing is known, and its ratio is 0."""

    def __init__(self, between: Doubles, points: Doubles, labels: Integers, count: int) -> None:
        members = (labels == np.arange(count)[:, None]).astype(np.float64)
        sizes, sums = members.sum(axis=1, keepdims=True), members @ points
        left = between / (1.0 + sizes * between)  # variance of the class's mean, given its examples
        means, precision = left * sums, 1.0 / (1.0 + left)
        total = 1.0 + between
        self._linear = (precision * means).T
        self._square = (0.5 * (1.0 / total - precision)).T
        self._constant = 0.5 * (np.log(precision).sum(1) + np.log(total).sum() - (precision * means**2).sum(1))

    def llr(self, points: Doubles) -> Doubles:
        """(N, D) -> (N, K): log-likelihood of the sentence as one of the class, over that as any sentence, in nats."""
        ratio: Doubles = points @ self._linear + points**2 @ self._square + self._constant
        return ratio


@dataclass(frozen=True, slots=True)
class Scores:
    """`log_p` (N, K) given that one of the classes is meant; `llr` (N, K) of each class by itself, 0 is even; `scope` (N),
    higher when any of them is meant, comparable among sentences only."""

    log_p: Doubles
    llr: Doubles
    scope: Doubles


class FewShot:
    """K classes learnt from N examples. Their counts may differ; each has at least one."""

    def __init__(
        self, metric: Metric, posteriors: Posteriors, weights: Doubles, bias: Doubles, names: Sequence[str]
    ) -> None:
        self._metric, self.posteriors, self._weights, self._bias = metric, posteriors, weights, bias
        self.names = tuple(names)

    @classmethod
    def fit(cls, metric: Metric, features: Floats, labels: Sequence[int], names: Sequence[str]) -> FewShot:
        """`features` (N, 2W) as the encoder gives them, `labels` index `names`. Raises ValueError where a class has no example."""
        at = np.asarray(labels, np.int64)
        if len(at) != len(features) or set(at.tolist()) != set(range(len(names))):
            raise ValueError("every class needs an example, and every example a class")
        rows = metric.shape(features)
        points = metric.project(rows)
        posteriors = Posteriors(metric.between, points, at, len(names))
        inputs = np.concatenate([_PLAIN * rows, _MEASURED * points, np.ones((len(rows), 1))], axis=1).astype(np.float32)
        learnt = regress(inputs, at, (_TRUST * posteriors.llr(points)).astype(np.float32)).astype(np.float64)
        width = rows.shape[1]
        weights = _PLAIN * learnt[:width] + _MEASURED * metric.basis @ learnt[width:-1]
        return cls(metric, posteriors, weights, learnt[-1], names)

    def scores(self, features: Floats) -> Scores:
        """(N, 2W) -> scores against each class and against all."""
        rows = self._metric.shape(features)
        llr = self.posteriors.llr(self._metric.project(rows))
        logits = _TRUST * llr + rows @ self._weights + self._bias
        scope = logits.max(axis=1) + _OUTSIDE * _logsumexp(llr)[:, 0]
        sharp = _SHARPEN * logits
        return Scores(sharp - _logsumexp(sharp), llr, scope)

    def best(self, features: Floats) -> list[dict[str, str | float]]:
        """The likeliest class of each row: {label, p, llr, scope}."""
        if not len(features):
            return []
        scores = self.scores(features)
        at = scores.log_p.argmax(axis=1)
        return [
            {"label": self.names[k], "p": float(np.exp(log_p[k])), "llr": float(llr[k]), "scope": float(scope)}
            for k, log_p, llr, scope in zip(at, scores.log_p, scores.llr, scores.scope, strict=True)
        ]


def regress(inputs: Reals, labels: Integers, offset: Reals) -> Reals:
    """Weights (D, K) that make softmax(inputs @ weights + offset) likeliest, under a unit Gaussian prior on each weight."""
    count = offset.shape[1]
    rows = np.arange(len(labels))

    def loss(flat: Reals) -> tuple[float, Reals]:
        weights = flat.reshape(inputs.shape[1], count)
        logits = inputs @ weights + offset
        logits -= logits.max(axis=1, keepdims=True)
        own = logits[rows, labels]
        np.exp(logits, out=logits)
        total = logits.sum(axis=1, keepdims=True)
        value = float(np.log(total, dtype=np.float64).sum() - own.sum(dtype=np.float64)) + 0.5 * float(flat @ flat)
        logits /= total
        logits[rows, labels] -= 1.0
        gradient: Reals = (inputs.T @ logits).ravel() + flat
        return value, gradient

    start = np.zeros(inputs.shape[1] * count, inputs.dtype)
    return minimize(loss, start, _STEPS).reshape(inputs.shape[1], count)


def minimize(
    loss: Callable[[Reals], tuple[float, Reals]], at: Reals, steps: int, tolerance: float = 1e-3, memory: int = 8
) -> Reals:
    """L-BFGS (Nocedal and Wright, algorithm 7.4) for a strictly convex `loss` -> (value, gradient), until the gradient is
    `tolerance` of the first one. Backtracking is enough: of such a function every step has positive curvature."""
    value, gradient = loss(at)
    enough = tolerance * float(np.linalg.norm(gradient))
    moves: list[tuple[Reals, Reals, float]] = []
    for _ in range(steps):
        if (size := float(np.linalg.norm(gradient))) <= enough:
            break
        way = _newton_like(gradient, moves) if moves else -gradient / max(1.0, size)
        slope, length = float(way @ gradient), 1.0
        while True:
            there = at + length * way
            new_value, new_gradient = loss(there)
            if new_value <= value + 1e-4 * length * slope or length < 1e-6:
                break
            length *= 0.5
        if new_value >= value:  # float32 shows no further descent
            break
        move, change = there - at, new_gradient - gradient
        if (curvature := float(move @ change)) > 0.0:
            moves = [*moves[-memory + 1 :], (move, change, 1.0 / curvature)]
        at, value, gradient = there, new_value, new_gradient
    return at


def _newton_like(gradient: Reals, moves: Sequence[tuple[Reals, Reals, float]]) -> Reals:
    way, shares = -gradient, []
    for move, change, inverse in reversed(moves):
        shares.append(inverse * float(move @ way))
        way -= shares[-1] * change
    _, change, inverse = moves[-1]
    way *= 1.0 / (inverse * float(change @ change))
    for (move, change, inverse), share in zip(moves, reversed(shares), strict=True):
        way += (share - inverse * float(change @ way)) * move
    return way


def _logsumexp(values: Doubles) -> Doubles:
    """Over the last axis, which stays: (N, K) -> (N, 1)."""
    top = values.max(axis=-1, keepdims=True)
    result: Doubles = top + np.log(np.exp(values - top).sum(axis=-1, keepdims=True))
    return result
