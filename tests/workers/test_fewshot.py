"""Learning from few examples: the arithmetic against slow and plain versions of it, and the real worker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edged.domain.errors import BadRequest, ModelBroken
from edged.ipc.process import Child
from edged.workers.fewshot import FewShot, Metric, Posteriors, minimize, regress

BUNDLED = Path(__file__).parents[2] / "edged" / "models" / "intent"
Array = np.ndarray[Any, np.dtype[Any]]


def log_normal(values: Array, covariance: Array) -> float:
    sign, size = np.linalg.slogdet(2 * np.pi * covariance)
    assert sign > 0
    return float(-0.5 * (size + values @ np.linalg.solve(covariance, values)))


def ratio(between: Array, examples: Array, point: Array) -> float:
    """From joint Gaussians: a class's sentences share its mean, any sentence has one of its own. Directions are independent."""
    total = 0.0
    for b, seen, asked in zip(between, examples.T, point, strict=True):
        shared = np.eye(len(seen) + 1) + b
        together = log_normal(np.append(seen, asked), shared)
        before = log_normal(seen, shared[:-1, :-1]) if len(seen) else 0.0
        total += together - before - log_normal(np.array([asked]), np.array([[1 + b]]))
    return total


def test_posteriors_are_those_of_joint_gaussians() -> None:
    rng = np.random.default_rng(1)
    between, labels = rng.uniform(0.05, 4, 5), np.array([0, 0, 0, 0, 1, 2, 2])
    points, asked = rng.normal(size=(7, 5)) * 2, rng.normal(size=(6, 5)) * 2
    found = Posteriors(between, points, labels, 4).llr(asked)
    wanted = [[ratio(between, points[labels == k], x) for k in range(4)] for x in asked]
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-9)
    assert np.abs(found[:, 3]).max() < 1e-12  # of a class without examples nothing is known


def test_the_minimum_of_a_badly_scaled_bowl() -> None:
    rng = np.random.default_rng(2)
    turned = np.linalg.qr(rng.normal(size=(30, 30)))[0]
    bowl, bottom = turned * np.geomspace(1, 1e3, 30) @ turned.T, rng.normal(size=30)

    def loss(at: Array) -> tuple[float, Array]:
        return float(0.5 * (at - bottom) @ bowl @ (at - bottom)), bowl @ (at - bottom)

    np.testing.assert_allclose(minimize(loss, np.zeros(30), 500, tolerance=1e-9), bottom, atol=1e-6)


def test_regression_ends_where_the_likelihood_is_flat() -> None:
    rng = np.random.default_rng(3)
    inputs, labels, offset = rng.normal(size=(40, 6)), rng.integers(0, 4, 40), rng.normal(size=(40, 4))

    def loss(weights: Array) -> float:
        logits = inputs @ weights + offset
        chances = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        return float(-np.log(chances[np.arange(40), labels]).sum() + 0.5 * (weights**2).sum())

    def slope(weights: Array, at: tuple[int, int]) -> float:
        step = np.zeros_like(weights)
        step[at] = 1e-5
        return (loss(weights + step) - loss(weights - step)) / 2e-5

    found = regress(inputs, labels, offset)
    start = np.array([slope(np.zeros_like(found), at) for at in np.ndindex(6, 4)])
    slopes = np.array([slope(found, at) for at in np.ndindex(6, 4)])
    assert np.linalg.norm(slopes) <= 1.1e-3 * np.linalg.norm(start)
    np.testing.assert_allclose(found.sum(1), 0, atol=1e-9)  # the prior leaves no class ahead


def metric(width: int = 4, directions: int = 6) -> Metric:
    rng = np.random.default_rng(4)
    basis = rng.normal(size=(2 * width, directions))
    return Metric(rng.normal(size=width) / 9, rng.normal(size=2 * width) / 9, basis, np.linspace(3, 0.2, directions))


def features(count: int, seed: int, width: int = 4) -> Any:
    halves = np.random.default_rng(seed).normal(size=(2, count, width))
    halves /= np.linalg.norm(halves, axis=2, keepdims=True)
    return np.concatenate(list(halves), axis=1).astype(np.float32)


def test_counts_may_differ_and_scores_are_proper() -> None:
    labels = [0, 1, 1, 1, 1, 1, 2, 2]
    learnt = FewShot.fit(metric(), features(8, 1), labels, ["a", "b", "c"])
    scores = learnt.scores(features(5, 2))
    assert scores.log_p.shape == scores.llr.shape == (5, 3) and scores.scope.shape == (5,)
    np.testing.assert_allclose(np.exp(scores.log_p).sum(1), 1)
    again = FewShot.fit(metric(), features(8, 1), labels, ["a", "b", "c"]).scores(features(5, 2))
    assert (again.log_p == scores.log_p).all() and (again.scope == scores.scope).all()
    assert learnt.best(features(5, 2))[0]["label"] == "abc"[int(scores.log_p[0].argmax())]
    assert learnt.best(features(0, 2)) == []


def test_the_order_of_the_examples_does_not_matter() -> None:
    labels, mixed = np.array([0, 1, 1, 2, 2, 0, 1]), np.random.default_rng(5).permutation(7)
    rows, asked = features(7, 3), features(4, 6)
    one = FewShot.fit(metric(), rows, labels.tolist(), "abc").scores(asked)
    other = FewShot.fit(metric(), rows[mixed], labels[mixed].tolist(), "abc").scores(asked)
    np.testing.assert_allclose(other.log_p, one.log_p, atol=1e-3)


def test_one_example_a_class_and_one_class() -> None:
    rows = features(6, 7)
    each = FewShot.fit(metric(), rows, range(6), "abcdef").scores(rows)
    assert (each.log_p.argmax(1) == np.arange(6)).all() and (each.llr.argmax(1) == np.arange(6)).all()
    alone = FewShot.fit(metric(), rows[:1], [0], ["a"]).scores(rows)
    np.testing.assert_allclose(alone.log_p, 0, atol=1e-12)
    assert alone.llr[0, 0] == alone.llr.max() and alone.scope.argmax() == 0


@pytest.mark.parametrize(("labels", "names"), [([0, 0], "ab"), ([0, 2], "ab"), ([0], "a"), ([0, -1], "a"), ([], "")])
def test_a_class_needs_examples(labels: list[int], names: str) -> None:
    with pytest.raises(ValueError, match="example"):
        FewShot.fit(metric(), features(2, 1), labels, names)


def test_a_metric_outlives_its_file(tmp_path: Path) -> None:
    file, whole = tmp_path / "metric.npz", metric()
    whole.write(file)
    np.testing.assert_allclose(Metric.read(file).basis, whole.basis, rtol=1e-3)
    data = file.read_bytes()
    whole.write(tmp_path / "again.npz")
    assert (tmp_path / "again.npz").read_bytes() == data
    bent = {"lower": np.zeros(4), "centre": np.zeros(8), "basis": np.full((8, 2), np.nan), "between": np.ones(2)}
    np.savez(tmp_path / "nan.npz", **bent)  # type: ignore[arg-type]
    np.savez(tmp_path / "shape.npz", **bent | {"basis": np.zeros((7, 2))})  # type: ignore[arg-type]
    np.savez(tmp_path / "less.npz", lower=np.zeros(4))
    (tmp_path / "short.npz").write_bytes(data[: len(data) // 2])
    (tmp_path / "noise.npz").write_bytes(b"noise")
    for name in ("nan", "shape", "less", "short", "noise"):
        with pytest.raises(ModelBroken, match=name):
            Metric.read(tmp_path / f"{name}.npz")


EXAMPLES = [
    ["turn on the lamp", "light"], ["make it brighter in here", "light"], ["lights off please", "light"],
    ["wake me at six", "alarm"], ["set an alarm for noon", "alarm"],
    ["will it rain tomorrow", "weather"],
]  # fmt: skip


async def test_the_worker_learns_and_classifies() -> None:
    texts = [
        "switch the light off in the hall",
        "get me up at half past seven",
        "is it sunny outside",
        "my cousin breeds llamas",
    ]
    async with Child("edged.workers.onnx") as child:
        await child.call("load", {"path": str(BUNDLED), "threads": 1})
        assert await child.call("classify", {"key": "k", "texts": texts}) == {"known": False}
        assert await child.call("learn", {"key": "k", "examples": EXAMPLES}) == {
            "labels": ["alarm", "light", "weather"]
        }
        found = (await child.call("classify", {"key": "k", "texts": texts}))["found"]
        assert [row["label"] for row in found[:3]] == ["light", "alarm", "weather"]
        assert min(row["llr"] for row in found[:3]) > 0 > found[3]["llr"]
        assert found[3]["scope"] == min(row["scope"] for row in found)
        assert (await child.call("classify", {"key": "k", "texts": []}))["found"] == []
        assert len((await child.call("classify", {"key": "k", "texts": ["", "ж🙂 " * 300]}))["found"]) == 2
        with pytest.raises(BadRequest):
            await child.call("learn", {"key": "k", "examples": []})
