"""`edged models pull`: a model from the network into the models folder."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import click

from edged.cli.folder import folder_options, is_noted, name_of, shelf_of, tell, telling
from edged.cli.progress import progress, size
from edged.cli.screen import note
from edged.domain.errors import EdgedError, NotFound
from edged.engine.checking import check, check_name, look
from edged.engine.copying import now
from edged.engine.notes import Note
from edged.engine.parts import Part, staged
from edged.engine.shelf import Shelf

if TYPE_CHECKING:
    from edged.cli.download import Wanted

__all__ = ["pull"]


@click.command()
@click.argument("source", metavar="URL")
@click.option("--sha256", default="", metavar="HEX", help="What the file must be.")
@click.option("--name", help="What it is called from now on. Default: the file's name.")
@click.option("--repo", is_flag=True, help="URL is https://HOST/OWNER/NAME[:FILE], a repository as hf: names one.")
@click.option(
    "--endpoint", envvar="HF_ENDPOINT", metavar="URL", help="Where hf: repositories are. Default: $HF_ENDPOINT."
)
@click.option("--retries", type=click.IntRange(0), default=5, help="Failures in a row before it gives up. Default: 5.")
@folder_options
def pull(
    source: str,
    sha256: str,
    name: str | None,
    repo: bool,
    endpoint: str | None,
    retries: int,
    config: Path,
    models_dir: Path | None,
) -> int:
    """Download a GGUF file into the models folder. A download that was cut off goes on when it is called again.

    URL is http://, https://, or hf:OWNER/NAME with :FILE or :QUANTIZATION, such as hf:OWNER/NAME:Q4_K_M.
    """
    from edged.cli.download import Download, Wanted
    from edged.cli.hub import HUB, locate, repository
    from edged.cli.web import Web, shown

    promised = _digest(sha256)
    with telling():
        shelf, _ = shelf_of(config, models_dir)
        shelf.sweep()
        base = endpoint or HUB
        web = Web(base, os.environ.get("HF_TOKEN", "").strip())
        place = repository(source, base, repo)
        wanted = locate(web, place, promised) if place else Wanted(source, _file_of(source), promised)
        check_name(wanted.file)
        named = name_of(name or wanted.file)
        there = _had(shelf, named, wanted)
        if there is None:
            there = shelf.place(named)
            with staged(there) as part, progress(named) as report:
                shelf.place(named)  # nobody can take it any more
                Download(part, wanted, web, report, retries=retries).run()
                _finish(part, Note(shown(wanted.url), now(), {wanted.file: (part.digest, part.size)}))
            checked = "as promised" if wanted.sha256 else "nobody promised one; give --sha256 to be sure"
            note(f"{named}: {size(part.size)}, sha256 {part.digest} ({checked})")
        tell(named, there, look(there))
    return 0


def _had(shelf: Shelf, name: str, wanted: Wanted) -> Path | None:
    """The model, if it was pulled before and is known to be the same."""
    try:
        there = shelf.find(name)
    except NotFound:
        return None
    if there.is_dir() or not wanted.sha256 or not is_noted(there, wanted.size, lambda: wanted.sha256):
        return None
    note(f"{there} has these bytes already")
    return there


def _finish(part: Part, noted: Note) -> None:
    try:
        check(part.path)
    except EdgedError:
        part.discard()
        raise
    part.finish(noted)


def _file_of(url: str) -> str:
    with contextlib.suppress(ValueError):
        return unquote(urlsplit(url).path).rpartition("/")[2]
    return ""


def _digest(text: str) -> str:
    digest = text.lower().removeprefix("sha256:")
    if digest and not re.fullmatch("[0-9a-f]{64}", digest):
        raise click.BadParameter("64 hexadecimal digits are needed", param_hint="--sha256")
    return digest
