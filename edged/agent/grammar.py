"""From offered tools to an llguidance grammar that admits only calls which this request supports. Pure.

The output is `<tool_call>{"name":...,"arguments":{...}}</tool_call>` for a tool whose arguments can be grounded. A tool that lacks
one may still be named, as `{"name":...,"missing":[...]}`: a model that wants it must be able to say so, for barred from the
name it would take the next best tool, and a wrong action is worse than none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from edged.agent.dialect import Dialect
from edged.agent.grounding import Argument, Offer

__all__ = ["choosing", "phrasing"]

_MOST_DEALT = 4
_NUMERIC = re.compile(r"\d(?:[\w.,:-]*\w)?")


class _Rules:
    """Collects Lark rules; `add` names a rule and returns the name."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def add(self, body: str, *, terminal: bool = False) -> str:
        name = f"{'T' if terminal else 'r'}{len(self._lines)}"
        self._lines.append(f"{name}: {body}")
        return name

    def text(self, start: str) -> str:
        return "\n".join([f"start: {start}", *self._lines]) + "\n"


def choosing(offers: Sequence[Offer], dialect: Dialect, *, may_escalate: bool = True) -> str:
    """A grammar for one call of an offered tool, or the dialect's mark for "no tool here fits".

    Raises ValueError when there is nothing at all to admit.
    """
    rules, ways = _Rules(), []
    if offers:
        calls = " | ".join(rules.add(_call(rules, one)) for offer in offers for one in _distinct(offer))
        ways.append(f"{dialect.open} {rules.add(calls)} {dialect.close}")
    if may_escalate:
        ways.append(dialect.escalate)
    if not ways:
        raise ValueError("no tools are offered and escalation is not allowed")
    return rules.text(" | ".join(ways))


def _distinct(offer: Offer) -> list[Offer]:
    """One variant for each way to deal the values of a request to the parameters that could take the same ones: nobody asks to
    convert miles to miles. A handful at most; beyond that the model is trusted."""
    if offer.missing:
        return [offer]
    for at, argument in enumerate(offer.arguments):
        rivals = [i for i, a in enumerate(offer.arguments) if i > at and a.read and a.values == argument.values]
        if argument.read and argument.values and rivals and 1 < len(argument.values) <= _MOST_DEALT:
            return [variant for value in argument.values for variant in _distinct(_dealt(offer, at, value, rivals))]
    return [offer]


def _dealt(offer: Offer, at: int, value: Any, rivals: Sequence[int]) -> Offer:
    arguments = list(offer.arguments)
    rest = tuple(v for v in arguments[at].values or () if v != value)
    arguments[at] = replace(arguments[at], values=(value,), read=False)
    for rival in rivals:
        arguments[rival] = replace(arguments[rival], values=rest)
    return replace(offer, arguments=tuple(arguments))


def _call(rules: _Rules, offer: Offer) -> str:
    head = f'{{"name":{json.dumps(offer.name)},'
    if offer.missing:
        missing = json.dumps(list(offer.missing), separators=(",", ":"))
        return _literal(f'{head}"missing":{missing}}}')
    possible = [argument for argument in offer.arguments if argument.possible]
    before, after = _literal(head + '"arguments":{'), _literal("}}")
    return f"{before} {_members(rules, possible, first=True)} {after}"


def _members(rules: _Rules, arguments: Sequence[Argument], *, first: bool) -> str:
    """The members of the arguments' object in order; optional ones may be left out, and commas stay right."""
    if not arguments:
        return '""'
    head, rest = arguments[0], arguments[1:]
    comma = "" if first else ","
    taken = f"{_literal(f'{comma}{json.dumps(head.name)}:')} {_value(rules, head)} {_members(rules, rest, first=False)}"
    if head.required:
        return taken
    return rules.add(f"{taken} | {_members(rules, rest, first=first)}")


def _value(rules: _Rules, argument: Argument) -> str:
    if argument.values is not None:
        return rules.add(" | ".join(_literal(json.dumps(v, ensure_ascii=False)) for v in argument.values))
    if argument.source is not None:
        # a quote or a backslash would need escapes inside the JSON string; no run of words that a tool wants has one
        source = re.sub(r'["\\\x00-\x1f]+', " ", argument.source)
        span = rules.add(f"%regex {json.dumps({'substring_words': source}, ensure_ascii=False)}", terminal=True)
        quote = _literal('"')
        return f"{quote} {span} {quote}"
    return rules.add(f"%json {json.dumps(_closed(argument.schema or {}), ensure_ascii=False)}")


def _closed(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema without a length bound would let a weak model write to the end of its budget."""
    return {"maxLength": 200, **schema} if schema.get("type") == "string" else schema


def _literal(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def phrasing(facts: Sequence[str]) -> str:
    """A grammar for a short answer in which whatever starts with a digit is found so in `facts` (texts)."""
    numeric = sorted({word for fact in facts for word in _NUMERIC.findall(fact)})
    if not numeric:
        return "start: TEXT\nTEXT: /[^0-9\\n<>{}]{1,200}/\n"
    alternatives = " | ".join(_literal(word) for word in numeric)
    return f"start: TEXT? (FACT TEXT)* FACT?\nTEXT: /[^0-9\\n<>{{}}]{{1,120}}/\nFACT: {alternatives}\n"
