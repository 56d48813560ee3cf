"""A chat model behind an OpenAI-compatible endpoint.

The rule of the file: every way in which a network can fail becomes one of three outcomes. `CloudUnreachable` when time
may mend it (field `reached` says whether the cloud answered at all), `BadRequest` with reason "cloud_refused" when it
will not, `DeadlineExceeded` when the caller's own time ran out. The key is sent to the configured host and nowhere else:
redirects are not followed, proxies and netrc from the environment are ignored, and no message or error carries it.

A connection is opened per generation and closed after it: escalations are rare, and an idle daemon keeps no socket.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from edged.domain.errors import BadRequest, CloudUnreachable, ConfigError, DeadlineExceeded
from edged.domain.ports import Completion, Generation
from edged.escalation.backoff import Backoff
from edged.escalation.chat import (
    BadToolArguments,
    encode,
    error_sentence,
    idempotency_key,
    parse,
    redactor_for,
    retry_after_seconds,
)
from edged.escalation.redact import KINDS, Redactor

if TYPE_CHECKING:
    import aiohttp

__all__ = ["CloudModel", "CloudSettings", "read_api_key"]

# Inside one generation only a quick second try is worth it; the courier is who waits.
# What the operator has to mend: a revoked key, an empty account, a wrong address. It says nothing about the request, so the
# tickets wait for it as they wait for a network.
_OPERATORS = frozenset({401, 402, 403, 404, 405, 407})
_OPERATORS_SECONDS = 60.0

_QUICK = Backoff(base=0.5, cap=4.0, patience=5.0)


def read_api_key(
    env: str | None = None, file: Path | None = None, environ: Mapping[str, str] | None = None
) -> str | None:
    """The key from a credentials file (relative names are looked up in systemd's $CREDENTIALS_DIRECTORY), else from
    the environment variable named `env`; None when neither is named. ConfigError when what is named has no key."""
    environ = os.environ if environ is None else environ
    if file is not None:
        path = Path(environ.get("CREDENTIALS_DIRECTORY", ".")) / file
        try:
            key = path.read_text("ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"cannot read the cloud's key from {path}: {type(error).__name__}", key="api_key_file"
            ) from None
    elif env is not None:
        key = environ.get(env, "").strip()
    else:
        return None
    if not key or not key.isascii() or not key.isprintable():
        raise ConfigError("the cloud's key is empty or has characters that a header cannot carry", key="api_key")
    return key


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@dataclass(frozen=True, slots=True)
class CloudSettings:
    """Where the cloud is and how far it is trusted.

    `base_url` ends before `/chat/completions` (usually in `/v1`). `timeout` is seconds for one HTTP exchange,
    `max_attempts` the exchanges of one generation, `max_response_bytes` the longest body that is read. `redact` is from
    `redact.KINDS`. `limit_key` is "max_completion_tokens" for endpoints that refuse `max_tokens`. A key over plain HTTP
    to another machine is a ConfigError unless `allow_plaintext`.
    """

    base_url: str
    model: str
    api_key: str | None = field(default=None, repr=False)
    timeout: float = 60.0
    max_attempts: int = 2
    max_response_bytes: int = 4 << 20
    redact: tuple[str, ...] = KINDS
    limit_key: str = "max_tokens"
    allow_plaintext: bool = False

    def __post_init__(self) -> None:
        Redactor(self.redact)
        try:
            url = urlsplit(self.base_url)
            host = url.hostname or ""
        except ValueError:
            raise ConfigError("base_url is no URL", key="base_url") from None
        if url.scheme not in ("http", "https") or not host or url.query or url.fragment or url.username:
            raise ConfigError("base_url must be http(s)://host[:port]/path and nothing else", key="base_url")
        if url.scheme == "http" and self.api_key and not (self.allow_plaintext or _is_loopback(host)):
            raise ConfigError("base_url must be https: a key would cross the network in clear", key="base_url")

    @property
    def url(self) -> str:
        return self.base_url.rstrip("/") + "/chat/completions"


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    retry_after: str | None
    body: bytes


class CloudModel:
    """Implements `domain.ports.ChatModel`. `sleep`, `roll`, `clock` and `monotonic` are injected for tests."""

    def __init__(
        self,
        settings: CloudSettings,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        roll: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._sleep = sleep
        self._roll = roll
        self._clock = clock
        self._monotonic = monotonic

    async def generate(self, generation: Generation) -> Completion:
        """One assistant turn; see the file's rule for the errors. `grammar` and `generation.model` are not used:
        the settings name the cloud's model. The text comes in one piece, `on_text` gets it whole."""
        redactor = redactor_for(generation, self._settings.redact)
        body = encode(generation, self._settings.model, redactor, self._settings.limit_key)
        completion = await self._attempts(generation, body, redactor)
        if generation.on_text is not None and completion.text:
            generation.on_text(completion.text)
        return completion

    async def _attempts(self, generation: Generation, body: bytes, redactor: Redactor) -> Completion:
        attempt = fresh = 0
        while True:
            attempt += 1
            key = idempotency_key(generation.request_id, body, fresh)
            try:
                return await self._once(generation, body, key, redactor)
            except BadToolArguments as error:
                # A stored answer would be just as broken, so the second question has another key.
                fresh += 1
                if fresh > 1:
                    raise BadRequest(f"{error}, twice", reason="cloud_tool_arguments") from None
            except CloudUnreachable as error:
                told = error.retry_after or 0.0
                if attempt >= self._settings.max_attempts or told > _QUICK.patience:
                    raise
                await self._sleep(_QUICK.delay(attempt, self._roll(), told))

    async def _once(self, generation: Generation, body: bytes, key: str, redactor: Redactor) -> Completion:
        began = self._monotonic()
        timeout = self._settings.timeout
        hurried = False
        if generation.deadline_monotonic is not None:
            left = generation.deadline_monotonic - began
            hurried, timeout = left < timeout, min(left, timeout)
        try:
            if timeout <= 0:
                raise TimeoutError
            async with asyncio.timeout(timeout):
                answer = await self._exchange(body, key)
        except TimeoutError:
            if hurried:
                raise DeadlineExceeded(
                    "the cloud did not answer before the deadline", retry_after=1.0, reached=False
                ) from None
            raise CloudUnreachable(f"no answer within {timeout:g} s", reason="timeout", reached=False) from None
        self._judge(answer)
        return parse(answer.body, redactor, self._monotonic() - began, self._settings.model)

    async def _exchange(self, body: bytes, key: str) -> _Answer:
        import aiohttp  # late: a device that never escalates need not hold it

        headers = {"Content-Type": "application/json", "Accept": "application/json", "Idempotency-Key": key}
        # A compressed body could be a bomb; the limit below counts what has been unpacked, this asks for none.
        headers["Accept-Encoding"] = "identity"
        if self._settings.api_key:
            headers["Authorization"] = f"Bearer {self._settings.api_key}"
        reached = False
        try:
            async with (
                aiohttp.ClientSession(
                    trust_env=False, cookie_jar=aiohttp.DummyCookieJar(), timeout=aiohttp.ClientTimeout(total=None)
                ) as session,
                session.post(self._settings.url, data=body, headers=headers, allow_redirects=False) as response,
            ):
                reached = True
                data = await self._read(response)
                return _Answer(response.status, response.headers.get("Retry-After"), data)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # The type says enough; a message may quote the URL or a header.
            what = "the answer broke off" if reached else "no connection"
            raise CloudUnreachable(
                f"{what} ({type(error).__name__})", reason="cut" if reached else "connection", reached=reached
            ) from error

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        parts, size = [], 0
        async for part in response.content.iter_any():
            size += len(part)
            if size > self._settings.max_response_bytes:
                raise CloudUnreachable(
                    f"the answer is longer than {self._settings.max_response_bytes} bytes", reason="size", reached=True
                )
            parts.append(part)
        return b"".join(parts)

    def _judge(self, answer: _Answer) -> None:
        """Raises unless the answer is a 200. A redirect is a captive portal or a wrong address: neither gets the key."""
        status = answer.status
        if status == 200:
            return
        why = f"the cloud answered {status}{error_sentence(answer.body, self._settings.api_key)}"
        if status in _OPERATORS:
            raise CloudUnreachable(
                f"{why}; check cloud.base_url and the key",
                retry_after=_OPERATORS_SECONDS,
                reason="configuration",
                status=status,
                reached=False,
            )
        if 400 <= status < 500 and status not in (408, 429):
            raise BadRequest(why, reason="cloud_refused", status=status)
        wait = retry_after_seconds(answer.retry_after, self._clock())
        raise CloudUnreachable(
            why, retry_after=wait, reason="status", status=status, reached=status < 300 or status >= 400
        )
