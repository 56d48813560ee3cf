"""Which value of a list a person means: spelling mistakes, plurals, another word order and part of a name forgiven.

A list is taken apart once, when its tool is taught. A sentence is then matched against all of it, and a span that the reader
points at takes what overlaps it. Words that contradict a value count against it: a "drill press" is no drill, a "kitchen radio"
no kitchen light.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise

from rapidfuzz import process
from rapidfuzz.distance import OSA

from edged.workers.wordforms import Token, alike, forms, tokens_of

__all__ = ["Listing", "Matched", "listing"]

_LINKS = frozenset(
    "in on at of for from with by near under over behind beside inside outside to into off up down".split()
)
_SMALL = _LINKS | frozenset(
    "a an and is are the my our your his her its their this that these those some any all both one ones thing things please now "
    "again right away immediately too also then it me us i you would could can will "
    "der die das den dem ein eine einen einer im am in und mein meine meinen bitte".split()
)
_ARTICLES = frozenset("a an the my our your his her their this that der die das den dem".split())
_AMOUNTS = frozenset("two three four five six seven eight nine ten twelve dozen couple pair few several".split())
_WIDEST_GAP = 5  # words between two words of one value
_LIKE = 0.65  # of the library's own cut; `_alike` decides
_RUN_TOGETHER = 0.86
_LONG = 99
_SHORTEST_SLIP = 6  # letters; with one in a shorter word, "store" would be the "paraffin stove"
_STEM = 4  # letters of the shortest part of a compound


@dataclass(slots=True)
class _Mention:
    """How a sentence mentions a value: for each of its words that it has, how alike and where."""

    met: dict[int, tuple[float, tuple[int, ...]]] = field(default_factory=dict)
    slip: int = _LONG  # letters of the shortest word that is misspelt

    @property
    def places(self) -> frozenset[int]:
        return frozenset(place for _, places in self.met.values() for place in places)

    @property
    def likeness(self) -> float:
        return sum(like for like, _ in self.met.values())


@dataclass(frozen=True, slots=True)
class _Found:
    value: int
    share: float
    likeness: float
    places: frozenset[int]
    slip: int

    def outdoes(self, other: _Found) -> bool:
        if self.places == other.places:
            return (self.share, self.likeness) > (other.share, other.likeness)
        return other.places < self.places


class Matched:
    """A sentence matched against a list."""

    def __init__(self, values: Sequence[str], tokens: Sequence[Token], found: Sequence[_Found]) -> None:
        self._values, self._tokens, self._found = values, tokens, found

    def at(self, begin: int, end: int, first: bool = False) -> tuple[int, int, list[str]]:
        """What the words from `begin` to `end` mean: [] nothing, one value, or those between which they leave the choice; and
        where it stands, if it is one and named in full. `first`: of several that are named, the first, since another parameter
        takes the next.
        """
        found = sorted(self._meant(begin, end), key=lambda f: (min(f.places), f.value))
        if first and len(found) > 1 and not found[0].places & found[1].places:
            found = found[:1]
        if len(found) == 1 and found[0].share == 1.0:
            begin, end = self._tokens[min(found[0].places)].begin, self._tokens[max(found[0].places)].end
        return begin, end, self._told(found)

    def _meant(self, begin: int, end: int) -> list[_Found]:
        inside = {i for i, token in enumerate(self._tokens) if token.begin < end and begin < token.end}
        near = [found for found in self._found if found.places & inside]
        full = [found for found in near if found.share == 1.0]
        named = [found for found in _undone(full) if not self._goes_on(found, inside)]
        if named or full:
            return named
        content = {i for i in inside if self._tokens[i].word not in _SMALL and not self._amount(i, inside)}
        parts = [found for found in near if content and content <= found.places and found.slip >= _SHORTEST_SLIP]
        parts = [found for found in parts if not self._qualified(found)]
        return _best(parts)

    def stated(self) -> list[tuple[int, int, list[str]]]:
        """Where the sentence mentions values, without any pointing: in full, or else by half of their words or more."""
        full = _undone([found for found in self._found if found.share == 1.0])
        groups: dict[frozenset[int], list[_Found]] = defaultdict(list)
        parts = [f for f in self._found if f.share >= 0.5 and f.slip == _LONG and not self._qualified(f)]
        for found in full or _best(parts):
            groups[found.places].append(found)
        return [
            (self._tokens[min(places)].begin, self._tokens[max(places)].end, self._told(group))
            for places, group in groups.items()
        ]

    def digits(self) -> list[tuple[int, int]]:
        """Stretches with digits that are part of a name mentioned in full: the 4 of a "4k monitor" is no amount."""
        places = {place for found in self._found if found.share == 1.0 for place in found.places}
        tokens = [self._tokens[place] for place in sorted(places)]
        return [(token.begin, token.end) for token in tokens if any(c.isdecimal() for c in token.word)]

    def _told(self, found: Iterable[_Found]) -> list[str]:
        return list(dict.fromkeys(self._values[f.value] for f in found))

    def _goes_on(self, found: _Found, inside: set[int]) -> bool:
        """The span has a further noun right behind the value: "drill press", "lamp post"."""
        after = max(found.places) + 1
        return (
            after in inside
            and self._tokens[after].word not in _SMALL
            and self._tokens[after].begin == self._tokens[after - 1].end + 1  # no comma
        )

    def _qualified(self, found: _Found) -> bool:
        """An article and then words that the value has not: "the porch lamp" is not the desk lamp."""
        place, first = min(found.places) - 1, min(found.places)
        while place >= 0 and first - place <= 3 and self._tokens[place].word not in _SMALL:
            place -= 1
        between = [i for i in range(place + 1, first) if not self._amount(i, {*range(place + 1, first + 1)})]
        return place >= 0 and self._tokens[place].word in _ARTICLES and bool(between)

    def _amount(self, place: int, inside: set[int]) -> bool:
        """A number in front is how many; one behind belongs to the name."""
        word = self._tokens[place].word
        return (word.isdecimal() or word in _AMOUNTS) and place + 1 in inside


class Listing:
    """A list of values, taken apart."""

    def __init__(self, values: Sequence[str]) -> None:
        self.values = tuple(values)
        self._latest: tuple[str, Matched] | None = None
        self._sizes: list[int] = []
        self._tiny: set[int] = set()  # made of small words only, like the unit "in"
        self._forms: dict[str, list[tuple[int, tuple[int, ...], float]]] = defaultdict(list)
        self._compounds: dict[str, list[tuple[int, str]]] = defaultdict(list)  # by their first letters
        self._whole: dict[str, list[int]] = defaultdict(list)
        for number, value in enumerate(self.values):
            self._add(number, value)
        self._initials: dict[str, list[str]] = defaultdict(list)
        self._tails: dict[str, list[str]] = defaultdict(list)
        for word in self._forms:
            if len(word) > 3 and word.isalpha():
                self._initials[word[0]].append(word)
                self._tails[word[1:]].append(word)
        self._wholes = list(self._whole)

    def _add(self, number: int, value: str) -> None:
        words = [token.word for token in tokens_of(value)]
        own = [word for word in words if word not in _SMALL]
        if words and not own:
            self._tiny.add(number)
            own = words
        own = list(dict.fromkeys(own))
        self._sizes.append(len(own))
        self._whole["".join(own)].append(number)
        for place, word in enumerate(own):
            for form, like in forms(word):
                self._forms[form].append((number, (place,), like))
            if place + 1 < len(own):
                self._forms[word + own[place + 1]].append((number, (place, place + 1), 1.0))
        if len(own) == 1 and len(own[0]) >= 8:
            self._compounds[own[0][:_STEM]].append((number, own[0]))

    def match(self, text: str) -> Matched:
        """Several tools may share the list: the latest sentence is kept."""
        if self._latest is None or self._latest[0] != text:
            self._latest = (text, self._match(text))
        return self._latest[1]

    def _match(self, text: str) -> Matched:
        tokens = tokens_of(text)
        mentions: dict[int, _Mention] = defaultdict(_Mention)
        known = [i for i, token in enumerate(tokens) if self._meet(mentions, token.word, (i,))]
        for i in range(len(tokens) - 1):  # "dish washer", "a 42"
            self._meet(mentions, tokens[i].word + tokens[i + 1].word, (i, i + 1))
        for i in range(len(tokens)):
            if i not in known and len(tokens[i].word) > 3 and tokens[i].word not in _SMALL:
                self._resemble(mentions, tokens[i].word, i)
        self._put_together(mentions, tokens)
        found = [self._found(number, mention) for number, mention in mentions.items()]
        return Matched(self.values, tokens, [f for f in found if f is not None])

    def misspelt(self, words: str) -> list[str]:
        """For words of which none was met: run together or torn apart ("kit chenlight")."""
        run = "".join(token.word for token in tokens_of(words) if token.word not in _SMALL)
        if len(run) < 6 or not run.isalpha():
            return []
        near = process.extract(run, self._wholes, scorer=OSA.normalized_similarity, score_cutoff=_RUN_TOGETHER, limit=2)
        if not near or (len(near) == 2 and near[0][1] == near[1][1]):
            return []
        return [self.values[number] for number in self._whole[near[0][0]]]

    def _meet(self, mentions: dict[int, _Mention], word: str, at: tuple[int, ...]) -> bool:
        met = False
        for form, like in forms(word):
            for number, places, own in self._forms.get(form, ()):
                if word in _SMALL and number not in self._tiny:
                    continue
                met = True
                _note(mentions[number], places, min(like, own), at)
        return met

    def _resemble(self, mentions: dict[int, _Mention], word: str, at: int) -> None:
        """Few miss the first letter, and those make no other mistake: that keeps long lists fast."""
        near = process.extract(
            word, self._initials.get(word[0], ()), scorer=OSA.normalized_similarity, score_cutoff=_LIKE, limit=12
        )
        slips = [(other, like) for other, like, _ in near]
        for tail in (word, word[1:], word[0] + word[2:]):  # the first letter is missing, another one, or swapped
            slips += [(other, 0.85) for other in self._tails.get(tail, ()) if other[0] != word[0]]
        slips += [(word[1:], 0.85)] if word[1:] in self._forms else []  # or one too many
        for other, like in slips:
            if alike(word, other):
                for number, places, _ in self._forms[other]:
                    _note(mentions[number], places, like * 0.98, (at,))
                    mentions[number].slip = min(mentions[number].slip, len(word))

    def _put_together(self, mentions: dict[int, _Mention], tokens: Sequence[Token]) -> None:
        """German writes "Licht in der Küche" as one word, "Küchenlicht"."""
        long = [(i, token.word) for i, token in enumerate(tokens) if len(token.word) >= _STEM]
        for i, head in long:
            for number, word in self._compounds.get(head[:_STEM], ()):
                for j, tail in long if word.startswith(head) else ():
                    if i != j and word.endswith(tail) and 0 <= len(word) - len(head) - len(tail) <= 2:
                        _note(mentions[number], (0,), 0.95, (i, j))

    def _found(self, number: int, mention: _Mention) -> _Found | None:
        places = sorted(mention.places)
        if any(b - a > _WIDEST_GAP for a, b in pairwise(places)):
            return None
        return _Found(number, len(mention.met) / self._sizes[number], mention.likeness, frozenset(places), mention.slip)


@lru_cache(maxsize=32)
def listing(values: tuple[str, ...]) -> Listing:
    """Tools share their lists, and teaching comes again with each new example."""
    return Listing(values)


def _note(mention: _Mention, own: tuple[int, ...], like: float, at: tuple[int, ...]) -> None:
    for place in own:
        known = mention.met.get(place)
        others = {at for own, (_, places) in mention.met.items() if own != place for at in places}
        if known is None or known[0] < like or (known[0] == like and {at[0] - 1, at[-1] + 1} & others):
            mention.met[place] = (
                like,
                at,
            )  # of a word said twice, the one beside the others: "the lamp, the desk lamp"


def _undone(found: Sequence[_Found]) -> list[_Found]:
    return [one for one in found if not any(other.outdoes(one) for other in found)]


def _best(found: Sequence[_Found]) -> list[_Found]:
    """Of values mentioned in part, those of the most words; between them only a misspelt one gives way."""
    most = max((len(one.places) for one in found), default=0)
    tied = [one for one in found if len(one.places) == most]
    like = max((one.likeness for one in tied), default=0.0)
    return [one for one in tied if one.likeness > like - 0.1]
