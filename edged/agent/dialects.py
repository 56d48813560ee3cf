"""The model families' ways of writing tool calls, as data. Pure.

The truth is in each model's own chat template; tests hold this table to real ones. An output is
`first open BODY close (between open BODY close)* last`, or the mark for "no tool fits". What may be a control token stands in
`⟦ ⟧`: the worker puts the token's number there where the vocabulary has one, else the text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from edged.agent.bodies import Body, GemmaBody, JsonBody, NamedBody

__all__ = ["DIALECTS", "Dialect", "plain"]

_NOTHING_FITS = "If no tool fits the request, write only <escalate>."
_MARK = re.compile("⟦([^⟧]+)⟧")


def plain(marks: str) -> str:
    """Marks as the text that they are read back as."""
    return _MARK.sub(r"\1", marks)


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a family writes calls. `between` None: one call at a time. `lead` is a mark that may or may not come first.

    `hint` is for the system message: what the model's template does not tell it. `sound`: the model is of use where the reader is
    in doubt.
    """

    name: str
    body: Body
    first: str = ""
    open: str = ""
    close: str = ""
    between: str | None = None
    last: str = ""
    lead: str = ""
    escalate: str = "<escalate>"
    hint: str = _NOTHING_FITS
    sound: bool = True

    @property
    def triggers(self) -> tuple[str, ...]:
        """The texts with which calls begin: before one of them the model speaks freely, from it on the grammar binds."""
        begins = plain(self.first + self.open)
        mark = _MARK.match(self.first + self.open)
        start = mark[1] if mark else begins or self.body.begins
        return (plain(self.lead), start) if self.lead else (start,)


def _prompted(written: str, *, instead: str = _NOTHING_FITS) -> str:
    """The hint for a model whose template says nothing of calls."""
    return f"To use a tool, write only {written}. {instead}"


def _tagged(name: str, hint: str = _NOTHING_FITS) -> Dialect:
    return Dialect(name, JsonBody(), open="⟦<tool_call>⟧\n", close="\n⟦</tool_call>⟧", between="\n", hint=hint)


def _listed(name: str, first: str, last: str, body: Body) -> Dialect:
    return Dialect(name, body, first=first, last=last, between=", ")


_TABLE = (
    # the bundled model: single control tokens. Where the reader is in doubt, one in seven of its calls for strange tools is right
    Dialect(
        "edged",
        JsonBody(comma=",", colon=":"),
        open="⟦<tool_call>⟧",
        close="⟦</tool_call>⟧",
        escalate="⟦<escalate>⟧",
        hint="",
        sound=False,
    ),
    # Qwen 2.5 and 3, Granite 4, Hermes and those that learnt from them
    _tagged("hermes"),
    _tagged("smollm3", _prompted('<tool_call>\n{"name": NAME, "arguments": {...}}\n</tool_call>')),
    # trained to answer with an empty list where nothing fits
    replace(
        _listed("smollm2", "⟦<tool_call>⟧[", "]⟦</tool_call>⟧", JsonBody()),
        escalate="⟦<tool_call>⟧[]⟦</tool_call>⟧",
        hint=_prompted(
            '<tool_call>[{"name": NAME, "arguments": {...}}]</tool_call>',
            instead="If none fits, write only <tool_call>[]</tool_call>.",
        ),
    ),
    # its templates refuse more than one call in a message
    Dialect("llama3", JsonBody(key="parameters"), lead="⟦<|python_tag|>⟧"),
    _listed("mistral", "⟦[TOOL_CALLS]⟧[", "]", JsonBody(numbered=True)),
    Dialect("mistral_args", NamedBody(), open="⟦[TOOL_CALLS]⟧", between=""),
    _listed("phi4", "⟦<|tool_call|>⟧[", "]⟦<|/tool_call|>⟧", JsonBody()),
    # what Ollama and vLLM teach Phi-4-mini, and Firefunction
    _listed("functools", "functools[", "]", JsonBody()),
    _listed("granite3", "⟦<|tool_call|>⟧[", "]", JsonBody()),
    # the second sentence is the one that it was trained to read before its functions
    Dialect(
        "functiongemma",
        GemmaBody("<escape>"),
        open="⟦<start_function_call>⟧",
        close="⟦<end_function_call>⟧",
        between="",
        hint=f"{_NOTHING_FITS} You are a model that can do function calling with the following functions",
    ),
    Dialect("gemma4", GemmaBody('<|"|>'), open="⟦<|tool_call>⟧", close="⟦<tool_call|>⟧", between=""),
    # Gemma 2 and 3 know no tools; this is the form that Google's guide has them prompted with
    Dialect("gemma", JsonBody(key="parameters"), hint=_prompted('{"name": NAME, "parameters": {...}}')),
    Dialect("json", JsonBody(), hint=_prompted('{"name": NAME, "arguments": {...}}')),
)
DIALECTS = {dialect.name: dialect for dialect in _TABLE}
