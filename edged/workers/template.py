"""Chat messages to text by the model's own template, such that no caller can write a control token.

The rule: strings from callers, tools and documents are plain text whatever they spell. Where one spells a control token,
the spelling is replaced by a private-use character before rendering, so a template may trim, compare or dump it as
JSON; afterwards the rendered text is cut at those characters and the spellings are tokenized letter by letter, which no
tokenizer reads as a control token. A control token could also be pieced together from the end of one string and what
follows it: tails that begin one are treated alike. Templates are sandboxed and have a time limit: they come with the file.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from types import FrameType
from typing import Any

from edged.domain.errors import BadRequest, ModelBroken
from edged.workers.shaping import Message, Shaper, tojson

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
        self._marks: dict[tuple[str, bool], str] = {}
        self._texts: list[tuple[str, bool]] = []

    def wrap(self, value: Any) -> Any:
        """The value with every string in it, keys too, made harmless."""
        if isinstance(value, str):
            return self._pattern.sub(self._mark, value)
        if isinstance(value, Mapping):
            return {self.wrap(k): self.wrap(v) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.wrap(v) for v in value]
        return value

    def trust(self, text: str) -> str:
        """A stand-in for `text` of our own, which may hold control tokens, among values that are already wrapped."""
        return self._stand_in(text, True) if text else ""

    def _mark(self, match: re.Match[str]) -> str:
        return self._stand_in(match[0], False)

    def _stand_in(self, text: str, trusted: bool) -> str:
        key = (text, trusted)
        if key not in self._marks:
            if len(self._texts) > _LAST - _FIRST:
                raise BadRequest("the request holds too many different private-use characters")
            self._marks[key] = chr(_FIRST + len(self._texts))
            self._texts.append(key)
        return self._marks[key]

    def split(self, rendered: str) -> Iterator[tuple[str, bool]]:
        """(text, may hold control tokens) in order; texts that may not are single letters."""
        held = ""
        for i, part in enumerate(re.split(f"([{chr(_FIRST)}-{chr(_LAST)}])", rendered)):
            index = ord(part) - _FIRST if i % 2 else -1
            text, trusted = self._texts[index] if 0 <= index < len(self._texts) else (part, i % 2 == 0)
            if trusted:
                held += text
                continue
            if held:
                yield held, True
                held = ""
            yield from ((letter, False) for letter in text)
        if held:
            yield held, True


class ChatTemplate:
    """A compiled chat template. `bos` and `eos` are the texts of those tokens, `specials` those of all control tokens."""

    def __init__(self, source: str, *, bos: str = "", eos: str = "", specials: Iterable[str] = ()) -> None:
        from jinja2 import TemplateError

        self._specials = tuple(specials)
        try:
            self._template = _environment(bos, eos).from_string(source or _CHATML)
        except (TemplateError, RecursionError, MemoryError, ArithmeticError) as error:
            raise ModelBroken(f"the model's chat template does not compile: {error}") from error
        self._shaper = Shaper(source)
        with suppress(TimeoutError), _time_limit(SECONDS):
            self._shaper.learn(self._shows)

    def render(
        self, messages: list[Message], tools: list[Message] | None, *, generate: bool = True
    ) -> list[tuple[str, bool]]:
        """The prompt in pieces (text, may hold control tokens).

        `messages` are those of `Message.to_wire`; `tools` have OpenAI's shape. Raises `BadRequest` when the template
        refuses the messages, `ModelBroken` when it takes more than `SECONDS` or breaks.
        """
        shield = Shield(self._specials)
        shown, declared = self._shaper.shape(shield.wrap(messages), shield.wrap(tools or []), shield.trust)
        try:
            with _time_limit(SECONDS):
                rendered = self._run(shown, declared, generate)
        except _Refused as error:
            raise BadRequest(f"the model's chat template refuses these messages: {error}") from error
        except TimeoutError as error:
            raise ModelBroken(f"the model's chat template failed: {error}") from error
        except _broken() as error:
            raise ModelBroken(f"the model's chat template failed: {error}") from error
        return list(shield.split(rendered))

    def _run(self, messages: list[Message], tools: list[Message], generate: bool = True) -> str:
        variables = {
            "messages": messages,
            "tools": tools or None,
            "functions": tojson(tools, indent=4) if tools else "",  # this and `datetime` are Firefunction's
            "add_generation_prompt": generate,
            "enable_thinking": False,  # an answer that a grammar binds from its first token on leaves no room for thoughts
        }
        return str(self._template.render(variables))

    def _shows(self, word: str, messages: list[Message], tools: Sequence[Message] = ()) -> bool | None:
        """Whether `word` is in what the template makes of the messages; None when it breaks."""
        try:
            return word in self._run(messages, list(tools))
        except _Refused:
            return False
        except _broken():
            return None


def _environment(bos: str, eos: str) -> Any:
    """The sandbox, with what templates that were written for transformers call by name."""
    from jinja2 import nodes, parser
    from jinja2.ext import Extension
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """The block around what the model is trained to say: here only its contents."""

        tags = {"generation"}  # noqa: RUF012

        def parse(self, parser: parser.Parser) -> list[nodes.Node]:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    class Bounded(ImmutableSandboxedEnvironment):
        """Powers and repetitions are bounded, and left to the moment when the alarm is set."""

        intercepted_binops = frozenset(("*", "**", "%"))  # the compiler does not compute these

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            numbers = isinstance(left, (int, float)) and isinstance(right, (int, float))
            if operator == "**" and (not numbers or abs(right) > 64 or abs(left) > 1 << 20):
                raise OverflowError("a power beyond what a template can want")
            if operator == "*" and not numbers and len(str(left)) * len(str(right)) > 1 << 20:
                raise OverflowError("a repetition beyond what a template can want")
            return super().call_binop(context, operator, left, right)

    env = Bounded(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", Generation])
    env.filters["tojson"] = tojson
    env.globals |= {
        "raise_exception": _refuse,
        "strftime_now": _now,
        "datetime": _now("%Y-%m-%d"),
        "bos_token": bos,
        "eos_token": eos,
    }
    return env


def _broken() -> tuple[type[Exception], ...]:
    """What a template that is at fault raises."""
    from jinja2 import TemplateError

    return TemplateError, TypeError, ValueError, ArithmeticError, LookupError, RecursionError


class _Refused(Exception):
    """The template called raise_exception."""


def _refuse(message: str) -> None:
    raise _Refused(message)


def _now(form: str) -> str:
    return datetime.now().strftime(form)


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
