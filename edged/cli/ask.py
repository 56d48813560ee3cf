"""`edged ask`, `edged ticket` and `edged chat`: one answer, the answer to an earlier request, and a conversation.

stdout gets the answer and nothing else; timings, hints and errors go to stderr.
"""

from __future__ import annotations

import contextlib
import importlib
import secrets
import shlex
import sys
import time
from pathlib import Path
from typing import Any, Final

import click

from edged.cli.client import Client, Stop, problem
from edged.cli.places import TEMPORARY, UNREACHABLE, socket_path
from edged.cli.screen import echo, echo_json, json_option, note, socket_option
from edged.domain.errors import Unavailable, error_from_wire

__all__ = ["ask", "chat", "ticket"]

# Without a deadline the agent's own holds; this only ends the wait for a daemon that hangs.
_SILENCE_SECONDS: Final = 600.0
_GRACE_SECONDS: Final = 10.0
# The daemon holds one poll for 60 s at most.
_POLL_SECONDS: Final = 50.0

_verbose = click.option(
    "-v", "--verbose", is_flag=True, help="Say which tier answered, how long it took, how many tokens."
)


@click.command()
@click.argument("agent")
@click.argument("text")
@socket_option
@json_option
@click.option("--stream/--no-stream", default=None, help="Show the answer as it is made. Default: on a terminal.")
@click.option("--ticket", "by_ticket", is_flag=True, help="Do not wait: print a ticket for `edged ticket`.")
@click.option("--escalate", is_flag=True, help="Hand the request to the cloud.")
@click.option(
    "--deadline", type=click.FloatRange(min=0, min_open=True), metavar="S", help="Seconds the answer may take."
)
@click.option("--id", "request_id", metavar="ID", help="Idempotency key: the same id is never worked on twice.")
@_verbose
def ask(
    agent: str,
    text: str,
    socket: Path,
    as_json: bool,
    stream: bool | None,
    by_ticket: bool,
    escalate: bool,
    deadline: float | None,
    request_id: str | None,
    verbose: bool,
) -> int:
    """Ask AGENT for an answer to TEXT ("-" reads it from stdin)."""
    if stream and (as_json or by_ticket):
        raise click.UsageError("--stream goes with neither --json nor --ticket.")
    wanted = {"text": sys.stdin.read() if text == "-" else text, "escalate": escalate}
    given = {"deadline_seconds": deadline, "id": request_id, "mode": "ticket" if by_ticket else None}
    body = {**wanted, **{key: value for key, value in given.items() if value is not None}}
    client = Client(socket)
    if by_ticket:
        return _print_ticket(client.ask(agent, body, _silence(deadline)), socket, as_json)
    if stream or (stream is None and not as_json and sys.stdout.isatty()):
        reply = _streamed(client, agent, body, _silence(deadline))
    else:
        reply = client.ask(agent, body, _silence(deadline))
        _print_reply(reply, as_json)
    return _end(reply, socket, verbose)


@click.command()
@click.argument("name", metavar="ID")
@click.option(
    "--wait", type=click.FloatRange(min=0), default=0.0, metavar="S", help="Wait so many seconds for the answer."
)
@socket_option
@json_option
@_verbose
def ticket(name: str, wait: float, socket: Path, as_json: bool, verbose: bool) -> int:
    """Fetch the answer to an earlier request, by its ticket or its id. Exit 75: there is none yet."""
    reply = _awaited(Client(socket), name, wait)
    if _is_final(reply):
        _print_reply(reply, as_json)
        return _end(reply, socket, verbose)
    if as_json:
        echo_json(reply)
    state = "waits for the cloud" if reply.get("status") == "escalated" else "is still being worked on"
    note(f"{name} {state}; {_how_to_fetch(name, socket)}")
    return TEMPORARY


@click.command()
@click.argument("agent")
@socket_option
@_verbose
def chat(agent: str, socket: Path, verbose: bool) -> int:
    """Talk with AGENT, line by line, in one session. /quit or Ctrl-D ends it, Ctrl-C stops an answer."""
    at_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    if at_terminal:
        with contextlib.suppress(ImportError):
            importlib.import_module("readline")  # input() edits lines and knows earlier ones from here on
    client, session = Client(socket), f"chat-{secrets.token_hex(8)}"
    while (line := _next_line("> " if at_terminal else "")) is not None:
        if not line:
            continue
        try:
            reply = _streamed(client, agent, {"text": line, "session": session}, _silence(None))
            _end(reply, socket, verbose)
        except Stop as stop:
            if not at_terminal or stop.status == UNREACHABLE:
                raise
            note(stop.line)
        except KeyboardInterrupt:  # the closed connection has taken the request back
            if not at_terminal:
                raise
            note("\nstopped")
    return 0


def _next_line(prompt: str) -> str | None:
    """The next line, stripped; None at the end."""
    try:
        line = input(prompt).strip()
    except EOFError:
        if prompt:
            echo("")
        return None
    return None if line == "/quit" else line


def _streamed(client: Client, agent: str, body: dict[str, Any], silence: float) -> dict[str, Any]:
    """Print the pieces as they come, and what the reply has beyond them."""
    shown = ""
    with contextlib.closing(client.stream(agent, body, silence)) as events:
        try:
            for event, value in events:
                if event == "reply":
                    _print_rest(shown, _answer(value))
                    shown = ""
                    return value
                if event == "token":
                    piece = str(value.get("text", ""))
                    echo(piece, end="")
                    shown += piece
        finally:
            if shown:  # it broke off in the middle of a line
                echo("")
    raise AssertionError("a stream ends with a reply or raises")


def _print_rest(shown: str, text: str) -> None:
    """A tool's sentence or an interim notice may stand where the model's own words were shown before."""
    if text.strip() == shown.strip():
        rest = ""
    elif text.startswith(shown):
        rest = text[len(shown) :]
    else:
        rest = f"\n{text}"
    if shown or rest:
        echo(rest.rstrip("\n") if shown else rest)


def _print_reply(reply: dict[str, Any], as_json: bool) -> None:
    if as_json:
        echo_json(reply)
    elif answer := _answer(reply):
        echo(answer)


def _answer(reply: dict[str, Any]) -> str:
    """What goes to stdout; a failure's own message is told once, on stderr."""
    text = str(reply.get("text") or "")
    return "" if reply.get("status") == "failed" and text == (reply.get("error") or {}).get("detail") else text


def _print_ticket(reply: dict[str, Any], socket: Path, as_json: bool) -> int:
    name = str(reply.get("ticket") or reply.get("request_id", ""))
    if as_json:
        echo_json(reply)
    else:
        echo(name)
        note(_how_to_fetch(name, socket))
    return 0


def _end(reply: dict[str, Any], socket: Path, verbose: bool) -> int:
    """What belongs after a reply, on stderr, and the exit status. Raises `Stop` for a failed one."""
    if verbose:
        note(_timings(reply))
    if reply.get("status") == "failed":
        error = dict(reply.get("error") or {})
        raise problem(error, 503 if isinstance(error_from_wire(error), Unavailable) else 500)
    if not _is_final(reply):
        name = str(reply.get("ticket") or reply.get("request_id", ""))
        note(f"ticket {name}: {_how_to_fetch(name, socket)}")
    return 0


def _is_final(reply: dict[str, Any]) -> bool:
    return reply.get("status") in ("done", "failed")


def _awaited(client: Client, name: str, wait: float) -> dict[str, Any]:
    """One look, or looks until the reply is final or `wait` seconds are over."""
    end = time.monotonic() + wait
    while True:
        began = time.monotonic()
        poll = min(max(end - began, 0.0), _POLL_SECONDS)
        reply = client.fetch(name, poll)
        left = end - time.monotonic()
        if _is_final(reply) or left <= 0:
            return reply
        if time.monotonic() - began < min(poll, 1.0):  # a stopping daemon answers at once
            time.sleep(min(1.0, left))


def _silence(deadline: float | None) -> float:
    return (_SILENCE_SECONDS if deadline is None else deadline) + _GRACE_SECONDS


def _how_to_fetch(name: str, socket: Path) -> str:
    where = "" if socket == socket_path() else f" --socket {shlex.quote(str(socket))}"
    return f"fetch the answer with: edged ticket {shlex.quote(name)} --wait 60{where}"


def _timings(reply: dict[str, Any]) -> str:
    """tier model | stage 12 ms, ... | 50+7 tokens: what each part took."""
    who = " ".join(str(reply[key]) for key in ("tier", "model") if reply.get(key)) or str(reply.get("status", "?"))
    stages = ", ".join(f"{stage['name']} {stage['seconds'] * 1000:.1f} ms" for stage in reply.get("stages", ()))
    usage = reply.get("usage") or {}
    prompt, cached, made = (usage.get(key, 0) for key in ("prompt", "cached", "completion"))
    tokens = f"{prompt} prompt tokens ({cached} cached), {made} made"
    energy = reply.get("energy") or {}
    spent = f"{energy['joules']:.2f} J {energy.get('source', '')}".strip() if "joules" in energy else ""
    return " | ".join(filter(None, [who, stages, tokens, spent]))
