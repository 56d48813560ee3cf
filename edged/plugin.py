"""The public API of plugins: functions marked `@tool`, and a few words about where their arguments come from.

A plugin is a folder with a `plugin.toml` and a module. It runs in a child process of its own, so it may block, be slow or
crash. This module is all that it needs to import; it stays inside the standard library, and light: it is in every child.

    from typing import Annotated
    from edged.plugin import Choice, ToolError, tool

    @tool(say="{product} is on shelf {shelf}.", examples=["where are the batteries"])
    def locate(product: Annotated[str, Choice(products)]) -> dict[str, object]:
        \"\"\"Tell where a product stands\"\"\"
        return {"product": product, "shelf": shelf_of(product)}
"""

from __future__ import annotations

import threading
import time
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

__all__ = [
    "Choice",
    "Number",
    "Span",
    "Tool",
    "ToolError",
    "bind",
    "binding",
    "cancelled",
    "emit",
    "on_start",
    "state_dir",
    "tool",
]

F = TypeVar("F", bound=Callable[..., Any])
Emitter = Callable[[dict[str, Any]], None]
_TYPES: dict[type, str] = {str: "string", int: "integer", float: "number", bool: "boolean"}
_NONE = type(None)


class ToolError(Exception):
    """The tool refuses; the text is a whole sentence for the user and the model. Anything else raised is a bug."""


class Span:
    """The value is copied word for word from the request."""

    __slots__ = ()
    kind = "span"


class Number:
    """The value is a number that the request states, within the bounds (both included, None is open)."""

    __slots__ = ("maximum", "minimum")
    kind = "number"

    def __init__(self, minimum: float | None = None, maximum: float | None = None) -> None:
        self.minimum = minimum
        self.maximum = maximum


class Choice:
    """The value is one of `choices`: a sequence, or a function that is asked whenever the tools are described."""

    __slots__ = ("_choices",)
    kind = "choice"

    def __init__(self, choices: Sequence[str] | Callable[[], Iterable[str]]) -> None:
        self._choices = choices

    def values(self) -> tuple[str, ...]:
        return tuple(self._choices() if callable(self._choices) else self._choices)


class Parameter:
    """One argument of a tool, read off its annotation."""

    __slots__ = ("default", "grounding", "kind", "literals", "name", "required")

    def __init__(self, name: str, hint: Any, default: Any, required: bool) -> None:
        base, markers = _peel(hint)
        self.name = name
        self.literals: tuple[Any, ...] = typing.get_args(base) if typing.get_origin(base) is typing.Literal else ()
        kind = _TYPES.get(type(self.literals[0]) if self.literals else base)
        if kind is None:
            raise TypeError(f"parameter {name!r}: annotate it as str, int, float, bool or Literal, not {base!r}")
        self.kind = kind
        self.grounding = next((m for m in markers if isinstance(m, Span | Number | Choice)), None)
        self.default = default
        self.required = required

    def schema(self) -> dict[str, Any]:
        schema: dict[str, Any] = {"type": self.kind}
        if self.literals:
            schema["enum"] = list(self.literals)
        if isinstance(self.grounding, Number):
            bounds = {"minimum": self.grounding.minimum, "maximum": self.grounding.maximum}
            schema |= {key: bound for key, bound in bounds.items() if bound is not None}
        return schema

    def check(self, value: Any) -> Any:
        """The value the function gets. Raises `ToolError` that names the parameter and what it takes."""
        value = self._typed(value)
        if self.literals and value not in self.literals:
            raise ToolError(f"The {self.name} must be {_one_of(self.literals)}, not {value!r}.")
        if isinstance(self.grounding, Number):
            _within(self.name, value, self.grounding)
        if isinstance(self.grounding, Choice):
            return _chosen(self.name, value, self.grounding.values())
        return value

    def _typed(self, value: Any) -> Any:
        number = isinstance(value, int | float) and not isinstance(value, bool) and value == value
        fits = {
            "string": isinstance(value, str),
            "integer": number and value == value // 1 and abs(value) < 2**63,
            "number": number and abs(value) != float("inf"),
            "boolean": isinstance(value, bool),
        }
        if not fits[self.kind]:
            kind = {"string": "text", "integer": "a whole number", "number": "a number", "boolean": "true or false"}
            raise ToolError(f"The {self.name} must be {kind[self.kind]}, not {str(value)[:80]!r}.")
        return int(value) if self.kind == "integer" else value


class Tool:
    """A registered function with its schema. `describe` is what the daemon is told; `invoke` checks, then calls."""

    def __init__(self, function: Callable[..., Any], options: dict[str, Any]) -> None:
        self.function = function
        self.name = function.__name__
        self.description = ((function.__doc__ or "").strip().splitlines() or [""])[0]
        if not self.description:
            raise TypeError(f"tool {self.name!r} needs a docstring: its first line is what models read")
        self.parameters = tuple(_parameters(function))
        self.options = options

    def describe(self) -> dict[str, Any]:
        """JSON-able: the fields of `edged.domain.resources.ToolSpec` without `plugin`; choices as they are now."""
        grounding = {
            p.name: {
                "kind": p.grounding.kind,
                "choices": p.grounding.values() if isinstance(p.grounding, Choice) else (),
            }
            for p in self.parameters
            if p.grounding is not None
        }
        schema = {
            "type": "object",
            "properties": {p.name: p.schema() for p in self.parameters},
            "required": [p.name for p in self.parameters if p.required],
        }
        facts = {"name": self.name, "description": self.description, "parameters": schema, "grounding": grounding}
        return {**facts, **self.options}

    def invoke(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """The result map. Raises `ToolError` for bad arguments and for what the tool refuses."""
        result = self.function(**self._checked(arguments))
        return result if isinstance(result, dict) else {} if result is None else {"result": result}

    def _checked(self, arguments: dict[str, Any]) -> dict[str, Any]:
        known = {p.name: p for p in self.parameters}
        given = {name: value for name, value in arguments.items() if value is not None}
        if extra := [str(name) for name in arguments if name not in known]:
            raise ToolError(f"{self.name} takes no {_one_of(extra)}.")
        if missing := [p.name for p in self.parameters if p.required and p.name not in given]:
            raise ToolError(f"{self.name} needs {' and '.join(missing)}.")
        return {name: known[name].check(value) for name, value in given.items()}


class Binding:
    """What the plugin registers, and what the child's loop lends it. One per process; plugins leave it alone."""

    def __init__(self) -> None:
        self.tools: dict[str, Tool] = {}
        self.start_hooks: list[Callable[[], None]] = []
        self.state: Path | None = None
        self.emitter: Emitter | None = None
        self.local = threading.local()


binding = Binding()


def tool(
    *,
    say: str | Mapping[str, str] | None = None,
    say_error: str | Mapping[str, str] | None = None,
    idempotent: bool = True,
    timeout: float = 5.0,
    examples: Sequence[str] = (),
) -> Callable[[F], F]:
    """Register a function as a tool; it stays a plain function.

    `say` and `say_error` are `str.format` templates over the result's fields and the arguments (`{error}` in `say_error`);
    with `say`, no language model is needed for the answer. A mapping gives one a language: `{"en": ..., "de": ...}`.
    `idempotent=False` keeps the daemon from ever running a call twice. `timeout` is seconds. `examples` are sentences that mean
    this tool. Raises TypeError for annotations it can't read.
    """
    options = {"say": say, "say_error": say_error, "idempotent": idempotent, "timeout": timeout}

    def register(function: F) -> F:
        binding.tools[function.__name__] = Tool(function, {**options, "examples": tuple(examples)})
        return function

    return register


def on_start(function: Callable[[], None]) -> Callable[[], None]:
    """Register a function that runs once, before the first call, when `state_dir` and `emit` work."""
    binding.start_hooks.append(function)
    return function


def emit(kind: str, key: str, text: str, **data: Any) -> None:
    """Tell the daemon that something happened; every listening door announces `text`.

    The same `key` of one plugin is announced once: make it stable, and emitting again after a restart is harmless. Callable
    from any thread. `data` is JSON-able.
    """
    if binding.emitter is None:
        raise RuntimeError("emit works inside a plugin child (or after edged.plugin.bind)")
    binding.emitter({"kind": kind, "key": key, "text": text, "at": time.time(), "data": data})


def state_dir() -> Path:
    """The folder this plugin may write to. It outlives restarts and updates."""
    if binding.state is None:
        raise RuntimeError("state_dir works inside a plugin child (or after edged.plugin.bind)")
    return binding.state


def cancelled() -> bool:
    """True when nobody waits for the running call any more. A long tool looks now and then, and returns."""
    flag: Callable[[], bool] | None = getattr(binding.local, "cancelled", None)
    return flag is not None and flag()


def bind(state: Path, emitter: Emitter) -> None:
    """For the child's loop, and for tests of a plugin in one process: lend the plugin its folder and its voice."""
    binding.state = state
    binding.emitter = emitter


def _parameters(function: Callable[..., Any]) -> list[Parameter]:
    # without `inspect`: it would cost every child a megabyte
    code = function.__code__
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    positional = names[: code.co_argcount]
    defaults = dict(zip(reversed(positional), reversed(function.__defaults__ or ()), strict=False))
    defaults |= function.__kwdefaults__ or {}
    hints = typing.get_type_hints(function, include_extras=True)
    return [Parameter(name, hints.get(name), defaults.get(name), name not in defaults) for name in names]


def _peel(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """Strip Annotated and `| None`, in any order; the bare type and the markers."""
    markers: tuple[Any, ...] = ()
    while True:
        origin = typing.get_origin(hint)
        if origin is typing.Annotated:
            markers += hint.__metadata__
            hint = hint.__origin__
        elif origin in (typing.Union, types.UnionType):
            rest = [arm for arm in typing.get_args(hint) if arm is not _NONE]
            if len(rest) != 1:
                return hint, markers
            hint = rest[0]
        else:
            return hint, markers


def _within(name: str, value: float, bounds: Number) -> None:
    if bounds.minimum is not None and value < bounds.minimum:
        raise ToolError(f"The {name} must be at least {bounds.minimum:g}, not {value:g}.")
    if bounds.maximum is not None and value > bounds.maximum:
        raise ToolError(f"The {name} must be at most {bounds.maximum:g}, not {value:g}.")


def _chosen(name: str, value: str, choices: tuple[str, ...]) -> str:
    if value in choices:
        return value
    folded = " ".join(value.split()).casefold()
    for choice in choices:
        if choice.casefold() == folded:
            return choice
    asked = f"called {value[:80]!r}; choose {_one_of(choices)}" if choices else "to choose now"
    raise ToolError(f"There is no {name} {asked}.")


def _one_of(values: Sequence[Any], most: int = 6) -> str:
    shown = [str(value) for value in values[:most]]
    if len(values) > most:
        return ", ".join(shown) + f" or one of {len(values) - most} more"
    return " or ".join(filter(None, [", ".join(shown[:-1]), shown[-1]]))
