"""150 intents from a few examples each: `python -m bench.intent_fewshot [--json]`. Needs the extra `bench`, and the network once.

The shipped int8 encoder with `edged.workers.fewshot` beside the float encoder it was made from with scikit-learn's plain logistic
regression (C = 1), over the same sentences: of each intent 50 may be learnt and 30 are asked, in three random splits. Outside
stand sentences that none of the intents serves; one is found when its score lies below what 90 % of the asked ones reach.

The metric comes from the training material alone, and the constants of the method were set on fields of it that the metric had
not seen. The kind of method (these features, a Gaussian metric, a regression from there) was picked in trials that had also looked
at half of this set while it was being written. Some twenty short sentences ("car location") stand in both.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.float_encoder import FloatEncoder
from bench.report import Bar, Reported, show
from edged.engine.encoders import resolve_encoder
from edged.workers.encoding import Encoder
from edged.workers.fewshot import FewShot, Metric

__all__ = ["main", "require", "run"]

_FOLDER = Path(__file__).parent / "fewshot"
_SPLITS, _POOL, _ASKED = 3, 50, 30
_SHOTS = (10, 50)
_GAIN = 0.005

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Sentences:
    """`texts` with their intents' numbers in `labels`, and texts that are `outside` of all of them."""

    texts: list[str]
    labels: Array
    outside: list[str]


@dataclass(frozen=True, slots=True)
class Found:
    """Shares: of the asked ones whose intent was found, and of those outside that were known for it. `seconds` to learn."""

    accuracy: float
    outside: float
    seconds: float


def read(folder: Path = _FOLDER) -> Sentences:
    texts: list[str] = []
    labels: list[int] = []
    intents: list[str] = []
    for file in sorted(set(folder.glob("*.txt")) - {folder / "outside.txt"}):
        for line in _lines(file):
            if line.startswith("["):
                intents.append(line)
            else:
                texts.append(line)
                labels.append(len(intents) - 1)
    return Sentences(texts, np.array(labels), _lines(folder / "outside.txt"))


def _lines(file: Path) -> list[str]:
    return [line for raw in file.read_text().splitlines() if (line := raw.strip()) and not line.startswith("#")]


def ours(metric: Metric, learnt: Array, labels: Array, asked: Array, right: Array, outside: Array) -> Found:
    began = time.perf_counter()
    classes = FewShot.fit(metric, learnt, labels.tolist(), [str(k) for k in range(labels.max() + 1)])
    seconds = time.perf_counter() - began
    inside, beyond = classes.scores(asked), classes.scores(outside)
    return _found(inside.log_p.argmax(1) == right, inside.scope, beyond.scope, seconds)


def plain(c: float, learnt: Array, labels: Array, asked: Array, right: Array, outside: Array) -> Found:
    from sklearn.linear_model import LogisticRegression

    began = time.perf_counter()
    model = LogisticRegression(C=c, max_iter=1000).fit(learnt, labels)
    seconds = time.perf_counter() - began
    inside, beyond = model.predict_proba(asked), model.predict_proba(outside)
    return _found(model.classes_[inside.argmax(1)] == right, inside.max(1), beyond.max(1), seconds)


def _found(hits: Array, inside: Array, beyond: Array, seconds: float) -> Found:
    return Found(float(hits.mean()), float((beyond < np.quantile(inside, 0.1)).mean()), seconds)


def measure() -> tuple[list[Bar], list[Reported]]:
    sentences = read()
    folder = resolve_encoder("bundled")
    encoder, metric = Encoder(folder, 1), Metric.read(folder / "metric.npz")
    mine, mine_outside = encoder.features(sentences.texts), encoder.features(sentences.outside)
    exact = FloatEncoder()
    floats, floats_outside = exact.embed(sentences.texts), exact.embed(sentences.outside)
    methods: dict[str, Callable[[Array, Array, Array, Array], Found]] = {
        "ours": lambda learn, ask, y, t: ours(metric, mine[learn], y, mine[ask], t, mine_outside),
        "float": lambda learn, ask, y, t: plain(1.0, floats[learn], y, floats[ask], t, floats_outside),
        "float, C = 10": lambda learn, ask, y, t: plain(10.0, floats[learn], y, floats[ask], t, floats_outside),
    }
    found: dict[tuple[str, int], list[Found]] = {}
    for seed in range(_SPLITS):
        pool, ask = _split(sentences.labels, np.random.default_rng(seed))
        for shots in _SHOTS:
            learn = pool[:, :shots].ravel()
            for name, method in methods.items():
                one = method(learn, ask.ravel(), sentences.labels[learn], sentences.labels[ask.ravel()])
                found.setdefault((name, shots), []).append(one)
    same = [float(a @ b) for a, b in zip(mine[:, : floats.shape[1]], floats, strict=True)]
    return _bars(found), [
        Reported("intents", int(sentences.labels.max()) + 1),
        Reported("sentences outside", len(sentences.outside)),
        Reported("splits (means are shown)", _SPLITS),
        *_figures(found),
        Reported("cosine of int8 and float vectors, mean", float(np.mean(same))),
        Reported("metric, kB", (folder / "metric.npz").stat().st_size / 1e3),
    ]


def _split(labels: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Indices (K, 50) to learn from and (K, 30) to ask."""
    mixed = [rng.permutation(np.flatnonzero(labels == k))[: _POOL + _ASKED] for k in range(labels.max() + 1)]
    rows = np.stack(mixed)
    return rows[:, :_POOL], rows[:, _POOL:]


def _mean(found: list[Found], name: str) -> float:
    return float(np.mean([getattr(one, name) for one in found]))


def _bars(found: dict[tuple[str, int], list[Found]]) -> list[Bar]:
    bars = []
    for shots in _SHOTS:
        mine, theirs = found["ours", shots], found["float", shots]
        gain = _mean(mine, "accuracy") - _mean(theirs, "accuracy")
        more = _mean(mine, "outside") - _mean(theirs, "outside")
        bars.append(Bar(f"{shots} examples: accuracy above the float baseline", gain, ">=", _GAIN))
        bars.append(Bar(f"{shots} examples: recall outside above the float baseline", more, ">=", 0))
    return bars


def _figures(found: dict[tuple[str, int], list[Found]]) -> list[Reported]:
    rows = []
    for (name, shots), splits in found.items():
        rows.append(Reported(f"{name}, {shots} examples: accuracy", _mean(splits, "accuracy")))
        rows.append(Reported(f"{name}, {shots} examples: recall outside", _mean(splits, "outside")))
        rows.append(Reported(f"{name}, {shots} examples: seconds to learn", _mean(splits, "seconds")))
    return rows


def require() -> None:
    """Raises SystemExit where the baseline's library is not installed: better at once than after minutes."""
    if find_spec("sklearn") is None:
        raise SystemExit("the few-shot baseline needs scikit-learn: .venv/bin/pip install -e '.[bench]'")


def run() -> list[Bar]:
    """The bars alone, for `bench.intent`."""
    return measure()[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    require()
    bars, reported = measure()
    show("intent_fewshot", bars, reported, as_json=options.json)


if __name__ == "__main__":
    main()
