"""The cloud client against the stand-in over real sockets, with each fault that it can be told."""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from edged.domain.errors import BadRequest, CloudUnreachable, ConfigError, DeadlineExceeded
from edged.domain.messages import Message
from edged.domain.ports import Generation
from edged.domain.resources import ToolSpec
from edged.escalation.cloud import CloudModel, CloudSettings, read_api_key

from .conftest import Cloud

SECRET = "sk-secret-123"


async def at_once(seconds: float) -> None:
    """The pause between two tries, without the waiting."""


def model(base_url: str, *, sleep: Callable[[float], Awaitable[None]] = at_once, **settings: Any) -> CloudModel:
    return CloudModel(CloudSettings(base_url, "big", **settings), sleep=sleep, roll=lambda: 0.5)


def ask(text: str, *tools: str, deadline: float | None = None, request_id: str = "r1") -> Generation:
    specs = tuple(ToolSpec(name, "A tool", {"type": "object", "properties": {}}) for name in tools)
    return Generation("local", (Message("user", text),), specs, deadline_monotonic=deadline, request_id=request_id)


@asynccontextmanager
async def serving(
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]], context: ssl.SSLContext | None = None
) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    yield f"http{'s' if context else ''}://127.0.0.1:{runner.addresses[0][1]}/v1"
    await runner.cleanup()


async def test_an_answer(cloud: Cloud) -> None:
    pieces: list[str] = []
    generation = ask("Why is the sky blue?")
    completion = await model(cloud.base_url).generate(
        Generation(generation.model, generation.messages, request_id="r1", on_text=pieces.append)
    )
    assert "stand-in" in completion.text and "Why is the sky blue?" in completion.text
    assert (completion.finish_reason, completion.model) == ("stop", "stand-in")
    assert completion.usage.prompt == 5 and completion.usage.completion > 5
    assert completion.decode_seconds > 0 and pieces == [completion.text]


async def test_a_tool_call_and_its_result(cloud: Cloud) -> None:
    client = model(cloud.base_url)
    first = ask("Please use the tool get_time.", "get_time")
    completion = await client.generate(first)
    (call,) = completion.tool_calls
    assert (call.name, call.arguments, completion.finish_reason) == ("get_time", {}, "tool_calls")
    turns = (*first.messages, Message("assistant", "", (call,)), Message("tool", "12:00", tool_call_id=call.id))
    second = await client.generate(Generation("local", turns, first.tools, request_id="r1"))
    assert second.text.endswith("The tool returned: 12:00")
    # Two steps of one request are two questions: the second must not get the first one's stored answer.
    assert (cloud.state.requests, cloud.state.duplicates, len(cloud.state.keys)) == (2, 0, 2)


async def test_what_is_personal_stays_here(cloud: Cloud) -> None:
    completion = await model(cloud.base_url).generate(ask("mail me@x.org"))
    assert "me@x.org" in completion.text
    assert "x.org" not in json.dumps(cloud.state.bodies) and "[EMAIL_1]" in json.dumps(cloud.state.bodies)


async def test_the_same_step_again_has_the_same_key(cloud: Cloud) -> None:
    answers = [await model(cloud.base_url).generate(ask("hello")) for _ in range(2)]
    assert answers[0].text == answers[1].text
    assert (cloud.state.requests, cloud.state.duplicates) == (2, 1)
    await model(cloud.base_url).generate(ask("hello", request_id="r2"))
    assert len(cloud.state.keys) == 2


async def test_a_second_try_mends_a_hiccup(cloud: Cloud) -> None:
    cloud.state.faults.fail_first = 1
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    assert (await model(cloud.base_url, sleep=pause).generate(ask("hi"))).finish_reason == "stop"
    assert pauses == [1.25] and cloud.state.duplicates == 1


async def test_a_long_retry_after_is_left_to_the_courier(cloud: Cloud) -> None:
    cloud.state.faults.fail_first, cloud.state.faults.retry_after = 9, 42
    with pytest.raises(CloudUnreachable) as caught:
        await model(cloud.base_url).generate(ask("hi"))
    assert caught.value.retry_after == 42 and caught.value.fields["reached"] is True
    assert cloud.state.requests == 1


@pytest.mark.parametrize("status", [408, 429, 500, 503, 302, 204])
async def test_time_may_mend(cloud: Cloud, status: int) -> None:
    cloud.state.faults.status = status
    with pytest.raises(CloudUnreachable) as caught:
        await model(cloud.base_url).generate(ask("hi"))
    assert caught.value.fields["status"] == status and cloud.state.requests == 2
    assert caught.value.fields["reached"] is (status != 302)


@pytest.mark.parametrize("status", [400, 409, 413, 422])
async def test_refused_for_good(cloud: Cloud, status: int) -> None:
    cloud.state.faults.status = status
    with pytest.raises(BadRequest) as caught:
        await model(cloud.base_url).generate(ask("hi"))
    assert caught.value.fields == {"reason": "cloud_refused", "status": status}
    assert "told to refuse" in caught.value.detail and cloud.state.requests == 1


@pytest.mark.parametrize("status", [401, 402, 403, 404])
async def test_what_the_operator_has_to_mend_costs_no_ticket(cloud: Cloud, status: int) -> None:
    cloud.state.faults.status = status
    with pytest.raises(CloudUnreachable) as caught:
        await model(cloud.base_url).generate(ask("hi"))
    assert caught.value.fields == {"reason": "configuration", "status": status, "reached": False}
    assert caught.value.retry_after


@pytest.mark.parametrize(("fault", "reason"), [("garbage", "malformed"), ("cut", "cut")])
async def test_a_broken_answer(cloud: Cloud, fault: str, reason: str) -> None:
    setattr(cloud.state.faults, fault, True)
    with pytest.raises(CloudUnreachable) as caught:
        await model(cloud.base_url).generate(ask("hi"))
    assert caught.value.fields == {"reason": reason, "reached": True} and cloud.state.requests == 2


async def test_no_answer(cloud: Cloud) -> None:
    cloud.state.faults.hang = True
    with pytest.raises(CloudUnreachable) as caught:
        await model(cloud.base_url, timeout=0.1, max_attempts=1).generate(ask("hi"))
    assert caught.value.fields["reason"] == "timeout"
    with pytest.raises(DeadlineExceeded):
        await model(cloud.base_url).generate(ask("hi", deadline=time.monotonic() + 0.1))
    with pytest.raises(DeadlineExceeded):
        await model(cloud.base_url).generate(ask("hi", deadline=time.monotonic() - 1))
    assert cloud.state.requests == 2


async def test_cancelling_hangs_up(cloud: Cloud) -> None:
    cloud.state.faults.hang = True
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await model(cloud.base_url).generate(ask("hi"))


async def test_nobody_there() -> None:
    with pytest.raises(CloudUnreachable) as caught:
        await model("http://127.0.0.1:1/v1").generate(ask("hi"))
    assert caught.value.fields == {"reason": "connection", "reached": False}


async def test_an_answer_without_end() -> None:
    async def flood(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b" " * 65536)

    async with serving(flood) as url:
        with pytest.raises(CloudUnreachable) as caught:
            await model(url, max_attempts=1, max_response_bytes=100_000).generate(ask("hi"))
    assert caught.value.fields["reason"] == "size"


async def test_bad_tool_arguments_are_asked_for_once_more(cloud: Cloud) -> None:
    with pytest.raises(BadRequest) as caught:
        await model(cloud.base_url, max_attempts=1).generate(ask("use the tool get_time badly", "get_time"))
    assert caught.value.fields["reason"] == "cloud_tool_arguments"
    assert (cloud.state.requests, cloud.state.duplicates) == (
        2,
        0,
    )  # with a fresh key, or the stored answer would return


async def test_the_key_goes_to_the_cloud_and_nowhere_else(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    async def elsewhere(request: web.Request) -> web.StreamResponse:
        seen.append(request.headers.get("Authorization", ""))
        return web.json_response({})

    async with serving(elsewhere) as other:

        async def portal(request: web.Request) -> web.StreamResponse:
            return web.Response(status=307, headers={"Location": other})

        monkeypatch.setenv("http_proxy", other)
        async with serving(portal) as url:
            with pytest.raises(CloudUnreachable):
                await model(url, api_key=SECRET).generate(ask("hi"))
        cloud.state.api_key = SECRET
        assert (await model(cloud.base_url, api_key=SECRET).generate(ask("hi"))).finish_reason == "stop"
    assert seen == []


async def test_errors_do_not_say_the_key() -> None:
    async def echo(request: web.Request) -> web.StreamResponse:
        said = f"Incorrect key: {request.headers['Authorization']}"
        return web.json_response({"error": {"message": said}}, status=401)

    async with serving(echo) as url:
        with pytest.raises(CloudUnreachable) as caught:
            await model(url, api_key="plain/key").generate(ask("hi"))
    assert caught.value.detail.startswith("the cloud answered 401: Incorrect key: Bearer ***;")
    assert SECRET not in repr(CloudSettings("https://x.org/v1", "big", SECRET))


@pytest.fixture
def nobodys_certificate(tmp_path: Path) -> ssl.SSLContext:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    subprocess.run([*command, "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return context


async def test_a_certificate_of_nobody_is_refused(nobodys_certificate: ssl.SSLContext) -> None:
    seen: list[str] = []

    async def listen(request: web.Request) -> web.StreamResponse:
        seen.append(request.path)
        return web.json_response({})

    async with serving(listen, nobodys_certificate) as url:
        with pytest.raises(CloudUnreachable) as caught:
            await model(url, api_key=SECRET, max_attempts=1).generate(ask("hi"))
    assert "Certificate" in caught.value.detail and seen == []


@pytest.mark.parametrize(
    "base_url",
    [
        "",
        "x.org/v1",
        "ftp://x.org",
        "https://",
        "https://u:p@x.org/v1",
        "https://x.org/v1?a=b",
        "http://x.org/v1",
        "http://[",
    ],
)
def test_settings_that_cannot_work(base_url: str) -> None:
    with pytest.raises(ConfigError):
        CloudSettings(base_url, "big", SECRET)


def test_settings_that_can() -> None:
    assert CloudSettings("https://x.org/v1/", "big", SECRET).url == "https://x.org/v1/chat/completions"
    CloudSettings("http://10.0.0.5/v1", "big")
    CloudSettings("http://[::1]:8080/v1", "big", SECRET)
    CloudSettings("http://10.0.0.5/v1", "big", SECRET, allow_plaintext=True)


def test_where_the_key_comes_from(tmp_path: Path) -> None:
    (tmp_path / "cloud").write_text(f"{SECRET}\n")
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path), "KEY": " from-env ", "BAD": "a\nb"}
    assert read_api_key(file=Path("cloud"), environ=environ) == SECRET
    assert read_api_key("KEY", environ=environ) == "from-env"
    assert read_api_key(environ=environ) is None
    for env, file in (("BAD", None), ("ABSENT", None), (None, Path("absent"))):
        with pytest.raises(ConfigError):
            read_api_key(env, file, environ)
