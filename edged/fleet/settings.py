"""The configuration files as pydantic models that refuse what they do not know.

`edged.toml` and then `conf.d/*.toml` in order of their names are merged table by table; later files win. Every error
names the file, the key, what is wrong and what would be right.
"""

from __future__ import annotations

import os
import re
import socket
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from edged.agent.dialects import DIALECTS
from edged.agent.reflex import compile_book
from edged.domain.errors import ConfigError
from edged.domain.power import PowerPlan
from edged.domain.resources import Agent, Budget, ModelSpec
from edged.fleet.power import PowerSettings

__all__ = ["ENCODER", "Settings", "load"]

ENCODER = "encoder"  # the model that understands sentences, for all agents

_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"
_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def _bytes(value: object) -> object:
    if isinstance(value, str):
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", value)
        if not found or found[2].upper() not in _UNITS:
            raise ValueError('a size is a number with KiB, MiB or GiB, such as "512MiB"')
        return int(float(found[1]) * _UNITS[found[2].upper()])
    return value


def _are_words(value: object) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(word, str) for word in value)


Bytes = Annotated[int, BeforeValidator(_bytes), Field(gt=0)]
Name = Annotated[str, Field(pattern=_NAME)]
Words = Annotated[
    dict[Annotated[str, Field(min_length=1)], str | int | float | bool],
    BeforeValidator(lambda words: {word: word for word in words} if _are_words(words) else words),
]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DeviceSettings(_Table):
    """Who this device is and where it keeps things. Relative paths are relative to the configuration folder."""

    id: Name = Field(default_factory=lambda: re.sub(r"[^A-Za-z0-9_.-]", "-", socket.gethostname())[:64] or "edged")
    state_dir: Path = Field(default_factory=lambda: Path(os.environ.get("STATE_DIRECTORY", "/var/lib/edged")))
    models_dir: Path | None = None
    plugin_dirs: tuple[Path, ...] = (Path("plugins"),)


class HttpSettings(_Table):
    socket: Path = Field(default_factory=lambda: Path(os.environ.get("RUNTIME_DIRECTORY", "/run/edged")) / "edged.sock")
    requests_per_second: float = Field(default=20.0, gt=0)


class MqttSettings(_Table):
    """`password_file` names a file whose first line is the password; it is read at start."""

    enabled: bool = True
    host: str = "127.0.0.1"
    port: int = Field(default=1883, gt=0, lt=65536)
    username: str | None = None
    password_file: Path | None = None
    tls: bool = False
    ca_file: Path | None = None


class MemorySettings(_Table):
    budget: Bytes = 1 << 30
    reserve: Bytes = 64 << 20
    walls: bool = True


class CloudSettings(_Table):
    """An OpenAI-compatible endpoint. Without `base_url` there is no cloud and nothing is ever escalated."""

    base_url: str | None = None
    model: str = "default"
    api_key_env: str | None = None
    api_key_file: Path | None = None
    timeout: float = Field(default=60.0, gt=0)
    ticket_days: float = Field(default=21.0, gt=0)
    redact: tuple[Literal["email", "card", "phone"], ...] = ("email", "card", "phone")


class ModelSettings(_Table):
    kind: Literal["language", "encoder"] = "language"
    path: str = "bundled"
    context_length: int = Field(default=1024, ge=64)
    batch_size: int = Field(default=512, ge=1)
    threads: int = Field(default=0, ge=0)
    keep_alive: float = Field(default=300.0, ge=0)
    dialect: str = "auto"
    streams: int = Field(default=8, ge=1, le=64)
    cache_length: int = Field(default=0, ge=0)
    kv_type: Literal["f16", "q8_0", "q4_0"] = "f16"
    adapters: dict[Name, str] = Field(default_factory=dict)
    snapshot_bytes: Bytes = 256 << 20

    @field_validator("dialect")
    @classmethod
    def _spoken(cls, dialect: str) -> str:
        if dialect != "auto" and dialect not in DIALECTS:
            known = ", ".join(f"'{name}'" for name in ("auto", *DIALECTS))
            raise ValueError(f"one of {known}")
        return dialect


class ReflexSettings(_Table):
    pattern: str = Field(min_length=1)
    tool: str
    arguments: dict[str, Any] = Field(default_factory=dict)


class AgentSettings(_Table):
    model: Name = "bundled"
    tools: tuple[str, ...] = ()
    instructions: str = ""
    tiers: tuple[Literal["reflex", "intent", "model", "cloud"], ...] = ("reflex", "intent", "model", "cloud")
    local_only: bool = False
    max_steps: int = Field(default=4, ge=1, le=32)
    max_tokens: int = Field(default=128, ge=8, le=4096)
    deadline: float = Field(default=30.0, gt=0, le=86400)
    roles: tuple[str, ...] = ()
    memory: int = Field(default=0, ge=0, le=64)
    language: str = Field(default="en", pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$")
    learn: bool = False
    adapter: str | None = None
    overflow: Literal["error", "drop_oldest"] = "error"
    reflexes: tuple[ReflexSettings, ...] = ()
    lists: dict[str, Words] = Field(default_factory=dict)
    rules: dict[str, str] = Field(default_factory=dict)


def _in_the_box() -> dict[str, ModelSettings]:
    return {"bundled": ModelSettings(), ENCODER: ModelSettings(kind="encoder")}


class Settings(_Table):
    """The whole configuration. `source` is the folder that it was read from."""

    device: DeviceSettings = Field(default_factory=DeviceSettings)
    http: HttpSettings = Field(default_factory=HttpSettings)
    mqtt: MqttSettings = Field(default_factory=MqttSettings)
    memory: MemorySettings = Field(default_factory=MemorySettings)
    power: PowerSettings = Field(default_factory=PowerSettings)
    cloud: CloudSettings = Field(default_factory=CloudSettings)
    models: dict[Name, ModelSettings] = Field(default_factory=lambda: _in_the_box())
    agents: dict[Name, AgentSettings] = Field(default_factory=dict)
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    source: Path = Path()

    @field_validator("models")
    @classmethod
    def _bundled(cls, models: dict[str, ModelSettings]) -> dict[str, ModelSettings]:
        return {**_in_the_box(), **models}

    @model_validator(mode="after")
    def _models_exist(self) -> Settings:
        known = ", ".join(sorted(name for name, model in self.models.items() if model.kind == "language"))
        for name, agent in self.agents.items():
            if agent.model not in self.models or self.models[agent.model].kind != "language":
                raise ValueError(
                    f"agents.{name}.model: there is no language model {agent.model!r}; configured are: {known}"
                )
        return self

    @model_validator(mode="after")
    def _adapters_exist(self) -> Settings:
        for name, agent in self.agents.items():
            known = self.models[agent.model].adapters
            if agent.adapter is not None and agent.adapter not in known:
                there = ", ".join(sorted(known)) or "none"
                raise ValueError(
                    f"agents.{name}.adapter: {agent.model} has no adapter {agent.adapter!r}; configured are: {there}"
                )
        return self

    @model_validator(mode="after")
    def _patterns_are_read(self) -> Settings:
        for name, agent in self.agent_specs().items():
            try:
                compile_book(agent.phrases)
            except ConfigError as error:
                raise ValueError(f"agents.{name}.{error.fields['key']}: cannot be read: {error.__cause__}") from None
        return self

    def resolve(self, path: Path) -> Path:
        """A path of the configuration, absolute."""
        return path if path.is_absolute() else (self.source / path).resolve()

    def models_folder(self) -> Path:
        """Where `edged models` puts models."""
        return self.resolve(self.device.models_dir or self.device.state_dir / "models")

    def agent_specs(self) -> dict[str, Agent]:
        return {name: _agent(name, settings) for name, settings in self.agents.items()}

    def model_specs(self) -> dict[str, ModelSpec]:
        return {name: self._model(name, settings) for name, settings in self.models.items()}

    def _model(self, name: str, settings: ModelSettings) -> ModelSpec:
        path = settings.path if settings.path == "bundled" else str(self.resolve(Path(settings.path)))
        adapters = {key: str(self.resolve(Path(file))) for key, file in settings.adapters.items()}
        return ModelSpec(name, **{**settings.model_dump(), "path": path, "adapters": adapters})

    def budget(self) -> Budget:
        return Budget(self.memory.budget, self.memory.reserve, self.memory.walls)

    def power_plan(self) -> PowerPlan:
        return self.power.plan(self.resolve(self.power.sysfs))


def _agent(name: str, settings: AgentSettings) -> Agent:
    rest = settings.model_dump(exclude={"reflexes"})
    return Agent(name, reflexes=tuple((r.pattern, r.tool, r.arguments) for r in settings.reflexes), **rest)


def load(path: Path) -> Settings:
    """Read the folder `path` (or one file). Raises ConfigError with fields file, key (or line) and expected."""
    files = [path] if path.is_file() else [path / "edged.toml", *sorted((path / "conf.d").glob("*.toml"))]
    if not files[0].is_file():
        raise ConfigError(
            f"There is no configuration at {files[0]}.", file=str(files[0]), expected="a folder with edged.toml"
        )
    merged: dict[str, Any] = {}
    origin: dict[tuple[str, ...], Path] = {}
    for file in files:
        _merge(merged, _read(file), origin, file, ())
    if "source" in merged:  # ours to say, whatever the model calls it
        _refuse_source(origin["source",])
    try:
        return Settings(**merged, source=files[0].parent.resolve())
    except ValidationError as error:
        raise _explain(error, origin, files[0]) from None


def _refuse_source(file: Path) -> NoReturn:
    expected = f"one of the known keys{_close_to(('source',))}"
    raise ConfigError(f"{file}: source: there is no such key.", file=str(file), key="source", expected=expected)


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:  # TOMLDecodeError, UnicodeDecodeError, or an integer that Python will not read
        found = re.search(r"line (\d+)", str(error))
        line = int(found[1]) if found else None
        raise ConfigError(
            f"{file}: not valid TOML: {error}", file=str(file), line=line, expected="valid TOML"
        ) from None
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}", file=str(file), expected="a readable file") from None


def _merge(
    into: dict[str, Any], table: dict[str, Any], origin: dict[tuple[str, ...], Path], file: Path, at: tuple[str, ...]
) -> None:
    for key, value in table.items():
        origin[(*at, key)] = file
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value, origin, file, (*at, key))
        elif isinstance(value, dict):
            into[key] = {}
            _merge(into[key], value, origin, file, (*at, key))
        else:
            into[key] = value


def _explain(error: ValidationError, origin: dict[tuple[str, ...], Path], main: Path) -> ConfigError:
    """The first error, told by file and key."""
    first = error.errors()[0]
    where = tuple(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    told = bool(where)
    if not told:  # a validator of the whole names the key itself
        key, _, message = message.partition(": ")
        where = tuple(key.split("."))
    known = next((origin[where[:n]] for n in range(len(where), 0, -1) if where[:n] in origin), main)
    key = ".".join(where)
    if first["type"] == "extra_forbidden":
        expected = f"one of the known keys{_close_to(where)}"
        message = "there is no such key"
    else:
        expected = message[0].lower() + message[1:]
        message = f"{message}, not {first['input']!r}" if told else message
    return ConfigError(f"{known}: {key}: {message}.", file=str(known), key=key, expected=expected)


def _close_to(where: tuple[str, ...]) -> str:
    """Names the known keys of the table in which an unknown one stands."""
    table: type[BaseModel] = Settings
    nested: dict[str, type[BaseModel]] = {"models": ModelSettings, "agents": AgentSettings}
    if where[0] in nested and len(where) > 2:
        table = ReflexSettings if len(where) > 4 else nested[where[0]]
    elif len(where) > 1 and where[0] in Settings.model_fields:
        kind = Settings.model_fields[where[0]].annotation
        table = kind if isinstance(kind, type) and issubclass(kind, BaseModel) else Settings
    return ": " + ", ".join(name for name in table.model_fields if name != "source")
