"""Who holds which tokens of the KV cache: a radix tree over all sequences. Pure; the cache itself is told by whoever calls.

The rule: a node is a run of cells that were computed once, and `holders` are the sequences that share them; its cells
are free when the last holder lets go. Two nodes may hold the same tokens (two sequences computed them at the same
time), so siblings may begin alike. A `lane` keeps apart what must not be shared although the tokens are the same:
keys and values depend on the adapter.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set

__all__ = ["PrefixTree", "common"]


def common(a: Sequence[int], b: Sequence[int], start: int = 0) -> int:
    """The length of the common prefix; the first `start` are known to be alike."""
    low, high = start, min(len(a), len(b))
    step = 16
    while low < high:  # lists are compared natively, so by growing blocks, and the one that differs is halved
        end = min(high, low + step)
        if a[low:end] == b[low:end]:
            low, step = end, step * 2
        elif end - low == 1:
            break
        else:
            high, step = end - 1, max(1, (end - low) // 2)
    return low


class _Node:
    __slots__ = ("children", "holders", "parent", "start", "tokens")

    def __init__(self, parent: _Node | None, start: int, tokens: list[int]) -> None:
        self.parent = parent
        self.start = start
        self.tokens = tokens
        self.holders: set[int] = set()
        self.children: list[_Node] = []

    @property
    def end(self) -> int:
        return self.start + len(self.tokens)

    def path(self) -> Iterator[_Node]:
        """From here up to the root, which is left out."""
        node: _Node | None = self
        while node is not None and node.parent is not None:
            yield node
            node = node.parent


class PrefixTree:
    """`cells` is how many cells all sequences hold together. Lengths and positions are counts of tokens."""

    def __init__(self) -> None:
        self._roots: dict[str | None, _Node] = {}
        self._tips: dict[int, _Node] = {}
        self.cells = 0

    def __contains__(self, sequence: int) -> bool:
        return sequence in self._tips

    def length(self, sequence: int) -> int:
        return self._tips[sequence].end

    def own(self, sequence: int, cached: Set[int] = frozenset()) -> int:
        """The cells that would be free, or held by `cached` sequences only, without this sequence."""
        return sum(len(node.tokens) for node in self._tips[sequence].path() if node.holders - cached <= {sequence})

    def shared(self, sequence: int) -> int:
        """The length of what another sequence holds too."""
        return max((node.end for node in self._tips[sequence].path() if len(node.holders) > 1), default=0)

    def idle(self, cached: Set[int]) -> int:
        """The cells that only sequences of `cached` hold."""
        total, stack = 0, list(self._roots.values())
        while stack:
            node = stack.pop()
            if node.holders <= cached:
                total += len(node.tokens)
            stack += node.children
        return total

    def sleeping(self, sequence: int, length: int, cached: Set[int]) -> int:
        """Of the first `length` tokens of a sequence, the cells that only sequences of `cached` hold."""
        return sum(
            min(node.end, length) - node.start
            for node in self._tips[sequence].path()
            if node.start < length and node.holders <= cached
        )

    def holds(self, sequence: int, tokens: Sequence[int], lane: str | None = None) -> bool:
        """Whether the sequence is exactly `tokens` in that lane."""
        tip = self._tips[sequence]
        path = list(tip.path())
        root = path[-1].parent if path else tip
        return (
            root is self._roots.get(lane)
            and tip.end == len(tokens)
            and all(node.tokens == tokens[node.start : node.end] for node in path)
        )

    def covered(self, sequence: int) -> bool:
        """Whether another sequence holds all of it: this one then keeps nothing alive."""
        tip = self._tips[sequence]
        return not tip.tokens or len(tip.holders) > 1

    def open(self, sequence: int, lane: str | None = None) -> None:
        """A new, empty sequence."""
        assert sequence not in self._tips
        root = self._roots.setdefault(lane, _Node(None, 0, []))
        root.holders.add(sequence)
        self._tips[sequence] = root

    def match(self, tokens: Sequence[int], lane: str | None = None, *, whole: bool = False) -> tuple[int, int | None]:
        """(length, sequence): the longest prefix of `tokens` that is held, and one that holds it.

        With `whole`, only a prefix at which a sequence ends: recurrent states cannot be cut.
        """
        root = self._roots.get(lane)
        if root is None:
            return 0, None
        best: tuple[int, int | None] = (0, None)
        stack = [root]
        while stack:
            node = stack.pop()
            for child in node.children:
                if child.start < len(tokens) and child.tokens[0] == tokens[child.start]:
                    length = child.start + common(child.tokens, tokens[child.start : child.end])
                    found = self._ending(child) if whole else next(iter(child.holders))
                    if length > best[0] and found is not None and (not whole or length == child.end):
                        best = length, found
                    if length == child.end:
                        stack.append(child)
        return best

    def _ending(self, node: _Node) -> int | None:
        return next((sequence for sequence in node.holders if self._tips[sequence] is node), None)

    def share(self, source: int, target: int, length: int) -> None:
        """`target`, which is empty and in the same lane, holds the first `length` tokens of `source` too."""
        for node in reversed(list(self._tips[source].path())):
            if node.start >= length:
                break
            if node.end > length:
                node = self._split(node, length - node.start)
            node.holders.add(target)
            self._tips[target] = node

    def extend(self, sequence: int, tokens: Sequence[int]) -> None:
        """The sequence has computed `tokens` after what it holds."""
        if not tokens:
            return
        tip = self._tips[sequence]
        if tip.parent is None or tip.children or len(tip.holders) > 1:
            tip = self._add(tip, [])
            tip.holders.add(sequence)
            self._tips[sequence] = tip
        tip.tokens.extend(tokens)
        self.cells += len(tokens)

    def cut(self, sequence: int, length: int) -> None:
        """The sequence lets go of all but its first `length` tokens."""
        for node in list(self._tips[sequence].path()):
            if node.start < length < node.end:
                node = self._lower(node, length - node.start)
            if node.start >= length:
                node.holders.discard(sequence)
                assert node.parent is not None
                self._tips[sequence] = node.parent
                if not node.holders:
                    self._drop(node)

    def close(self, sequence: int) -> None:
        self.cut(sequence, 0)
        self._tips.pop(sequence).holders.discard(sequence)

    def rename(self, old: int, new: int) -> None:
        """The sequence goes on under another number."""
        assert new not in self._tips
        tip = self._tips[new] = self._tips.pop(old)
        node: _Node | None = tip
        while node is not None:
            node.holders.discard(old)
            node.holders.add(new)
            node = node.parent

    def _add(self, parent: _Node, tokens: list[int]) -> _Node:
        node = _Node(parent, parent.end, tokens)
        parent.children.append(node)
        return node

    def _drop(self, node: _Node) -> None:
        assert node.parent is not None
        assert not node.children
        node.parent.children.remove(node)
        self.cells -= len(node.tokens)

    def _split(self, node: _Node, at: int) -> _Node:
        """Make two of a node; returns the upper one. Those who ended in it end in the lower one."""
        assert node.parent is not None
        upper = _Node(node.parent, node.start, node.tokens[:at])
        upper.holders = set(node.holders)
        siblings = node.parent.children
        siblings[siblings.index(node)] = upper
        upper.children = [node]
        node.parent, node.start, node.tokens = upper, upper.end, node.tokens[at:]
        return upper

    def _lower(self, node: _Node, at: int) -> _Node:
        self._split(node, at)
        return node
