"""What the commands around the models folder share: where it is, what a model is called, errors as exit statuses."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from edged.cli.check import explain
from edged.cli.client import Stop
from edged.cli.places import CONFIG, FAILED, TEMPORARY, config_folder
from edged.cli.screen import echo, note
from edged.domain.errors import Busy, ConfigError, DiskFull, DownloadInterrupted, EdgedError
from edged.domain.resources import ModelSpec
from edged.engine.catalog import ModelFacts
from edged.engine.checking import proposed, spec_name
from edged.engine.notes import read_note
from edged.engine.shelf import Shelf

if TYPE_CHECKING:
    from edged.fleet.settings import Settings

__all__ = ["folder_options", "is_noted", "name_of", "shelf_of", "tell", "telling"]

_LATER: Final = (Busy, DiskFull, DownloadInterrupted)
_Command = Callable[..., Any]


def folder_options(command: _Command) -> _Command:
    """`--config` and `--models-dir`, as `shelf_of` takes them."""
    kind = click.Path(path_type=Path)
    there = click.option(
        "--models-dir",
        type=kind,
        metavar="DIR",
        help="Where models are kept. Default: device.models_dir of the configuration.",
    )
    config = click.option("--config", type=kind, default=config_folder, metavar="DIR", help="As for `edged run`.")
    return there(config(command))


def shelf_of(config: Path, models_dir: Path | None) -> tuple[Shelf, Settings | None]:
    """The folder, and the configuration: None where none is needed and none is there."""
    from edged.fleet.settings import load

    if models_dir is not None and not (config if config.is_file() else config / "edged.toml").is_file():
        return Shelf(models_dir.absolute()), None
    settings = load(config)
    return Shelf(models_dir.absolute() if models_dir else settings.models_folder()), settings


@contextlib.contextmanager
def telling() -> Iterator[None]:
    """Errors as one line and an exit status."""
    try:
        yield
    except ConfigError as error:
        raise Stop(f"{error.code}: {explain(error)}", CONFIG) from None
    except EdgedError as error:
        raise Stop(f"{error.code}: {error.detail}", TEMPORARY if isinstance(error, _LATER) else FAILED) from None


def name_of(text: str) -> str:
    """What a model is called, of what somebody or a file calls it."""
    return spec_name(text.removesuffix(".gguf"))


def is_noted(there: Path, size: int | None, digest: Callable[[], str]) -> bool:
    """Is the model that is there of one file, of so many bytes if that is known, and of that digest?"""
    noted = read_note(there)
    files = list(noted.files.values()) if noted else []
    return len(files) == 1 and size in (None, files[0][1]) and files[0][0] == digest()


def tell(name: str, path: Path, facts: ModelFacts) -> None:
    """What to write into the configuration."""
    note("For the configuration, such as conf.d/30-models.toml:")
    echo(_snippet(proposed(name, path, facts)))


def _snippet(spec: ModelSpec) -> str:
    path = json.dumps(spec.path, ensure_ascii=False)
    if spec.kind == "encoder":  # there is one, for all agents
        return f'[models.encoder]\nkind = "encoder"\npath = {path}'
    key = spec.name if re.fullmatch(r"[A-Za-z0-9_-]+", spec.name) else json.dumps(spec.name)
    return f"[models.{key}]\npath = {path}\ncontext_length = {spec.context_length}"
