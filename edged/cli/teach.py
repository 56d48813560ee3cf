"""`edged teach`: tell an agent what a sentence means, take that back, or see what it was told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edged.cli.client import Client
from edged.cli.screen import echo, echo_json, json_option, socket_option

__all__ = ["teach"]


@click.command()
@click.argument("agent")
@click.argument("tool", required=False)
@click.argument("text", required=False)
@click.option("--forget", is_flag=True, help="Take TEXT back.")
@socket_option
@json_option
def teach(agent: str, tool: str | None, text: str | None, forget: bool, socket: Path, as_json: bool) -> int:
    """Teach AGENT that TEXT asks for TOOL, as people say it. It counts at once. With AGENT alone: list what was taught."""
    client = Client(socket)
    if tool is None:
        if forget:
            raise click.UsageError("--forget needs TOOL and TEXT.")
        seen = client.taught(agent)
    elif text is None:
        raise click.UsageError("Say also TEXT: a sentence that asks for the tool.")
    else:
        seen = client.teach(agent, tool, text, forget=forget)
    if as_json:
        echo_json(seen)
    elif tool is None:
        _list(seen)
    return 0


def _list(seen: dict[str, Any]) -> None:
    for tool, texts in sorted(dict(seen.get("tools", {})).items()):
        for text in texts:
            echo(f"{tool}\t{text}")
