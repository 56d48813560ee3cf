"""The metric of few-shot learning, from covariances that are known."""

from __future__ import annotations

import numpy as np

from edged.workers.fewshot import shaped
from training.intent.metric import measure


def test_both_covariances_become_diagonal() -> None:
    rng = np.random.default_rng(1)
    labels = np.repeat(np.arange(300), 10)
    mixing = rng.normal(size=(24, 24)) / 5
    rows = rng.normal(size=(300, 24))[labels] * np.linspace(2, 0.2, 24) + rng.normal(size=(3000, 24)) @ mixing
    halves = rows.reshape(3000, 2, 12)
    features = (halves / np.linalg.norm(halves, axis=2, keepdims=True)).reshape(3000, 24).astype(np.float32)
    metric = measure(features, labels)
    points = (shaped(features, metric.lower) - metric.centre) @ metric.basis
    means = points.reshape(300, 10, -1).mean(1)
    rest = (points.reshape(300, 10, -1) - means[:, None]).reshape(3000, -1)
    within = rest.T @ rest / 2700
    assert np.abs(within - np.diag(np.diag(within))).max() < 0.5 * np.diag(within).max()
    assert (np.diag(within) <= 1.0 + 1e-9).all()  # shrinking only ever widens the variances
    assert (np.diff(metric.between) <= 0).all() and metric.between[0] > 1
    assert np.corrcoef(means.var(0), metric.between)[0, 1] > 0.99
