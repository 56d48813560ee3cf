"""The way in. `edged run` goes straight to the daemon: click and rich would stay in its memory for good.

Everything else is a click group. Commands return their exit status; `Stop` and click's own errors become one here.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edged.cli.places import FAILED, INTERRUPTED, config_folder

if TYPE_CHECKING:
    import click

__all__ = ["main"]

_RUN = "Run the daemon until SIGTERM or Ctrl-C. Exit 78: the configuration must be mended first."
_CONFIG = "Folder with edged.toml. Default: $EDGED_CONFIG, ./config or /etc/edged."


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0, 1, 2 (usage), 69 (no daemon), 75 (try again later), 78 (configuration), 130 (Ctrl-C)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        status = _run(arguments[1:]) if arguments[:1] == ["run"] else _command(arguments)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # `edged status | head`: whoever read has what they wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


def _run(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser("edged run", description=_RUN)
    parser.add_argument("--config", type=Path, default=config_folder(), metavar="DIR", help=_CONFIG)
    config: Path = parser.parse_args(arguments).config
    # By name: the daemon and this room are on one layer, and only this process may become it.
    return int(importlib.import_module("edged.daemon").main(config))


def _command(arguments: list[str]) -> int:
    try:
        import click
    except ImportError:
        print("edged: this command needs click and rich: pip install 'edged[cli]'", file=sys.stderr)
        return FAILED
    from edged.cli.client import Stop
    from edged.cli.screen import note

    try:
        status = _group().main(arguments, prog_name="edged", standalone_mode=False)
    except Stop as stop:
        note(stop.line)
        return stop.status
    except click.exceptions.Abort:
        return INTERRUPTED
    except click.ClickException as error:
        error.show()
        return error.exit_code
    return int(status or 0)


def _group() -> click.Group:
    import click

    from edged import __version__
    from edged.cli.ask import ask, chat, ticket
    from edged.cli.check import check
    from edged.cli.doctor import doctor
    from edged.cli.models import models
    from edged.cli.show import agents, status
    from edged.cli.teach import teach

    # Only for the list of commands: `main` takes `run` before click is there.
    run = click.Command("run", help=_RUN, params=[click.Option(["--config"], metavar="DIR", help=_CONFIG)])
    group = click.Group(
        "edged",
        commands=[run, ask, chat, ticket, teach, status, agents, models, check, doctor],
        help="Local agents on this device: run the daemon, ask it, look at it.",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    return click.version_option(__version__, message="edged %(version)s")(group)
