"""The daemon's HTTP API over its Unix socket, with nothing but the stdlib.

The rule: whatever goes wrong between here and the daemon becomes a `Stop`, which carries one line for a person and an exit
status for a script. Errors of our own stdout are not caught here.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from edged.cli.places import FAILED, TEMPORARY, UNREACHABLE

__all__ = ["Client", "Stop", "problem", "server_sent_events"]

# 429, 503 and 504: the same request may be answered later.
_LATER: Final = (429, 503, 504)
_VIEW_SECONDS: Final = 10.0


class Stop(Exception):
    """The command ends with `status`, after `line` on stderr."""

    def __init__(self, line: str, status: int = FAILED) -> None:
        self.line = " ".join(line.split())  # one line, whatever a daemon or a stranger answered
        super().__init__(self.line)
        self.status = status


class _UnixConnection(http.client.HTTPConnection):
    """HTTP to a Unix socket; `timeout` is seconds of silence."""

    def __init__(self, path: Path, timeout: float | None) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class Client:
    """One daemon, one connection for each call. Every method raises `Stop`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def view(self, name: str) -> Any:
        """What GET /v1/NAME shows: "status", "agents" or "models"."""
        with self._exchange("GET", f"/v1/{name}", None, _VIEW_SECONDS) as response:
            return self._json(response)

    def ask(self, agent: str, body: dict[str, Any], silence: float | None) -> dict[str, Any]:
        """The reply, interim or final, or {request_id, status: "pending"}. `silence` is seconds without a byte."""
        with self._exchange("POST", f"/v1/agents/{quote(agent, safe='')}/requests", body, silence) as response:
            return _map(self._json(response))

    def stream(
        self, agent: str, body: dict[str, Any], silence: float | None
    ) -> Generator[tuple[str, dict[str, Any]], None, None]:
        """("token", {"text"}) as they are made, then one ("reply", reply). Closing the iterator cancels the request."""
        path = f"/v1/agents/{quote(agent, safe='')}/requests"
        with self._exchange("POST", path, {**body, "mode": "stream"}, silence) as response:
            if response.headers.get_content_type() != "text/event-stream":
                yield "reply", _map(self._json(response))
                return
            for event, data in server_sent_events(_lines(response, self.path)):
                value = _map(_decoded(data))
                if event == "error":
                    raise problem(value, int(value.get("status", 500)))
                yield event, value
                if event == "reply":
                    return
        raise Stop("the daemon ended the stream before it had answered; ask again", TEMPORARY)

    def taught(self, agent: str) -> dict[str, Any]:
        """{agent, tools: {tool: [sentence, ...]}}."""
        with self._exchange("GET", f"/v1/agents/{quote(agent, safe='')}/examples", None, _VIEW_SECONDS) as response:
            return _map(self._json(response))

    def teach(self, agent: str, tool: str, text: str, *, forget: bool) -> dict[str, Any]:
        """What `taught` gives, afterwards."""
        path, method = f"/v1/agents/{quote(agent, safe='')}/examples", "DELETE" if forget else "POST"
        with self._exchange(method, path, {"tool": tool, "text": text}, _VIEW_SECONDS) as response:
            return _map(self._json(response))

    def fetch(self, name: str, wait: float) -> dict[str, Any]:
        """What became of a ticket or a request id, after at most `wait` seconds (the daemon has a limit of its own)."""
        path = f"/v1/requests/{quote(name, safe='')}?wait={wait:g}"
        with self._exchange("GET", path, None, wait + _VIEW_SECONDS) as response:
            return _map(self._json(response))

    @contextlib.contextmanager
    def _exchange(
        self, method: str, path: str, body: dict[str, Any] | None, silence: float | None
    ) -> Iterator[http.client.HTTPResponse]:
        with contextlib.ExitStack() as stack:
            connection = stack.enter_context(contextlib.closing(_UnixConnection(self.path, silence)))
            with _explained(self.path):
                _connect(connection, self.path)
                payload = None if body is None else json.dumps(body).encode()
                connection.request(method, path, payload, {"Content-Type": "application/json"} if payload else {})
                response = connection.getresponse()
                stack.enter_context(response)  # it holds the socket open on its own
                if response.status >= 400:
                    raise _refusal(response)
            yield response

    def _json(self, response: http.client.HTTPResponse) -> Any:
        with _explained(self.path):
            text = response.read().decode("utf-8", "replace")
        return _decoded(text)


def server_sent_events(lines: Iterable[bytes]) -> Iterator[tuple[str, str]]:
    """(event, data) of a `text/event-stream`; an event that the end cuts off is dropped, as the standard has it."""
    event, data = "message", list[str]()
    for raw in lines:
        line = raw.decode("utf-8", "replace").rstrip("\r\n")
        key, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if data:
                yield event, "\n".join(data)
            event, data = "message", []
        elif key == "event":
            event = value
        elif key == "data":
            data.append(value)


def problem(body: dict[str, Any], status: int) -> Stop:
    """The `Stop` for an error as the API shows it: {code, detail, retry_after?}."""
    line = f"{body.get('code', 'error')}: {body.get('detail') or body.get('title') or 'no reason given'}"
    after = body.get("retry_after")
    if isinstance(after, int | float):
        line += f" (try again in {max(after, 1):.0f} s)"
    return Stop(line, TEMPORARY if status in _LATER else FAILED)


def _connect(connection: _UnixConnection, path: Path) -> None:
    try:
        connection.connect()
    except PermissionError:
        line = f"edged: {path}: permission denied. Join the socket's group (see: ls -l {path}) or use sudo."
        raise Stop(line, UNREACHABLE) from None
    except OSError as error:
        missing = isinstance(error, FileNotFoundError | NotADirectoryError)
        reason = "there is no socket" if missing else f"nobody is listening ({error.strerror or error})"
        start = (
            "Start the daemon with `systemctl start edged` or `edged run --config DIR`, or name its socket: --socket."
        )
        raise Stop(f"edged: {path}: {reason}. {start}", UNREACHABLE) from None


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except TimeoutError:
        raise Stop(f"edged: {path}: the daemon has not answered in time", TEMPORARY) from None
    except (OSError, http.client.HTTPException) as error:
        reason = str(error) or type(error).__name__
        raise Stop(f"edged: {path}: the connection broke off ({reason})", TEMPORARY) from None


def _lines(response: http.client.HTTPResponse, path: Path) -> Iterator[bytes]:
    while True:
        with _explained(path):
            line = response.readline()
        if not line:
            return
        yield line


def _refusal(response: http.client.HTTPResponse) -> Stop:
    text = response.read().decode("utf-8", "replace")
    try:
        body = json.loads(text)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        body = {"detail": f"HTTP {response.status} {response.reason}"}
    return problem(body, response.status)


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise Stop("edged: the answer is not JSON; is that socket the daemon's?") from None


def _map(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Stop("edged: the answer has an unknown shape; do the daemon and this command have the same version?")
    return value
