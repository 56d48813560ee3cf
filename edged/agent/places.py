"""Which words serve which parameter, decided for all of them together. Pure.

A stretch of words serves one parameter. Taken one by one, the first parameter grabs what another needs more: in "hold the horse rug
for captain hook", both like "horse rug" best.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Place", "assign"]

_BEAM = 32


@dataclass(frozen=True, slots=True)
class Place:
    """Characters of the sentence, end excluded, and the chance that they are meant."""

    begin: int
    end: int
    chance: float

    def overlaps(self, other: Place) -> bool:
        return self.begin < other.end and other.begin < self.end


def assign(wishes: Sequence[Sequence[Place]], absent: Sequence[float]) -> list[int | None]:
    """For each parameter the index of its place among its `wishes`, or None: the likeliest choice in which no two overlap. `absent`
    are the chances that a parameter is not stated. Exact for a few parameters; beyond that the best 32 beginnings are followed."""
    beam: list[tuple[float, list[int | None], list[Place]]] = [(1.0, [], [])]
    for options, none in zip(wishes, absent, strict=True):
        grown = [(score * max(none, 1e-6), [*chosen, None], taken) for score, chosen, taken in beam]
        for score, chosen, taken in beam:
            for index, place in enumerate(options):
                if not any(place.overlaps(other) for other in taken):
                    grown.append((score * place.chance, [*chosen, index], [*taken, place]))
        beam = sorted(grown, key=lambda branch: -branch[0])[:_BEAM]
    return beam[0][1]
