"""A broker that wants to be believed, and to know who comes."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mosquitto_broker import Mosquitto

from edged.domain.errors import ConfigError
from edged.gateway.schema import TlsSettings

from .mqtt_peer import WAIT
from .mqtt_site import behind, door


@dataclass
class Guarded:
    """A broker with a certificate of its own and one user, "edged" with the password "secret"."""

    broker: Mosquitto
    cert: str
    key: str


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Guarded]:
    cert, key, words = (str(tmp_path / name) for name in ("cert.pem", "key.pem", "passwords"))
    make = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost".split()
    )
    make += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert]
    for command in (make, ["mosquitto_passwd", "-b", "-c", words, "edged", "secret"]):
        subprocess.run(command, check=True, capture_output=True)
    broker = Mosquitto(tmp_path, f"certfile {cert}\nkeyfile {key}\npassword_file {words}").start()
    yield Guarded(broker, cert, key)
    broker.kill()


@pytest.mark.parametrize(
    ("trusting", "password", "why"),
    [(False, "secret", "CERTIFICATE_VERIFY_FAILED"), (True, "wrong", "refused: Not authorized")],
)
async def test_it_says_why_it_cannot_connect(
    tmp_path: Path, guarded: Guarded, trusting: bool, password: str, why: str
) -> None:
    more: dict[str, Any] = {"username": "edged", "password": password}
    more["tls"] = TlsSettings(ca_file=guarded.cert if trusting else "")
    async with behind(tmp_path) as site, door(site, guarded.broker.port, online=False, **more) as opened:
        async with asyncio.timeout(WAIT):
            while opened.status()["last_error"] is None:
                await asyncio.to_thread(lambda: None)
        assert why in opened.status()["last_error"]


async def test_packets_that_share_a_tls_record_all_arrive(tmp_path: Path, guarded: Guarded) -> None:
    """What is left decrypted in memory never makes the socket readable. Mosquitto sends one packet a record; others do not."""

    async with behind(tmp_path) as site:
        topic = site.ask().encode()
        request = b"\x00" + bytes([len(topic)]) + topic + b"\x00hi"
        connack, publish = b"\x20\x03\x00\x00\x00", b"\x30" + bytes([len(request)]) + request

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1)
            writer.write(connack + publish + publish)
            await reader.read()
            writer.close()

        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(guarded.cert, guarded.key)
        async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as server, asyncio.timeout(WAIT):
            port = server.sockets[0].getsockname()[1]
            async with door(site, port, online=False, tls=TlsSettings(ca_file=guarded.cert)):
                assert [(await site.desk.asked.get()).text for _ in range(2)] == ["hi", "hi"]


async def test_large_requests_pass_through_tls(tmp_path: Path, guarded: Guarded) -> None:
    port, tls = str(guarded.broker.port), TlsSettings(ca_file=guarded.cert)
    command = ["mosquitto_rr", "-V", "5", "-h", "127.0.0.1", "-p", port, "--cafile", guarded.cert, "-W", "10"]
    command += ["-u", "edged", "-P", "secret", "-e", "mine/answers", "-m", "x" * 60_000]
    async with (
        behind(tmp_path) as site,
        door(site, int(port), online=False, tls=tls, username="edged", password="secret") as opened,
        asyncio.timeout(WAIT),
    ):
        while opened.status()["connected_since"] is None:
            await asyncio.to_thread(lambda: None)
        pipe = asyncio.subprocess.PIPE
        asking = await asyncio.create_subprocess_exec(*command, "-t", site.ask(), stdout=pipe)
        answer, _ = await asking.communicate()
    assert b"you said " + b"x" * 60_000 in answer


async def test_certificates_that_cannot_be_used_are_told_at_once(tmp_path: Path) -> None:
    async with behind(tmp_path) as site:
        with pytest.raises(ConfigError, match="certificate"):
            async with door(site, 1, online=False, tls=TlsSettings(ca_file=str(tmp_path / "none.pem"))):
                pass
