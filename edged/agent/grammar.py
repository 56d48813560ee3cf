"""From offered tools to an llguidance grammar that admits only calls which this request supports. Pure.

The output is a call, in the dialect's words, of a tool whose arguments can be grounded. A tool that lacks one may still be named,
with what is missing: a model that wants it must be able to say so, for barred from the name it would take the next best tool,
and a wrong action is worse than none. White space is as the family's template writes it: what is forced costs no decoding.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from edged.agent.bodies import GemmaBody, JsonBody, NamedBody
from edged.agent.dialects import Dialect
from edged.agent.grounding import Argument, Offer

__all__ = ["choosing", "phrasing"]

_MOST_DEALT = 4
_LONGEST_TEXT = 200  # without a bound a weak model would write to the end of its budget
_MOST_ITEMS = 16
_NUMERIC = re.compile(r"\d(?:[\w.,:-]*\w)?")
_ESCAPED = r'["\\\x00-\x1f]+'  # in JSON strings
# Inside of an argument every template writes JSON as Python does, however it writes what is around it.
_SPACING = {"x-guidance": {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}}
_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")


class _Rules:
    """Collects Lark rules; `add` names a rule and returns the name. Equal rules are one."""

    def __init__(self) -> None:
        self._names: dict[tuple[str, bool], str] = {}

    def add(self, body: str, *, terminal: bool = False) -> str:
        return self._names.setdefault((body, terminal), f"{'T' if terminal else 'r'}{len(self._names)}")

    def text(self, start: str) -> str:
        return "\n".join([f"start: {start}", *(f"{name}: {body}" for (body, _), name in self._names.items())]) + "\n"


def choosing(offers: Sequence[Offer], dialect: Dialect, *, may_escalate: bool = True, several: bool = False) -> str:
    """A grammar for one call of an offered tool, or the dialect's mark for "no tool here fits".

    With `several`, and where the dialect knows how, any number of calls. Without `may_escalate` every output begins with one of the
    dialect's triggers, so that the grammar can bind from there on. Raises ValueError when there is nothing at all to admit.
    """
    rules, ways = _Rules(), []
    writer = _writer(rules, dialect)
    calls = [rules.add(writer.call(one)) for offer in offers if not offer.missing for one in _distinct(offer)]
    wanted = [rules.add(writer.lacking(offer)) for offer in offers if offer.missing]
    if several and calls and dialect.between is not None:
        more = _terms(dialect.close, dialect.between, dialect.open)
        one = rules.add(" | ".join(calls))
        ways.append(_enclosed(dialect, f"{one} ({more} {one})*"))
        calls = []
    if calls or wanted:
        ways.append(_enclosed(dialect, rules.add(" | ".join(calls + wanted))))
    if may_escalate:
        ways.append(_terms(dialect.escalate))
    if not ways:
        raise ValueError("no tools are offered and escalation is not allowed")
    return rules.text(" | ".join(ways))


def _enclosed(dialect: Dialect, calls: str) -> str:
    lead = f"({_terms(dialect.lead)})? " if dialect.lead else ""
    return f"{lead}{_terms(dialect.first, dialect.open)} {calls} {_terms(dialect.close, dialect.last)}"


def _distinct(offer: Offer) -> list[Offer]:
    """One variant for each way to deal the values of a request to the parameters that could take the same ones: nobody asks to
    convert miles to miles. A handful at most; beyond that the model is trusted."""
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


class _Json:
    """Writes calls whose arguments are JSON."""

    def __init__(self, rules: _Rules, body: JsonBody | NamedBody) -> None:
        self._rules = rules
        self._body = body

    def call(self, offer: Offer) -> str:
        body = self._body
        possible = [argument for argument in offer.arguments if argument.possible]
        members = _members(self._rules, possible, self, first=True)
        if isinstance(body, JsonBody):
            head = self._dump({"name": offer.name, body.key: {}})[:-2]
            return f'{_literal(head)} {members} "}}" {self._number(body)} "}}"'
        number = f"({_terms(f'⟦{body.identifier}⟧')} {self._letters()})?"
        name, arguments = _literal(offer.name), _terms(f"⟦{body.arguments}⟧")
        return f'{name} {number} {arguments} "{{" {members} "}}"'

    def lacking(self, offer: Offer) -> str:
        if isinstance(self._body, JsonBody):
            return _literal(self._dump({"name": offer.name, "missing": offer.missing}))
        return _literal(f"{offer.name}?{self._dump(offer.missing)}")

    def key(self, name: str, comma: bool) -> str:
        return _literal(f"{self._body.comma if comma else ''}{json.dumps(name, ensure_ascii=False)}{self._body.colon}")

    def order(self, arguments: Sequence[Argument]) -> Sequence[Argument]:
        return arguments

    def value(self, argument: Argument) -> str:
        if argument.values is not None:
            return self._rules.add(" | ".join(_literal(json.dumps(v, ensure_ascii=False)) for v in argument.values))
        if argument.source is not None:
            # a quote or a backslash would need escapes inside the JSON string; no run of words that a tool wants has one
            span, quote = _span(self._rules, argument.source, _ESCAPED), _literal('"')
            return f"{quote} {span} {quote}"
        return self._rules.add(f"%json {_literal(_closed(argument.schema or {}) | _SPACING)}")

    def _number(self, body: JsonBody) -> str:
        if not body.numbered:
            return '""'
        before, after = _literal(f'{body.comma}"id"{body.colon}"'), _literal('"')
        return f"({before} {self._letters()} {after})?"

    def _letters(self) -> str:
        return self._rules.add("/[A-Za-z0-9]{9}/", terminal=True)

    def _dump(self, value: Any) -> str:
        return json.dumps(value, ensure_ascii=False, separators=(self._body.comma, self._body.colon))


class _Gemma:
    """Writes calls in Gemma's own form. A string is whatever does not hold the first letter of the mark that ends it."""

    def __init__(self, rules: _Rules, body: GemmaBody) -> None:
        self._rules = rules
        self._body = body
        self._quote = _terms(f"⟦{body.quote}⟧")

    def call(self, offer: Offer) -> str:
        possible = [argument for argument in offer.arguments if argument.possible]
        members = _members(self._rules, self.order(possible), self, first=True)
        head = _literal(f"call:{offer.name}{{")
        return f'{head} {members} "}}"'

    def lacking(self, offer: Offer) -> str:
        return _literal(f"call:{offer.name}?{json.dumps(offer.missing, ensure_ascii=False)}")

    def key(self, name: str, comma: bool) -> str:
        return _literal(f"{',' if comma else ''}{name}:")

    def order(self, arguments: Sequence[Argument]) -> Sequence[Argument]:
        """As the templates' `dictsort` has it."""
        return sorted(arguments, key=lambda argument: argument.name.lower())

    def value(self, argument: Argument) -> str:
        if argument.values is not None:
            return self._rules.add(" | ".join(map(self._written, argument.values)))
        if argument.source is not None:
            span = _span(self._rules, argument.source, self._body.quote[0])
            return f"{self._quote} {span} {self._quote}"
        return self._by_schema(argument.schema or {})

    def _written(self, value: Any) -> str:
        """A value that is known."""
        if isinstance(value, str):
            return f"{self._quote} {_literal(value)} {self._quote}"
        if isinstance(value, dict):
            ordered = sorted(value.items(), key=lambda item: str(item[0]).lower())
            return self._between("{", [f"{self.key(k, False)} {self._written(v)}" for k, v in ordered], "}")
        if isinstance(value, (list, tuple)):
            return self._between("[", [self._written(v) for v in value], "]")
        return _literal("None" if value is None else json.dumps(value))

    def _between(self, begin: str, parts: Sequence[str], end: str) -> str:
        inside = ' "," '.join(parts)
        return f'"{begin}" {inside} "{end}"'

    def _by_schema(self, schema: dict[str, Any]) -> str:
        """A value that only a schema bounds. Of a string, that is its greatest length."""
        if "const" in schema or "enum" in schema:
            return self._rules.add(" | ".join(map(self._written, schema.get("enum", [schema.get("const")]))))
        options = schema.get("anyOf") or schema.get("oneOf")
        kinds = schema.get("type")
        if isinstance(kinds, list):
            options = [schema | {"type": kind} for kind in kinds]
        if options:
            return self._rules.add(" | ".join(map(self._by_schema, options)))
        return self._rules.add(self._of_kind(kinds, schema))

    def _of_kind(self, kind: Any, schema: dict[str, Any]) -> str:
        match kind:
            case "string":
                longest = min(schema.get("maxLength", _LONGEST_TEXT), _LONGEST_TEXT)
                text = self._rules.add(f"/[^{self._body.quote[0]}]{{1,{longest}}}/", terminal=True)
                return f"{self._quote} {text}? {self._quote}"
            case "integer" | "number":
                return f"%json {_literal({'type': kind} | {k: schema[k] for k in _BOUNDS if k in schema})}"
            case "boolean":
                return '"true" | "false"'
            case "null":
                return '"None"'
            case "array":
                return self._array(schema)
            case "object" if "properties" in schema:
                return self._object(schema)
        return " | ".join(self._by_schema({"type": simple}) for simple in ("string", "number", "boolean"))

    def _array(self, schema: dict[str, Any]) -> str:
        item = self._by_schema(schema.get("items") or {})
        most = max(1, min(schema.get("maxItems", _MOST_ITEMS), _MOST_ITEMS))
        least = min(schema.get("minItems", 0), most)
        items = f'{item} ("," {item}){{{max(0, least - 1)},{most - 1}}}'
        return f'"[" {items} "]"' if least else f'"[" ({items})? "]"'

    def _object(self, schema: dict[str, Any]) -> str:
        required = schema.get("required", ())
        arguments = [Argument(name, name in required, schema=part) for name, part in schema["properties"].items()]
        return f'"{{" {_members(self._rules, self.order(arguments), self, first=True)} "}}"'


_Writer = _Json | _Gemma


def _writer(rules: _Rules, dialect: Dialect) -> _Writer:
    return _Gemma(rules, dialect.body) if isinstance(dialect.body, GemmaBody) else _Json(rules, dialect.body)


def _members(rules: _Rules, arguments: Sequence[Argument], writer: _Writer, *, first: bool) -> str:
    """The members of the arguments' object in order; optional ones may be left out, and commas stay right."""
    if not arguments:
        return '""'
    head, rest = arguments[0], arguments[1:]
    taken = f"{writer.key(head.name, not first)} {writer.value(head)} {_members(rules, rest, writer, first=False)}"
    if head.required:
        return taken
    return rules.add(f"{taken} | {_members(rules, rest, writer, first=first)}")


def _span(rules: _Rules, source: str, barred: str) -> str:
    """A run of words of `source`, in which what the string could not hold counts as a space."""
    return rules.add(f"%regex {_literal({'substring_words': re.sub(barred, ' ', source)})}", terminal=True)


def _closed(schema: dict[str, Any]) -> dict[str, Any]:
    return {"maxLength": _LONGEST_TEXT, **schema} if schema.get("type") == "string" else schema


def _terms(*marks: str) -> str:
    """Marks as Lark terms: `⟦X⟧` as it stands, everything else quoted."""
    parts = re.split("(⟦[^⟧]+⟧)", "".join(marks))
    return " ".join(part if i % 2 else _literal(part) for i, part in enumerate(parts) if part) or '""'


def _literal(value: Any) -> str:
    """As JSON, which is Lark's way to quote too. The brackets of marks are escaped: no text may become a mark."""
    return json.dumps(value, ensure_ascii=False).replace("⟦", "\\u27e6").replace("⟧", "\\u27e7")


def phrasing(facts: Sequence[str]) -> str:
    """A grammar for a short answer in which whatever starts with a digit is found so in `facts` (texts)."""
    numeric = sorted({word for fact in facts for word in _NUMERIC.findall(fact)})
    if not numeric:
        return "start: TEXT\nTEXT: /[^0-9\\n<>{}]{1,200}/\n"
    alternatives = " | ".join(_literal(word) for word in numeric)
    return f"start: TEXT? (FACT TEXT)* FACT?\nTEXT: /[^0-9\\n<>{{}}]{{1,120}}/\nFACT: {alternatives}\n"
