"""`edged models`: what the daemon serves, and the folder that models are kept in: list, add, pull, verify, rm.

Only `list` speaks to the daemon. What `add` and `pull` print on stdout is what the configuration needs; the rest goes to stderr.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edged.cli.client import Client, Stop
from edged.cli.folder import folder_options, is_noted, name_of, shelf_of, tell, telling
from edged.cli.listing import Listing
from edged.cli.places import FAILED, UNREACHABLE
from edged.cli.progress import progress
from edged.cli.pull import pull
from edged.cli.screen import echo, echo_json, json_option, note, socket_option
from edged.cli.show import print_models
from edged.domain.errors import ModelInUse, NameTaken, NotFound
from edged.engine.checking import check, digest_of, faults
from edged.engine.copying import copy_file, copy_folder
from edged.engine.notes import read_note
from edged.engine.shelf import Shelf

if TYPE_CHECKING:
    from edged.fleet.settings import Settings

__all__ = ["models"]


class _ListByDefault(click.Group):
    """`edged models --json` is `edged models list --json`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0].startswith("-") and args[0] not in ctx.help_option_names):
            args = ["list", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_ListByDefault)
def models() -> None:
    """List the models; add, pull, verify and remove their files."""


models.add_command(pull)


@models.command("list")
@socket_option
@json_option
@click.option(
    "--files", is_flag=True, help="Also what lies in the models folder. Without a daemon that alone is shown."
)
@folder_options
def list_models(socket: Path, as_json: bool, files: bool, config: Path, models_dir: Path | None) -> int:
    """List the models that the daemon serves, and those in the models folder."""
    seen, away = _served(socket)
    if seen is not None and not files:
        return _show(seen, as_json)
    try:
        with telling():
            shelf, settings = shelf_of(config, models_dir)
            found = Listing(shelf, {} if settings is None else settings.model_specs())
    except Stop as stop:
        if away is not None and not files:
            note(stop.line)
            raise away from None
        raise
    if as_json:
        echo_json({**(seen or {}), **found.to_json()})
        return 0
    if seen is not None:
        _show(seen, as_json)
        echo("")
    elif away is not None:
        note(away.line)
    found.show()
    return 0


def _served(socket: Path) -> tuple[Any, Stop | None]:
    """What the daemon says, or why there is none."""
    try:
        return Client(socket).view("models"), None
    except Stop as stop:
        if stop.status != UNREACHABLE:
            raise
        return None, stop


def _show(seen: Any, as_json: bool) -> int:
    if as_json:
        echo_json(seen)
    else:
        print_models(seen)
    return 0


@models.command()
@click.argument("source", type=click.Path(path_type=Path), metavar="FILE")
@click.option("--name", help="What it is called from now on. Default: the file's name.")
@click.option(
    "--in-place", is_flag=True, help="Copy nothing: check it, and print the configuration for it where it is."
)
@folder_options
def add(source: Path, name: str | None, in_place: bool, config: Path, models_dir: Path | None) -> int:
    """Copy a GGUF FILE, or the folder of an encoder, into the models folder."""
    with telling():
        facts = check(source)
        named = name_of(name or (source.name if source.is_dir() else source.stem))
        if in_place:
            path = source.absolute()
        else:
            shelf, _ = shelf_of(config, models_dir)
            path = _added(shelf, source, named)
        tell(named, path, facts)
    return 0


def _added(shelf: Shelf, source: Path, name: str) -> Path:
    shelf.sweep()
    folder = source.is_dir()
    try:
        target = shelf.place(name, folder=folder)
    except NameTaken:
        there = shelf.find(name)
        if folder or there.is_dir() or not is_noted(there, source.stat().st_size, lambda: digest_of(source)):
            raise
        note(f"{there} has these bytes already")
        return there
    with progress(name) as report:
        copy = copy_folder if folder else copy_file
        copy(source, target, lambda done, whole: report(done, whole, ""))
    return target


@models.command()
@click.argument("name", required=False, metavar="[NAME|FILE]")
@folder_options
def verify(name: str | None, config: Path, models_dir: Path | None) -> int:
    """Are models what they were when they were added, and whole? Without a name all of the folder. Exit 1: one is not."""
    with telling():
        if name and "/" in name:
            paths = [Path(name)]
        else:
            shelf, _ = shelf_of(config, models_dir)
            paths = [shelf.find(name)] if name else [entry.path for entry in shelf.entries()]
        return max([_verified(path) for path in paths], default=0)


def _verified(path: Path) -> int:
    with progress(path.name) as report:
        done = 0

        def read(more: int) -> None:
            nonlocal done
            done += more
            report(done, None, "")

        wrong = list(faults(path, read))
    for error in wrong:
        echo(f"bad  {path.name}: {error.code}: {error.detail}")
    if not wrong:
        unnoted = "" if read_note(path) else ": whole, but no digest was noted to compare it with"
        echo(f"ok   {path.name}{unnoted}")
    return FAILED if wrong else 0


@models.command()
@click.argument("name")
@click.option("--force", is_flag=True, help="Even if the configuration names it.")
@folder_options
def rm(name: str, force: bool, config: Path, models_dir: Path | None) -> int:
    """Remove a model from the models folder, and what is left of a download of it."""
    with telling():
        shelf, settings = shelf_of(config, models_dir)
        if settings is not None and not force:
            with contextlib.suppress(NotFound):
                _refuse_used(shelf.find(name), settings)
        for path in shelf.remove(name):
            echo(f"removed {path}")
    return 0


def _refuse_used(path: Path, settings: Settings) -> None:
    for spec in settings.model_specs().values():
        named = [Path(file).resolve() for file in (spec.path, *spec.adapters.values())]
        if path.resolve() in named:
            agents = ", ".join(f"agents.{name}" for name, agent in settings.agents.items() if agent.model == spec.name)
            by = f", which {agents} use" if agents else ""
            raise ModelInUse(f"models.{spec.name} of the configuration names {path}{by}; mend it first, or: rm --force")
