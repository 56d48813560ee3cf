"""Each knob of sampling on logits that one can follow: exact where it can be, else counted over fixed seeds."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest

from edged.domain.ports import Sampling
from edged.workers.sampling import Choice, Sampler

from .batching import guide, loaded

PROBABILITIES = (0.5, 0.3, 0.15, 0.05)


def logits(*probabilities: float) -> Any:
    return np.log(np.array(probabilities, dtype=np.float32))


def drawn(count: int, probabilities: tuple[float, ...] = PROBABILITIES, **how: Any) -> Counter[int]:
    """How often each token is chosen."""
    sampler = Sampler(Sampling(**{"temperature": 1.0, "seed": 3, **how}))
    return Counter(sampler.choose(logits(*probabilities)).token for _ in range(count))


def near(counts: Counter[int], probabilities: tuple[float, ...]) -> bool:
    """Within four standard deviations of what is expected."""
    total = sum(counts.values())
    return all(
        abs(counts[i] - total * p) <= 4 * math.sqrt(total * p * (1 - p)) + 1e-9 for i, p in enumerate(probabilities)
    )


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({}, PROBABILITIES),
        ({"temperature": 2.0}, tuple(p**0.5 / sum(q**0.5 for q in PROBABILITIES) for p in PROBABILITIES)),
        ({"temperature": 0.5}, tuple(p**2 / sum(q**2 for q in PROBABILITIES) for p in PROBABILITIES)),
        ({"top_k": 2}, (0.625, 0.375, 0, 0)),
        ({"top_k": 1}, (1, 0, 0, 0)),
        ({"top_k": 4}, PROBABILITIES),
        ({"top_k": 99}, PROBABILITIES),
        ({"top_p": 0.6}, (0.625, 0.375, 0, 0)),  # the first that together reach it
        ({"top_p": 0.4}, (1, 0, 0, 0)),
        ({"top_p": 0.0}, (1, 0, 0, 0)),
        ({"top_p": 0.96}, PROBABILITIES),
        ({"min_p": 0.2}, (0.5 / 0.95, 0.3 / 0.95, 0.15 / 0.95, 0)),  # a fifth of the likeliest
        ({"min_p": 0.5}, (0.625, 0.375, 0, 0)),
        ({"min_p": 1.0}, (1, 0, 0, 0)),
        ({"top_k": 3, "top_p": 0.7}, (0.625, 0.375, 0, 0)),
        ({"temperature": 0.01}, (1, 0, 0, 0)),
        ({"temperature": 1e-30}, (1, 0, 0, 0)),
        ({"temperature": 1e6}, (0.25, 0.25, 0.25, 0.25)),
    ],
)
def test_distribution(how: dict[str, Any], expected: tuple[float, ...]) -> None:
    assert near(drawn(1500, **how), expected)


def test_the_order_is_the_one_that_the_module_states() -> None:
    # Once: top-k, top-p and min-p, says the module; min-p comes before top-p. What min-p takes away first makes the
    # rest weigh more, so that top-p is content with fewer.
    assert set(drawn(1000, top_p=0.83, min_p=0.2)) == {0, 1, 2}


def test_a_temperature_too_small_to_be_a_float_is_greedy() -> None:
    assert drawn(10, temperature=1e-60) == {0: 10}  # Once: zero divided by zero


def test_zero_is_the_likeliest_and_draws_nothing() -> None:
    assert drawn(50, (0.2, 0.5, 0.3), temperature=0.0) == {1: 50}
    assert drawn(50, (0.2, 0.5, 0.3), temperature=0.0, top_k=2, min_p=0.9, seed=8) == {1: 50}


def test_impossible_tokens_are_never_drawn() -> None:
    values = logits(*PROBABILITIES)
    values[0] = -np.inf
    sampler = Sampler(Sampling(temperature=5.0))
    assert {sampler.choose(values.copy()).token for _ in range(300)} == {1, 2, 3}
    values[1:3] = -np.inf
    assert {sampler.choose(values.copy()).token for _ in range(9)} == {3}


@pytest.mark.parametrize("temperature", [0.0, 0.01, 1.0])
def test_a_grammar_comes_before_what_is_likely(temperature: float) -> None:
    sampler = Sampler(Sampling(temperature=temperature, top_k=2), guide("start: /[bc]/ /[a-z]/"))
    row = np.zeros(loaded().vocabulary.size, dtype=np.float32)
    row[ord("x")], row[ord("c")], row[ord("b")] = 90, 40, 10
    assert chr(sampler.choose(row.copy()).token) == "c"
    assert chr(sampler.choose(row.copy()).token) == "x"
    assert sampler.finished


def sequence(seed: int, count: int = 30) -> list[int]:
    sampler = Sampler(Sampling(temperature=1.5, top_k=30, top_p=0.95, min_p=0.01, seed=seed))
    rng = np.random.default_rng(1)
    return [sampler.choose(rng.normal(size=50).astype(np.float32)).token for _ in range(count)]


def test_seeds_repeat_and_differ() -> None:
    assert sequence(1) == sequence(1)
    assert len({tuple(sequence(seed)) for seed in range(10)}) == 10


@pytest.mark.parametrize("how", [{}, {"top_k": 1}, {"temperature": 0.0}])
def test_logits_of_the_raw_model_are_told(how: dict[str, Any]) -> None:
    """Whatever the knobs do."""
    sampler = Sampler(Sampling(**{"temperature": 0.7, "logprobs": 3, "presence_penalty": 2.0, **how}))
    for _ in range(4):
        choice = sampler.choose(logits(*PROBABILITIES))
        assert choice.logprob == pytest.approx(math.log(PROBABILITIES[choice.token]), abs=1e-5)
        assert [token for token, _ in choice.likeliest] == [0, 1, 2]
        assert [logprob for _, logprob in choice.likeliest] == pytest.approx(
            [math.log(p) for p in (0.5, 0.3, 0.15)], abs=1e-5
        )


def test_logprobs_sum_up_and_cost_nothing_when_not_wanted() -> None:
    values = np.random.default_rng(2).normal(0, 5, size=300).astype(np.float32)
    every = Sampler(Sampling(logprobs=300)).choose(values.copy())
    assert sum(math.exp(logprob) for _, logprob in every.likeliest) == pytest.approx(1.0)
    assert every.likeliest[0] == (every.token, every.logprob)
    only = Sampler(Sampling(logprobs=0)).choose(values.copy())
    assert (only.token, only.logprob, only.likeliest) == (every.token, every.logprob, ())
    assert Sampler(Sampling()).choose(values.copy()) == Choice(every.token)


def penalized(values: list[float], said: list[int], **how: Any) -> list[float]:
    """The logits of a sampler that has said these tokens."""
    sampler = Sampler(Sampling(**how))
    for token in said:
        row = np.full(len(values), -50, dtype=np.float32)
        row[token] = 500
        assert sampler.choose(row).token == token
    row = np.array(values, dtype=np.float32)
    sampler.choose(row)
    return [float(value) for value in row]


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({"presence_penalty": 0.5}, [1.5, -1.5, 3.0]),
        ({"frequency_penalty": 0.5}, [1.0, -1.5, 3.0]),
        ({"repeat_penalty": 2.0}, [1.0, -2.0, 3.0]),
        ({"repeat_penalty": 2.0, "presence_penalty": 0.5, "frequency_penalty": 0.25}, [0.0, -2.75, 3.0]),
        ({"presence_penalty": -1.0}, [3.0, 0.0, 3.0]),
        ({"repeat_penalty": 1.0}, [2.0, -1.0, 3.0]),
    ],
)
def test_penalties_weigh_what_was_said(how: dict[str, float], expected: list[float]) -> None:
    assert penalized([2.0, -1.0, 3.0], [0, 0, 1], **how) == pytest.approx(expected)


def test_penalties_change_what_greedy_takes() -> None:
    sampler = Sampler(Sampling(frequency_penalty=0.4))
    assert [sampler.choose(logits(0.5, 0.3, 0.21)).token for _ in range(5)] == [0, 0, 1, 0, 2]
