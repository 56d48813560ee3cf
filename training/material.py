"""Reading the written material (`material/FORMAT.md`) into plain data. No randomness here."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["FOLDER", "Ask", "Field", "MaterialError", "Param", "Tool", "read_beyond", "read_tools", "slots"]

FOLDER = Path(__file__).parent / "material"
_SLOT = re.compile(r"\{(\w+)\}")


class MaterialError(ValueError):
    """A material file breaks the format; the message names the file and the line."""


@dataclass(frozen=True, slots=True)
class Param:
    """One parameter: `names` (the first is the key), `kind` "text" (vocabulary), "int", "float", "code" or "choice", and `of`:
    the vocabulary's phrases, the bounds, the patterns, or the choices."""

    names: tuple[str, ...]
    optional: bool
    kind: str
    of: tuple[str, ...]

    @property
    def key(self) -> str:
        return self.names[0]


@dataclass(frozen=True, slots=True)
class Ask:
    """A sentence with slots; `fixed` are the choices that it expresses in other words."""

    text: str
    fixed: Mapping[str, str]


@dataclass(slots=True)
class Tool:
    """One tool of a field. `result` maps result keys to their generators as written."""

    key: str
    names: tuple[str, ...] = ()
    abouts: tuple[str, ...] = ()
    params: list[Param] = field(default_factory=list)
    asks: list[Ask] = field(default_factory=list)
    lacks: list[Ask] = field(default_factory=list)
    unfit: list[str] = field(default_factory=list)
    result: dict[str, str] = field(default_factory=dict)
    answers: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Field:
    """One file: its vocabularies and its tools."""

    name: str
    vocabularies: dict[str, tuple[str, ...]]
    tools: list[Tool]


def slots(text: str) -> list[str]:
    """The names in braces, in order."""
    return _SLOT.findall(text)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if (text := line.strip()) and not text.startswith("#"):
            yield number, text


def _vocabulary(text: str) -> tuple[str, tuple[str, ...]] | None:
    if not (found := re.match(r"vocab (\w+): *(.*)", text)):
        return None
    return found[1], tuple(dict.fromkeys(p for phrase in found[2].split(",") if (p := phrase.strip())))


def read_tools(path: Path) -> Field:
    """Parse a file of vocabularies and tools. Raises MaterialError."""
    vocabularies: dict[str, tuple[str, ...]] = {}
    tools: list[Tool] = []
    section, fixed = "", {}
    raw_params: list[tuple[Tool, str, int]] = []
    for number, text in _lines(path):
        if vocabulary := _vocabulary(text):
            vocabularies[vocabulary[0]] = vocabularies.get(vocabulary[0], ()) + vocabulary[1]
        elif found := re.fullmatch(r"\[(\w+)\]", text):
            tools.append(Tool(found[1]))
            section = ""
        elif not tools:
            raise MaterialError(f"{path.name}:{number}: text before the first tool")
        elif found := re.match(r"names: *(.*)", text):
            tools[-1].names = tuple(name.strip() for name in found[1].split(","))
        elif found := re.match(r"about: *(.*)", text):
            tools[-1].abouts = tuple(about.strip() for about in found[1].split(" / "))
        elif text.startswith("param "):
            raw_params.append((tools[-1], text, number))
        elif found := re.match(r"result: *(.*)", text):
            tools[-1].result = dict(_pairs(found[1].split(";")))
        elif found := re.fullmatch(r"(ask|lack|unfit|answer)((?: \w+=[^ :]+)*):", text):
            section, fixed = found[1], dict(_pairs(found[2].split()))
        elif section == "ask":
            tools[-1].asks.append(Ask(text, fixed))
        elif section == "lack":
            tools[-1].lacks.append(Ask(text, fixed))
        elif section == "unfit":
            tools[-1].unfit.append(text)
        elif section == "answer":
            tools[-1].answers.append(text)
        else:
            raise MaterialError(f"{path.name}:{number}: {text!r} stands in no section")
    for tool, text, number in raw_params:  # a vocabulary may be declared after its use
        tool.params.append(_param(text, vocabularies, f"{path.name}:{number}"))
    _check(path, tools)
    return Field(path.stem, vocabularies, tools)


def _pairs(parts: Sequence[str]) -> Iterator[tuple[str, str]]:
    for part in parts:
        if part.strip():
            key, _, value = part.partition("=")
            yield key.strip(), value.strip()


def _param(text: str, vocabularies: Mapping[str, tuple[str, ...]], where: str) -> Param:
    found = re.fullmatch(r"param (\w+)(\??): *(.*?) *= *(.*)", text)
    if not found:
        raise MaterialError(f"{where}: not a parameter: {text!r}")
    names = tuple(dict.fromkeys([found[1], *(n.strip() for n in found[3].split(",") if n.strip())]))
    optional, kind = bool(found[2]), found[4].strip()
    if numeric := re.fullmatch(r"(INT|FLOAT) (-?[\d.]+)-(-?[\d.]+)", kind):
        return Param(names, optional, numeric[1].lower(), (numeric[2], numeric[3]))
    if kind.startswith("CODE "):
        return Param(names, optional, "code", tuple(kind.split()[1:]))
    if kind in vocabularies:
        return Param(names, optional, "text", vocabularies[kind])
    if "|" in kind:
        return Param(names, optional, "choice", tuple(kind.split("|")))
    raise MaterialError(f"{where}: unknown type {kind!r}")


def _check(path: Path, tools: Sequence[Tool]) -> None:
    for tool in tools:
        keys = {param.key: param for param in tool.params}
        for lack in tool.lacks:
            said = {*slots(lack.text), *lack.fixed}
            if said >= {key for key, param in keys.items() if not param.optional} or not said <= keys.keys():
                raise MaterialError(
                    f"{path.name}: [{tool.key}] {lack.text!r}: lacks nothing, or names what is not declared"
                )
        for ask in tool.asks:
            said = {*slots(ask.text), *ask.fixed}
            lacking = [key for key, param in keys.items() if not param.optional and key not in said]
            if lacking or not said <= keys.keys():
                where = f"{path.name}: [{tool.key}] {ask.text!r}"
                raise MaterialError(f"{where}: lacks {lacking}, or names what is not declared")


def read_beyond(path: Path) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """Vocabularies and the sentences that no tool serves."""
    vocabularies: dict[str, tuple[str, ...]] = {}
    sentences = []
    for _, text in _lines(path):
        if vocabulary := _vocabulary(text):
            vocabularies[vocabulary[0]] = vocabulary[1]
        else:
            sentences.append(text)
    return vocabularies, sentences
