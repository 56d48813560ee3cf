"""The metric of `edged/workers/fewshot.py`, measured over the training material: `python -m training.intent.metric [--judge]`.

Every tool of the material is a class, its sentences are examples. What scatters within the classes and between them is
measured with the exported encoder, so that its int8 noise is part of it. The shipped tools are left out: they stand in the
material several times. `--judge` measures over two thirds of the fields and learns the tools of the others, in turn: there the
constants of both files were set, with tools merged by fours for what 50 examples need; `_BETWEEN` was never varied.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edged.workers.encoding import Encoder
from edged.workers.fewshot import FewShot, Metric, shaped
from training.intent.rows import Groups, read_fields

__all__ = ["Examples", "measure", "read_examples"]

_MODELS = Path("edged/models/intent")
_WITHIN, _BETWEEN = (
    0.3,
    0.05,
)  # of the mean variance, added to each: a class has fewer sentences than there are directions
_DIRECTIONS = 256  # of 768; on unseen fields the others carry at most 0.006 of the accuracy
_MOST = 14

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Examples:
    """Features (N, 2W), class and field of each sentence, and the features of sentences that no tool serves."""

    features: Array
    labels: Array
    fields: Array
    beyond: Array


def read_examples(encoder: Encoder, seed: int) -> Examples:
    rng, fields = random.Random(seed), read_fields()
    groups = Groups.load(fields, {})
    texts: list[str] = []
    labels: list[int] = []
    homes: list[str] = []
    tools = [(field.name, tool) for field in fields if field.name != "shipped" for tool in field.tools]
    for label, (home, tool) in enumerate(tools):
        asks = rng.sample(tool.asks, min(_MOST, len(tool.asks)))
        texts += [groups.say(rng, tool.params, ask) for ask in asks]
        labels += [label] * len(asks)
        homes += [home] * len(asks)
    beyond = sorted({groups.beyond_one(rng) for _ in range(1200)})
    return Examples(encoder.features(texts), np.array(labels), np.array(homes), encoder.features(beyond))


def measure(features: Array, labels: Array) -> Metric:
    """Both covariances, then the directions in which both are diagonal, the most telling first."""
    lower = features[:, features.shape[1] // 2 :].mean(0, dtype=np.float64)
    rows = shaped(features, lower)
    _, at, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    means = np.zeros((len(sizes), rows.shape[1]))
    np.add.at(means, at, rows)
    means /= sizes[:, None]
    rest = rows - means[at]
    within = _shrunk(rest.T @ rest / (len(rows) - len(sizes)), _WITHIN)
    between = _shrunk(np.cov(means.T), _BETWEEN)
    whiten = np.linalg.inv(np.linalg.cholesky(within)).T
    variances, turned = np.linalg.eigh(whiten.T @ between @ whiten)
    best = variances.argsort()[::-1][:_DIRECTIONS]
    basis = whiten @ turned[:, best]
    basis *= np.sign(basis[np.abs(basis).argmax(0), np.arange(len(best))])  # eigenvectors have no sign of their own
    return Metric(lower, rows.mean(0), basis, variances[best])


def _shrunk(covariance: Array, share: float) -> Array:
    size = len(covariance)
    result: Array = covariance + share * np.trace(covariance) / size * np.eye(size)
    return result


def judge(examples: Examples, shots: Sequence[int] = (1, 3, 10), folds: int = 3) -> None:
    """Print, on fields that the metric did not see: accuracy, log loss, recall of what no tool serves at 10 % false refusal."""
    homes = np.random.default_rng(0).permutation(np.unique(examples.fields))
    for n in shots:
        found = []
        for fold in range(folds):
            unseen = np.isin(examples.fields, homes[fold::folds])
            metric = measure(examples.features[~unseen], examples.labels[~unseen])
            features, labels = examples.features[unseen], np.unique(examples.labels[unseen], return_inverse=True)[1]
            learn = _some(labels, n, np.random.default_rng(n))
            classes = FewShot.fit(metric, features[learn], labels[learn], [str(c) for c in range(labels.max() + 1)])
            scores, right = classes.scores(features[~learn]), labels[~learn]
            accuracy = (scores.log_p.argmax(1) == right).mean()
            loss = -scores.log_p[np.arange(len(right)), right].mean()
            refused = classes.scores(examples.beyond).scope < np.quantile(scores.scope, 0.1)
            found.append((accuracy, loss, refused.mean()))
        accuracy, loss, refused = np.mean(found, axis=0)
        print(f"{n:3} examples: accuracy {accuracy:.4f}, log loss {loss:.3f}, outside found {refused:.3f}")


def _some(labels: Array, count: int, rng: np.random.Generator) -> Array:
    chosen = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        chosen[rng.permutation(np.flatnonzero(labels == label))[:count]] = True
    return chosen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, default=_MODELS)
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--judge", action="store_true")
    options = parser.parse_args()
    examples = read_examples(Encoder(options.models, 1), options.seed)
    if options.judge:
        judge(examples)
        return
    file = options.models / "metric.npz"
    measure(examples.features, examples.labels).write(file)
    print(
        f"{file}: {file.stat().st_size / 1e3:.0f} kB, from {len(examples.labels)} sentences of {examples.labels.max() + 1} tools"
    )


if __name__ == "__main__":
    main()
