"""Messages as a chat template takes them: templates differ in what they show and in what they refuse. Pure.

Each is tried once with words of our own. What it would leave out is then said in a message that it does show; what it refuses
is put in the way that it takes. How calls are written where a template has no way for them is what `agent/dialects` asks for.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

__all__ = ["Message", "Shaper", "tojson"]

_NUMBERED = re.compile("[A-Za-z0-9]{9}")  # what Mistral's templates take for the id of a call

Message = dict[str, Any]
# Whether a word is in what the template makes of messages and tools; None when it breaks.
Shows = Callable[[str, list[Message], Sequence[Message]], bool | None]


@dataclass(frozen=True, slots=True)
class _Form:
    """How calls are written in a message's text, where the template leaves out a message's calls (see `agent/dialects`)."""

    open: str = ""
    close: str = ""
    listed: bool = False
    key: str = "arguments"


_FORMS: tuple[tuple[tuple[str, ...], _Form], ...] = (
    (("<|start_of_role|>",), _Form("<|tool_call|>", listed=True)),
    (("<|/tool|>",), _Form("<|tool_call|>", "<|/tool_call|>", listed=True)),
    (("SmolLM", "/no_think"), _Form("<tool_call>\n", "\n</tool_call>")),
    (("SmolLM",), _Form("<tool_call>", "</tool_call>", listed=True)),
    (("<start_of_turn>",), _Form(key="parameters")),
    ((), _Form()),
)


@dataclass(frozen=True, slots=True)
class _Manners:
    """What a template does. `tools`: it shows those of its "variable", those of the system "message" (Phi-4), or none ("text").
    `text_arguments`: it takes arguments only as JSON text. `several` calls in one message. `mapped`: it takes results as what
    their JSON means. `repeats`: one role twice in a row."""

    system: bool = True
    tools: str = "variable"
    calls: bool = True
    text_arguments: bool = False
    several: bool = True
    results: bool = True
    mapped: bool = False
    repeats: bool = True


def tojson(value: Any, indent: int | None = None, **options: Any) -> str:
    """As transformers does it: no HTML escapes, no ASCII escapes (a shield's characters must stay what they are)."""
    return json.dumps(value, ensure_ascii=False, indent=indent, separators=options.get("separators"))


class Shaper:
    """What one template does, by its `source`, and messages as it takes them."""

    def __init__(self, source: str) -> None:
        self._form = next(form for marks, form in _FORMS if all(mark in source for mark in marks))
        self._own = "_call>call:" in source  # Gemma's way: calls, and results if it can be, are no JSON
        self._manners = _Manners()

    def learn(self, shows: Shows) -> None:
        """Tries the template. Where it breaks nothing is learnt: it will say why when it is used."""

        def seen(word: str, *messages: Message, tools: Sequence[Message] = ()) -> bool | None:
            return shows(word, _conventional(list(messages)), tools)

        user, call, result = _say("user", "said"), _say("assistant", tool_calls=[_PROBE]), _RESULT
        calls, text = seen("probe", user, call, result), False
        if calls is None or seen("{'probe'", user, call, result):  # it wants text, or would print it as Python does
            text = bool(shows('{"probe"', _texts(_conventional([user, call, result])), ()))
        answer = _say("assistant", "probe") if calls is False else call
        both, other = _say("assistant", tool_calls=[_PROBE, _OTHER]), result | {"tool_call_id": _OTHER["id"]}
        self._manners = _Manners(
            system=seen("told", _say("system", "told"), user) is not False,
            tools=_declares(seen),
            calls=calls is not False,
            text_arguments=text,
            several=calls is False or seen("other", user, both, result, other) is not False,
            results=seen("found", user, answer, result) is not False,
            mapped=self._own and bool(seen("found:", user, call, result | {"content": {"found": "it"}})),
            repeats=seen("told", user, _say("user", "told")) is not False,
        )

    def shape(
        self, messages: list[Message], tools: list[Message], trust: Callable[[str], str]
    ) -> tuple[list[Message], list[Message]]:
        """(messages, tools) as the template takes them. `trust` stands in for marks of our own among the texts of others."""
        manners = self._manners
        if not manners.several:
            messages = list(_one_by_one(messages))
        messages = _conventional(messages)
        if not manners.calls:
            messages = [self._written(message, trust) for message in messages]
        elif manners.text_arguments:
            messages = _texts(messages)
        messages = [self._result(message) if message["role"] == "tool" else message for message in messages]
        if tools and manners.tools != "variable":
            messages, tools = self._declared(messages, tools), []
        if not manners.system and messages and messages[0]["role"] == "system":
            messages = _folded(messages)
        return (messages if manners.repeats else _merged(messages)), tools

    def _written(self, message: Message, trust: Callable[[str], str]) -> Message:
        """A message whose calls stand in its text."""
        form, rest = self._form, {key: value for key, value in message.items() if key != "tool_calls"}
        calls = [{"name": call["name"], form.key: call["arguments"]} for call in message.get("tool_calls", ())]
        if not calls:
            return rest
        begin, end = trust(form.open), trust(form.close)
        whole = "\n".join(f"{begin}{tojson(call)}{end}" for call in calls)
        return rest | {"content": message["content"] + (f"{begin}{tojson(calls)}{end}" if form.listed else whole)}

    def _result(self, message: Message) -> Message:
        if not self._manners.results:
            return _say("user", f"<tool_response>\n{message['content']}\n</tool_response>")
        if self._manners.mapped:
            with suppress(ValueError):
                value = json.loads(message["content"])
                return message | {"content": value} if isinstance(value, dict) else message
        return message

    def _declared(self, messages: list[Message], tools: list[Message]) -> list[Message]:
        """The tools in the system message, which is made where there is none."""
        functions = [tool["function"] for tool in tools]
        begun = bool(messages) and messages[0]["role"] == "system"
        system, rest = (messages[0], messages[1:]) if begun else (_say("system", ""), messages)
        if self._manners.tools == "message":
            return [system | {"tools": tojson(functions)}, *rest]
        listed = "\n".join(map(tojson, functions))
        told = f"You have these tools:\n<tools>\n{listed}\n</tools>\n\n{system['content']}"
        return [system | {"content": told.rstrip()}, *rest]


def _say(role: str, content: str = "", **more: Any) -> Message:
    return {"role": role, "content": content, **more}


_PROBE: Message = {"id": "000000001", "name": "probe", "arguments": {"probe": "probe"}}
_OTHER: Message = {"id": "000000002", "name": "other", "arguments": {"probe": "probe"}}
_RESULT: Message = _say("tool", "found", tool_call_id=_PROBE["id"])
_TOOL: Message = {
    "type": "function",
    "function": {
        "name": "probe",
        "description": "",
        "parameters": {"type": "object", "properties": {}, "required": []},
    },
}


def _declares(seen: Callable[..., bool | None]) -> str:
    """Where a template shows tools: see `_Manners`."""
    if seen("probe", _say("user", "said"), tools=[_TOOL]) is not False:
        return "variable"
    return "message" if seen("probe", _say("system", "told", tools="probe"), _say("user", "said")) else "text"


def _conventional(messages: list[Message]) -> list[Message]:
    """Tool calls in both shapes that templates read (`call.function.name` and `call.name`); results get their tool's name."""
    names: dict[str, str] = {}
    out = []
    for message in messages:
        shaped = {key: value for key, value in message.items() if key != "tool_calls" or value}
        calls = [{**call, "id": _number(call["id"])} for call in shaped.get("tool_calls", ())]
        names |= {call["id"]: call["name"] for call in calls}
        if calls:
            shaped["tool_calls"] = [
                {**call, "type": "function", "function": {"name": call["name"], "arguments": call["arguments"]}}
                for call in calls
            ]
        if "tool_call_id" in shaped:
            shaped["tool_call_id"] = _number(shaped["tool_call_id"])
        if shaped.get("tool_call_id") in names:
            shaped.setdefault("name", names[shaped["tool_call_id"]])
        out.append(shaped)
    return out


def _number(identifier: str) -> str:
    """Nine letters and digits for a call's id, always the same ones."""
    if _NUMBERED.fullmatch(identifier):
        return identifier
    return hashlib.sha256(identifier.encode()).hexdigest()[:9]


def _texts(messages: list[Message]) -> list[Message]:
    """Arguments as JSON text."""
    out = []
    for message in messages:
        calls = [call | {"arguments": tojson(call["arguments"])} for call in message.get("tool_calls", ())]
        shaped = [call | {"function": {"name": call["name"], "arguments": call["arguments"]}} for call in calls]
        out.append(message | {"tool_calls": shaped} if shaped else message)
    return out


def _one_by_one(messages: list[Message]) -> Iterator[Message]:
    """Each call in a message of its own, with its result behind it."""
    results = {message.get("tool_call_id"): message for message in messages if message["role"] == "tool"}
    moved: set[str] = set()
    for message in messages:
        calls = message.get("tool_calls", ())
        if len(calls) < 2:
            if message.get("tool_call_id") not in moved:
                yield message
            continue
        for i, call in enumerate(calls):
            yield message | {"content": "" if i else message["content"], "tool_calls": [call]}
            if call["id"] in results:
                yield results[call["id"]]
                moved.add(call["id"])


def _folded(messages: list[Message]) -> list[Message]:
    """What the system message says, said at the beginning of the first message of the user."""
    told, rest = messages[0]["content"], messages[1:]
    at = next((i for i, message in enumerate(rest) if message["role"] == "user"), None)
    if at is None:
        return [_say("user", told), *rest]
    said = rest[at] | {"content": f"{told}\n\n{rest[at]['content']}"}
    return [*rest[:at], said, *rest[at + 1 :]]


def _merged(messages: list[Message]) -> list[Message]:
    """Messages of the user that follow one another as one."""
    out: list[Message] = []
    for message in messages:
        if out and message["role"] == out[-1]["role"] == "user":
            out[-1] = out[-1] | {"content": f"{out[-1]['content']}\n\n{message['content']}"}
        else:
            out.append(message)
    return out
