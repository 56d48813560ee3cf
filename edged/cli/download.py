"""One file over HTTP into a `Part`, resumed where that is safe and begun anew where it is not.

What decides is what the bytes are of: those of two answers are put together only if the server vouches for it (If-Range with a
strong validator, and an answer that repeats it), or if the digest that they must have is known. The digest is of the whole in
either case, and what fails it is thrown away.
"""

from __future__ import annotations

import http.client
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from edged.cli.web import Web, failure, shown
from edged.domain.errors import (
    DigestMismatch,
    DiskFull,
    DownloadInterrupted,
    DownloadRefused,
    LengthMismatch,
    NotAModel,
)
from edged.engine.parts import Origin, Part, require
from edged.escalation.backoff import Backoff

__all__ = ["Download", "Report", "Wanted"]

_CHUNK: Final = 1 << 18
_MAGIC: Final = b"GGUF"
_WORTH: Final = 1 << 20  # an attempt that brought this much is no failure
Report = Callable[[int, int | None, str], None]  # bytes there, bytes in all, and a remark or ""


@dataclass(frozen=True, slots=True)
class Wanted:
    """`sha256` in hex and `size` in bytes as somebody promised them, or empty and None."""

    url: str
    file: str
    sha256: str = ""
    size: int | None = None


class Download:
    """`run` it once. `retries` are attempts in a row that bring nothing, after the first; `rest` gets seconds."""

    def __init__(
        self,
        part: Part,
        wanted: Wanted,
        web: Web,
        report: Report,
        *,
        retries: int = 5,
        rest: Callable[[float], None] = time.sleep,
    ) -> None:
        self._part = part
        self._wanted = wanted
        self._web = web
        self._report = report
        self._retries = retries
        self._rest = rest
        self._backoff = Backoff(1.0, 30.0, 120.0)

    def run(self) -> None:
        """Afterwards the part holds the whole file, and it has the promised length and digest. Raises what `Web.open` does,
        DigestMismatch, LengthMismatch, NotAModel, DiskFull; what can be resumed is kept, anything else is gone."""
        try:
            resumed = bool(self._part.resume() and self._origin() and self._part.size)
            self._fetch()
            if resumed and self._digest_differs():
                self._begin_anew("what was fetched earlier does not have the promised digest")
                self._fetch()
            self._verify()
        except (DiskFull, DigestMismatch, LengthMismatch):
            self._part.discard()
            raise
        except BaseException:
            self._keep_what_is_safe()
            raise

    def _fetch(self) -> None:
        """Attempts until it is whole. What counts is the most that was ever there: a server that always begins anew ends too."""
        failed, most = 0, self._part.size
        while True:
            try:
                return self._attempt()
            except _Changed:
                self._begin_anew("the file has changed there")
            except DownloadInterrupted as error:
                failed = 1 if self._part.size >= most + _WORTH else failed + 1
                most = max(most, self._part.size)
                if failed > self._retries:
                    raise
                self._report(self._part.size, None, error.detail)
                self._rest(self._backoff.delay(failed, random.random(), error.retry_after))

    def _attempt(self) -> None:
        origin = self._origin()
        if origin is not None and self._part.size == origin.length:
            return
        with self._answer(origin) as answer:
            if answer.status != 206:
                self._begin(answer)
            elif origin is None:
                raise DownloadRefused(f"{self._where}: it sends a part of the file unasked")
            elif not _continues(answer, origin, self._part.size):
                raise _Changed
            self._pour(answer)

    def _answer(self, origin: Origin | None) -> http.client.HTTPResponse:
        headers = {"Accept": "*/*"}
        if origin is not None:
            headers |= {"Range": f"bytes={self._part.size}-"}
            headers |= {"If-Range": origin.validator} if origin.validator else {}
        try:
            return self._web.open(self._wanted.url, headers)
        except DownloadRefused as error:
            if origin is not None and error.fields.get("status") == 416:  # it is shorter now than what is there
                raise _Changed from None
            raise

    def _origin(self) -> Origin | None:
        """What the bytes that are there are of, where they may be gone on with."""
        origin = self._part.origin
        if origin is None or not self._part.size or origin.url != self._wanted.url:
            return None
        too_long = origin.length is not None and self._part.size > origin.length
        other = None not in (origin.length, self._wanted.size) and origin.length != self._wanted.size
        vouched = bool(origin.validator or self._wanted.sha256)
        return origin if vouched and not too_long and not other else None

    def _begin(self, answer: http.client.HTTPResponse) -> None:
        """From the first byte. What is there already is given up only once it is a model that comes."""
        if answer.headers.get("Content-Encoding", "identity") != "identity":
            raise DownloadRefused(f"{self._where}: it is sent compressed though that was not asked for")
        size = answer.length
        first = self._read(answer.read, len(_MAGIC))
        if first != _MAGIC:
            kind = answer.headers.get_content_type()
            if len(first) < len(_MAGIC) and size != len(first):
                raise DownloadInterrupted(f"{self._where}: the connection broke off at its beginning")
            raise NotAModel(
                f"{self._where}: that is no GGUF file but {kind}; is it a page about the model, or a log-in?"
            )
        if None not in (size, self._wanted.size) and size != self._wanted.size:
            raise LengthMismatch(f"{self._where} has {size} bytes, not {self._wanted.size}; nothing was kept")
        tag, modified = answer.headers.get("ETag", ""), answer.headers.get("Last-Modified", "")
        if self._part.size:
            self._report(0, size, "it is not resumed there: beginning anew")
        self._part.restart(Origin(self._wanted.url, size, tag, modified))
        self._part.write(first)

    def _pour(self, answer: http.client.HTTPResponse) -> None:
        whole = self._part.origin.length if self._part.origin else None
        require(self._part.path.parent, (whole or self._part.size) - self._part.size)
        while data := self._read(answer.read1, _CHUNK):  # as it comes: what came is not lost with the connection
            require(self._part.path.parent, len(data))  # others write to that disk too
            self._part.write(data)
            self._report(self._part.size, whole, "")
        if whole is not None and self._part.size < whole:
            raise DownloadInterrupted(f"{self._where}: the connection broke off at {self._part.size} of {whole} bytes")

    def _read(self, read: Callable[[int], bytes], size: int) -> bytes:
        try:
            return read(size)
        except (OSError, http.client.HTTPException) as error:
            raise failure(self._wanted.url, error) from None

    def _begin_anew(self, why: str) -> None:
        self._report(0, None, f"{why}: beginning anew")
        self._part.restart(None)

    def _verify(self) -> None:
        size, promised = self._part.size, self._wanted.size
        if promised is not None and size != promised:
            raise LengthMismatch(f"{self._where} has {size} bytes, not {promised}; nothing was kept")
        if self._digest_differs():
            digests = f"{self._part.digest}, not {self._wanted.sha256}"
            raise DigestMismatch(f"{self._where} is sha256 {digests}; nothing was kept")

    def _digest_differs(self) -> bool:
        return bool(self._wanted.sha256) and self._part.digest != self._wanted.sha256

    def _keep_what_is_safe(self) -> None:
        if self._origin() is not None:
            self._part.keep()
        else:
            self._part.discard()

    @property
    def _where(self) -> str:
        return shown(self._wanted.url)


class _Changed(Exception):
    """What is there belongs to another version of the file."""


def _continues(answer: http.client.HTTPResponse, origin: Origin, size: int) -> bool:
    """Does the answer go on where `size` bytes of `origin` end? A server that heeds Range may yet ignore If-Range."""
    told = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", answer.headers.get("Content-Range", ""))
    if not told or int(told[1]) != size or origin.length not in (None, int(told[2])):
        return False
    tag, modified = answer.headers.get("ETag"), answer.headers.get("Last-Modified")
    return tag in (None, origin.etag) and modified in (None, origin.modified)
