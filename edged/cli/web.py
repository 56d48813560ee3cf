"""GET over http and https for the commands that fetch, with nothing but the stdlib: proxies and authorities as the system has them.

The rule: a token goes to the one host that it is for, also after redirects, and over nothing that can be listened to. No error
repeats a URL's query, which may be a signature.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import json
import ssl
import urllib.error
import urllib.request
from email.message import Message
from typing import IO, Any, Final
from urllib.parse import urlsplit

from edged import __version__
from edged.domain.errors import BadRequest, DownloadInterrupted, DownloadRefused, EdgedError, Forbidden, NotFound

__all__ = ["Web", "origin_of", "shown"]

_SILENCE: Final = 30.0
_LONGEST: Final = 16 << 20
_REDIRECTS: Final = 10
_LATER: Final = (408, 425, 429)


class Web:
    """`token` is sent to `home`, an origin such as https://huggingface.co, and to nobody else. `silence` is seconds."""

    def __init__(self, home: str = "", token: str = "", silence: float = _SILENCE) -> None:
        self._home = origin_of(home) if home else ""
        self._token = token if self._home and _is_private(self._home) else ""
        self._silence = silence
        self._opener = urllib.request.OpenerDirector()
        for handler in (
            urllib.request.ProxyHandler(),
            urllib.request.UnknownHandler(),
            urllib.request.HTTPHandler(),
            urllib.request.HTTPSHandler(),
            urllib.request.HTTPDefaultErrorHandler(),
            urllib.request.HTTPErrorProcessor(),
            _Redirects(self),
        ):
            self._opener.add_handler(handler)

    def open(self, url: str, headers: dict[str, str] | None = None) -> http.client.HTTPResponse:
        """An answer of 200 or 206, to be closed by the caller. Raises BadRequest, NotFound, Forbidden, DownloadRefused (with its
        `status`) and DownloadInterrupted."""
        try:
            request = urllib.request.Request(url, headers=headers or {})
            request.add_header("User-Agent", f"edged/{__version__}")
            self.sign(request)
            answer: http.client.HTTPResponse = self._opener.open(request, timeout=self._silence)
            return answer
        except urllib.error.HTTPError as error:
            with contextlib.closing(error):
                raise self._refusal(error) from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise failure(url, error) from None

    def json(self, url: str) -> Any:
        """Raises as `open` does."""
        with self.open(url) as answer:
            try:
                return json.loads(answer.read(_LONGEST))
            except ValueError:
                raise DownloadRefused(
                    f"{shown(url)}: the answer is not JSON; is that a repository of models?"
                ) from None
            except (OSError, http.client.HTTPException) as error:
                raise failure(url, error) from None

    def sign(self, request: urllib.request.Request) -> None:
        """Give it the token if it goes home, and take it away if not."""
        request.remove_header("Authorization")
        if self._token and origin_of(request.full_url) == self._home:
            request.add_header("Authorization", f"Bearer {self._token}")

    def _refusal(self, error: urllib.error.HTTPError) -> EdgedError:
        where, status = shown(error.url), error.code
        if status in (401, 403):
            todo = (
                "accept the model's terms there, or set HF_TOKEN"
                if origin_of(error.url) == self._home
                else "does it need a log-in?"
            )
            return Forbidden(f"{where}: HTTP {status}: not allowed; {todo}", status=status)
        if status in (404, 410):
            return NotFound(f"{where}: HTTP {status}: there is no such file or repository", status=status)
        if 300 <= status < 400:
            return DownloadRefused(f"{where}: redirects in a loop, or to nowhere; check the URL", status=status)
        if status in _LATER or status >= 500:
            detail = f"{where}: HTTP {status}; try again later"
            return DownloadInterrupted(detail, retry_after=_seconds(error.headers.get("Retry-After")), status=status)
        return DownloadRefused(f"{where}: HTTP {status} {error.reason}", status=status)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Within http and https, never from https to http, a bounded number of times."""

    max_redirections = _REDIRECTS

    def __init__(self, web: Web) -> None:
        self._web = web

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> urllib.request.Request | None:
        fp.close()  # else the whole body of a redirect is read, however long
        schemes = urlsplit(req.full_url).scheme, urlsplit(newurl).scheme
        if schemes[1] not in ("http", "https") or schemes == ("https", "http"):
            raise DownloadRefused(
                f"{shown(req.full_url)}: redirects to {schemes[1]}, which is not followed", status=code
            )
        request = super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]
        if request is not None:
            self._web.sign(request)
        return request


def failure(url: str, error: Exception) -> EdgedError:
    """What broke on the way, by who must act."""
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, ssl.SSLCertVerificationError):
        return DownloadRefused(
            f"{shown(url)}: its certificate is not trusted: {reason.verify_message}; is the clock right?"
        )
    if isinstance(error, ValueError | http.client.InvalidURL) or "unknown url type" in str(reason):
        return BadRequest(f"{shown(url)}: not a URL that can be fetched; give http:// or https://")
    told = "nothing came for too long" if isinstance(reason, TimeoutError) else str(reason) or type(reason).__name__
    return DownloadInterrupted(f"{shown(url)}: the connection failed: {told:.200}; try again later")


def origin_of(url: str) -> str:
    """Scheme, host and port, as they decide who gets a token."""
    parts = urlsplit(url)
    port = parts.port or {"https": 443, "http": 80}.get(parts.scheme, 0)
    return f"{parts.scheme}://{parts.hostname}:{port}"


def shown(url: str) -> str:
    """Without what may be secret: user, password and query."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return url.partition("?")[0].rpartition("@")[2]
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _is_private(origin: str) -> bool:
    """May a token go there: encrypted, or within this machine?"""
    parts = urlsplit(origin)
    host = parts.hostname or ""
    try:
        return parts.scheme == "https" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _seconds(text: str | None) -> float | None:
    return float(text) if text and text.isdigit() else None
