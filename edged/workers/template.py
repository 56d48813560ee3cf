"""Chat messages to text by the model's own template, such that no caller can write a control token.

The rule: strings from callers, tools and documents are plain text whatever they spell. Where one spells a control token,
the spelling is replaced by a private-use character before rendering, so a template may trim, compare or dump it as
JSON; afterwards the rendered text is cut at those characters and the spellings are tokenized letter by letter, which no
tokenizer reads as a control token. A control token could also be pieced together from the end of one string and what
follows it: tails that begin one are treated alike. Templates are sandboxed and have a time limit: they come with the file.
"""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from types import FrameType
from typing import Any

from edged.domain.errors import BadRequest, ModelBroken

__all__ = ["ChatTemplate", "Shield"]

SECONDS = 2.0
_FIRST, _LAST = 0xF0000, 0xFFFFD
# What a GGUF without a template gets: the most common format there is.
_CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


class Shield:
    """Replaces spellings of control tokens in values (`wrap`) and finds them again in the rendered text (`split`)."""

    def __init__(self, specials: Iterable[str]) -> None:
        whole = sorted({s for s in specials if s}, key=len, reverse=True)
        tails = sorted({s[:n] for s in whole for n in range(1, len(s))}, key=len, reverse=True)
        parts = [*map(re.escape, whole), f"[{chr(_FIRST)}-{chr(_LAST)}]"]
        if tails:
            parts.append(rf"(?:{'|'.join(map(re.escape, tails))})\Z")
        self._pattern = re.compile("|".join(parts))
        self._marks: dict[str, str] = {}
        self._texts: list[str] = []

    def wrap(self, value: Any) -> Any:
        """The value with every string in it, keys too, made harmless."""
        if isinstance(value, str):
            return self._pattern.sub(self._mark, value)
        if isinstance(value, Mapping):
            return {self.wrap(k): self.wrap(v) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.wrap(v) for v in value]
        return value

    def _mark(self, match: re.Match[str]) -> str:
        text = match[0]
        if text not in self._marks:
            if len(self._texts) > _LAST - _FIRST:
                raise BadRequest("the request holds too many different private-use characters")
            self._marks[text] = chr(_FIRST + len(self._texts))
            self._texts.append(text)
        return self._marks[text]

    def split(self, rendered: str) -> Iterator[tuple[str, bool]]:
        """(text, may hold control tokens) in order; texts that may not are single letters."""
        for i, part in enumerate(re.split(f"([{chr(_FIRST)}-{chr(_LAST)}])", rendered)):
            if not part:
                continue
            if i % 2 == 0:
                yield part, True
                continue
            index = ord(part) - _FIRST
            for letter in self._texts[index] if index < len(self._texts) else part:
                yield letter, False


class ChatTemplate:
    """A compiled chat template. `bos` and `eos` are the texts of those tokens, `specials` those of all control tokens."""

    def __init__(self, source: str, *, bos: str = "", eos: str = "", specials: Iterable[str] = ()) -> None:
        from jinja2 import TemplateError
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        self._specials = tuple(specials)
        env = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        env.filters["tojson"] = _tojson
        env.globals |= {"raise_exception": _refuse, "strftime_now": _now, "bos_token": bos, "eos_token": eos}
        try:
            self._template = env.from_string(source or _CHATML)
        except TemplateError as error:
            raise ModelBroken(f"the model's chat template does not compile: {error}") from error

    def render(
        self, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None, *, generate: bool = True
    ) -> list[tuple[str, bool]]:
        """The prompt in pieces (text, may hold control tokens).

        `messages` are those of `Message.to_wire`; `tools` have OpenAI's shape. Raises `BadRequest` when the template
        refuses the messages, `ModelBroken` when it takes more than `SECONDS` or breaks.
        """
        from jinja2 import TemplateError

        shield = Shield(self._specials)
        variables = {
            "messages": shield.wrap(_conventional(messages)),
            "tools": shield.wrap(tools) if tools else None,
            "add_generation_prompt": generate,
        }
        try:
            with _time_limit(SECONDS):
                rendered = self._template.render(variables)
        except _Refused as error:
            raise BadRequest(f"the model's chat template refuses these messages: {error}") from error
        except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, TimeoutError) as error:
            raise ModelBroken(f"the model's chat template failed: {error}") from error
        return list(shield.split(rendered))


class _Refused(Exception):
    """The template called raise_exception."""


def _refuse(message: str) -> None:
    raise _Refused(message)


def _now(form: str) -> str:
    return datetime.now().strftime(form)


def _tojson(value: Any, indent: int | None = None, **options: Any) -> str:
    """As transformers does it: no HTML escapes, no ASCII escapes (a shield's characters must stay what they are)."""
    return json.dumps(value, ensure_ascii=False, indent=indent, separators=options.get("separators"))


def _conventional(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Tool calls in both shapes that templates read (`call.function.name` and `call.name`); results get their tool's name."""
    names: dict[str, str] = {}
    out = []
    for message in messages:
        shaped = dict(message)
        calls = shaped.get("tool_calls") or []
        names |= {call["id"]: call["name"] for call in calls}
        if calls:
            shaped["tool_calls"] = [{**call, "type": "function", "function": call} for call in calls]
        if shaped.get("tool_call_id") in names:
            shaped.setdefault("name", names[shaped["tool_call_id"]])
        out.append(shaped)
    return out


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """SIGALRM breaks a template's endless loop. Main thread only, where workers serve their calls."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"it took more than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
