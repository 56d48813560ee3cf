"""What all commands share on the way out: options, plain printing, and text that cannot drive the terminal.

What a model or a tool says is not trusted with escape sequences: on a terminal control characters are shown, not obeyed.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from edged.cli.places import socket_path

__all__ = ["echo", "echo_json", "harmless", "json_option", "note", "socket_option"]

# C0 without tab and newline, DEL, C1, and the marks that turn the writing direction around.
_CONTROL: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")

_Command = Callable[..., Any]

json_option: Final = click.option("--json", "as_json", is_flag=True, help="Print JSON as the daemon sent it.")


def socket_option(command: _Command) -> _Command:
    """`--socket PATH`; the command gets a path whether it was given or not."""
    kind = click.Path(path_type=Path)
    text = "The daemon's socket. Default: $EDGED_SOCKET, ./.run/edged.sock or /run/edged/edged.sock."
    return click.option("--socket", "socket", type=kind, default=socket_path, metavar="PATH", help=text)(command)


def harmless(text: str) -> str:
    """`text` with control characters replaced, for a terminal."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def echo(text: str, *, end: str = "\n") -> None:
    """To stdout: harmless on a terminal, unchanged into a file or a pipe."""
    out = sys.stdout
    out.write((harmless(text) if out.isatty() else text) + end)
    out.flush()


def echo_json(value: Any) -> None:
    """One line for programs, indented for people."""
    echo(json.dumps(value, ensure_ascii=False, indent=2 if sys.stdout.isatty() else None))


def note(text: str) -> None:
    """To stderr, so that it is no part of the answer."""
    print(harmless(text), file=sys.stderr, flush=True)
