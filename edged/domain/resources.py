"""Things that exist on the device: tools, agents, models, budgets, pressure. Plain data, decided elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import IntEnum
from typing import Any, Literal

__all__ = ["Agent", "Budget", "Grounding", "Headroom", "ModelSpec", "Phrasebook", "Pressure", "ToolSpec"]

GroundingKind = Literal["span", "number", "choice"]


@dataclass(frozen=True, slots=True)
class Grounding:
    """Where an argument's value must come from.

    "span": word for word from the request. "number": a number that the request states. "choice": one of `choices`,
    the values the plugin supplies now (device names, products).
    """

    kind: GroundingKind
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool as agents and models see it.

    `parameters` is a JSON schema of type object. `grounding` maps parameter names to where their values come from.
    `say` and `say_error` are `str.format`-style templates over the result's fields and the arguments (`{error}` in
    `say_error`), one for all or one a language ("en", "de", "pt-BR"). `timeout` is seconds. A tool that is not `idempotent`
    is recorded before it runs and is never run twice.
    """

    name: str
    description: str
    parameters: dict[str, Any]
    plugin: str = ""
    grounding: dict[str, Grounding] = field(default_factory=dict)
    say: str | Mapping[str, str] | None = None
    say_error: str | Mapping[str, str] | None = None
    idempotent: bool = True
    timeout: float = 5.0
    examples: tuple[str, ...] = ()

    @property
    def required(self) -> tuple[str, ...]:
        return tuple(self.parameters.get("required", ()))

    def to_openai(self) -> dict[str, Any]:
        """The `tools=` entry of the chat completions API; chat templates read this shape too."""
        return {
            "type": "function",
            "function": {"name": self.name, "description": self.description, "parameters": self.parameters},
        }

    def to_wire(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_wire(cls, wire: dict[str, Any]) -> ToolSpec:
        rest = dict(wire)
        grounding = {
            key: Grounding(g["kind"], tuple(g.get("choices", ()))) for key, g in rest.pop("grounding", {}).items()
        }
        return cls(grounding=grounding, examples=tuple(rest.pop("examples", ())), **rest)


@dataclass(frozen=True, slots=True)
class Agent:
    """One agent: a few lines of configuration.

    `tools` are names of tools or "plugin.*". `reflexes`, `lists` and `rules` are those of a `Phrasebook`. `escalate`
    "never" is what an operator writes as `local_only = true`. `max_steps` bounds generations, `deadline` is seconds. With `learn`
    a call that a caller confirmed teaches what the sentence meant. `adapter` is one of the model's; `overflow` is what becomes of a
    conversation that outgrows the model's context.
    """

    name: str
    model: str
    tools: tuple[str, ...] = ()
    instructions: str = ""
    tiers: tuple[str, ...] = ("reflex", "intent", "model", "cloud")
    local_only: bool = False
    max_steps: int = 4
    max_tokens: int = 128
    deadline: float = 30.0
    reflexes: tuple[tuple[str, str, dict[str, Any]], ...] = ()
    roles: tuple[str, ...] = ()
    memory: int = 0
    language: str = "en"
    learn: bool = False
    adapter: str | None = None
    overflow: Literal["error", "drop_oldest"] = "error"
    lists: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    rules: Mapping[str, str] = field(default_factory=dict)

    @property
    def phrases(self) -> Phrasebook:
        return Phrasebook(self.reflexes, self.lists, self.rules)


@dataclass(frozen=True, slots=True)
class Phrasebook:
    """Sentence patterns and the words that they are written with, an agent's or a plugin's (`agent/reflex`).

    `reflexes` are (pattern, tool, arguments that the pattern fixes). `lists` map words to the values that they mean, `rules` name
    parts of patterns. `plugin` is the one whose tools they call, "" for any; `file` is where they stand, if that is not told.
    """

    reflexes: tuple[tuple[str, str, dict[str, Any]], ...] = ()
    lists: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    rules: Mapping[str, str] = field(default_factory=dict)
    plugin: str = ""
    file: str = ""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model the configuration names. `path` is absolute, or "bundled". Counts of tokens and threads; 0 means automatic.

    A "language" model is a GGUF file that generates; an "encoder" is a folder of ONNX files that embeds and reads sentences.
    `streams` generations run at once; `cache_length` tokens is what the KV cache holds for all of them together, 0 for as
    much as one may need. `adapters` are LoRA files by name. `snapshot_bytes` bounds the computed prefixes that are kept on disk.
    """

    name: str
    path: str
    kind: Literal["language", "encoder"] = "language"
    context_length: int = 1024
    batch_size: int = 512
    threads: int = 0
    keep_alive: float = 300.0
    dialect: str = "auto"
    streams: int = 8
    cache_length: int = 0
    kv_type: Literal["f16", "q8_0", "q4_0"] = "f16"
    adapters: Mapping[str, str] = field(default_factory=dict)
    snapshot_bytes: int = 256 << 20


@dataclass(frozen=True, slots=True)
class Budget:
    """Bytes that resident models may hold together (weights + KV + compute). `reserve` is what they leave to all others,
    whatever the device has. With `walls` a worker that takes far more than its model needs is ended."""

    memory_bytes: int
    reserve: int = 0
    walls: bool = True


@dataclass(frozen=True, slots=True)
class Headroom:
    """Bytes that can still be had: in the tightest control group, and on the device. None where the kernel does not tell."""

    cgroup: int | None = None
    available: int | None = None


class Pressure(IntEnum):
    """How hard the device is pressed for memory."""

    NONE = 0
    SOME = 1
    FULL = 2
