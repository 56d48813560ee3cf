"""The parts of hassil that read and match patterns, without what they import and we never use.

Its `intents` imports PyYAML for Home Assistant's files, its `numbers` imports unicode-rbnf to spell ranges: 1.6 of the 2.4 MB that
hassil costs a daemon of 60. Here lists come from TOML and numbers from `grounding`, so while hassil is imported both names stand
empty. Afterwards they are gone again: whoever wants the real ones gets them.
"""

from __future__ import annotations

import sys
from types import ModuleType

__all__ = [
    "Alternative",
    "Expression",
    "Group",
    "ListReference",
    "MatchContext",
    "MatchSettings",
    "ParseError",
    "RuleReference",
    "Sentence",
    "Sequence",
    "SlotList",
    "TextChunk",
    "TextSlotList",
    "TextSlotValue",
    "WildcardSlotList",
    "match_expression",
    "parse_sentence",
]


class _Empty(ModuleType):
    """Whatever is imported from it is None."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


_UNUSED = [name for name in ("yaml", "unicode_rbnf") if name not in sys.modules]
sys.modules.update({name: _Empty(name) for name in _UNUSED})
try:
    from hassil.expression import (
        Alternative,
        Expression,
        Group,
        ListReference,
        RuleReference,
        Sentence,
        Sequence,
        TextChunk,
    )
    from hassil.intents import SlotList, TextSlotList, TextSlotValue, WildcardSlotList
    from hassil.parse_expression import parse_sentence
    from hassil.parser import ParseError
    from hassil.string_matcher import MatchContext, MatchSettings, match_expression
finally:
    for name in _UNUSED:
        del sys.modules[name]
