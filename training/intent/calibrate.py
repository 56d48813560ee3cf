"""Set the weights of `edged/agent/intent.py`: `python -m training.intent.calibrate [--keep FILE]`.

On the development tools alone. First what likeness and examples are worth in the choice of the tool: the pair of weights under
which the right tools (or none) are likeliest. The two limits are for a person to choose, from the table that is printed: exact
calls and wrong ones. (A logistic regression of "the call is right" on the chances of tool and
arguments, their margins, the likeness and the length was no better on left-out sentences than the product of the two.)
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import math
import pickle
from dataclasses import replace
from pathlib import Path

from bench.heldout_samples import shipped_samples, unseen_samples
from edged.agent import intent
from edged.agent.intent import Weights
from training.intent.judge import DEV, Seen, judge, see, shipped_specs, worker

_LIKES, _LLRS = (0.0, 2.0, 4.0, 8.0, 12.0), (0.0, 0.03, 0.06, 0.1, 0.15)
_SURES, _NONES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9), (0.4, 0.55, 0.7)


def read(models: Path, count: int) -> dict[str, list[Seen]]:
    """Development samples as the worker sees them: of unseen tools with few and with many beside them, and of the shipped ones."""
    backend, shipped = worker(models), asyncio.run(shipped_specs())
    few = unseen_samples(count, 77, (3, 6), DEV / "unseen.txt")
    many = unseen_samples(count // 2, 78, (29, 29), DEV / "unseen.txt")
    own = shipped_samples(shipped, count, 77, DEV / "shipped.txt")
    return {
        "unseen": [see(backend, s) for s in few],
        "of 30": [see(backend, s) for s in many],
        "shipped": [see(backend, s) for s in own],
    }


def choice_loss(seen: list[Seen], weights: Weights) -> float:
    """Nats a sentence that what is right is not sure."""
    total = 0.0
    for s in seen:
        acts, _, none = intent._chances(s.tools, weights)
        names = [s.sample.specs[tool["index"]].name for tool in s.tools]
        wanted = s.sample.wanted[0] if s.sample.wanted else None
        right = none if wanted is None else acts[names.index(wanted)] if wanted in names else 1.0
        total -= math.log(max(right, 1e-4))
    return total / len(seen)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, default=Path("edged/models/intent"))
    parser.add_argument("--count", type=int, default=700)
    parser.add_argument("--keep", type=Path, help="what the worker saw, for another run (it takes minutes)")
    options = parser.parse_args()
    if options.keep and options.keep.exists():
        seen: dict[str, list[Seen]] = pickle.loads(options.keep.read_bytes())
    else:
        seen = read(options.models, options.count)
        if options.keep:
            options.keep.write_bytes(pickle.dumps(seen))
    everything = list(itertools.chain(*seen.values()))
    weights = min(
        (Weights(like=like, llr=llr) for like in _LIKES for llr in _LLRS), key=lambda w: choice_loss(everything, w)
    )
    print(weights)
    for none, sure in itertools.product(_NONES, _SURES):
        tried = replace(weights, none=none, sure=sure)
        shares = [f"{name}: " + " ".join(f"{k} {v:.3f}" for k, v in _told(rows, tried)) for name, rows in seen.items()]
        print(f"none {none} sure {sure} | {' | '.join(shares)}")


def _told(seen: list[Seen], weights: Weights) -> list[tuple[str, float]]:
    found = judge(seen, weights=weights)
    return [(name, found[name]) for name in ("exact", "wrong", "none recall", "none precision")]


if __name__ == "__main__":
    main()
