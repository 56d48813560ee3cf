"""Downloads from a server that fails in every way: what is resumed, what is begun anew, what is kept and what is not."""

from __future__ import annotations

import asyncio
import hashlib
import json
import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from workers.tiny_gguf import write

from edged.cli import download
from edged.cli.download import Download, Wanted
from edged.cli.web import Web, shown
from edged.domain.errors import (
    BadRequest,
    DigestMismatch,
    DiskFull,
    DownloadInterrupted,
    DownloadRefused,
    EdgedError,
    Forbidden,
    LengthMismatch,
    NotAModel,
    NotFound,
)
from edged.engine import parts
from edged.engine.parts import part_of, staged

from .mirror import Fault, Mirror, serving


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write(tmp_path_factory.mktemp("model") / "tiny.gguf").read_bytes()


@pytest.fixture
async def mirror(model: bytes) -> AsyncIterator[Mirror]:
    async with serving(model) as running:
        yield running


class Pull:
    """One `Download` a call into the same target; `rests` are the seconds that it would have waited, `said` its remarks."""

    def __init__(self, folder: Path, mirror: Mirror) -> None:
        self.target = folder / "models" / "tiny.gguf"
        self.part = part_of(self.target)
        self.mirror = mirror
        self.rests: list[float] = []
        self.said: list[str] = []

    async def __call__(
        self, *, url: str = "", sha256: str = "", size: int | None = None, retries: int = 0, silence: float = 5.0
    ) -> bytes:
        wanted = Wanted(url or self.mirror.url, "tiny.gguf", sha256, size)
        return await asyncio.to_thread(self._run, wanted, retries, silence)

    def _run(self, wanted: Wanted, retries: int, silence: float) -> bytes:
        with staged(self.target) as part:
            web = Web(silence=silence)
            Download(part, wanted, web, self._report, retries=retries, rest=self.rests.append).run()
            assert part.digest == hashlib.sha256(self.part.read_bytes()).hexdigest()
        return self.part.read_bytes()

    def _report(self, done: int, whole: int | None, remark: str) -> None:
        self.said += [remark] if remark else []

    async def fails(self, error: type[EdgedError], **more: Any) -> EdgedError:
        with pytest.raises(error) as raised:
            await self(**more)
        return raised.value

    def left(self) -> int | None:
        """Bytes of the part, None where nothing is left at all."""
        files = sorted(path.name for path in self.part.parent.iterdir())
        assert files in ([], ["tiny.gguf.part", "tiny.gguf.part.json"])
        return self.part.stat().st_size if files else None


@pytest.fixture
def pull(tmp_path: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> Pull:
    monkeypatch.setenv("no_proxy", "*")
    return Pull(tmp_path, mirror)


def sha(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


async def test_a_whole_file(pull: Pull, model: bytes) -> None:
    assert await pull(sha256=sha(model), size=len(model)) == model
    assert pull.rests == []


async def test_a_cut_connection_goes_on_where_it_broke_off(pull: Pull, mirror: Mirror, model: bytes) -> None:
    mirror.faults = [Fault(cut=100_000), Fault(cut=50_000)]
    assert await pull(retries=2, sha256=sha(model)) == model
    assert mirror.ranges_asked() == [None, "bytes=100000-", "bytes=150000-"]
    assert [headers.get("If-Range") for _, headers in mirror.asked] == [None, '"one"', '"one"']
    assert len(pull.rests) == 2
    assert mirror.sent == len(model)


async def test_retries_have_a_bound_and_what_came_is_kept(pull: Pull, mirror: Mirror, model: bytes) -> None:
    mirror.faults = [Fault(cut=100_000), Fault(cut=0), Fault(cut=0), Fault(cut=0)]
    error = await pull.fails(DownloadInterrupted, retries=2)
    assert "100000 of" in error.detail
    assert len(mirror.asked) == 3
    assert pull.left() == 100_000
    mirror.faults = []
    assert await pull() == model
    assert mirror.ranges_asked()[-1] == "bytes=100000-"


async def test_a_silent_server_is_a_cut_connection(pull: Pull, mirror: Mirror) -> None:
    mirror.faults = [Fault(hang=100_000)]
    assert "nothing came" in (await pull.fails(DownloadInterrupted, silence=0.3)).detail
    assert pull.left() == 100_000


async def test_a_server_without_ranges_begins_anew(pull: Pull, mirror: Mirror, model: bytes) -> None:
    mirror.ranges, mirror.faults = False, [Fault(cut=100_000)]
    assert await pull(retries=1, sha256=sha(model)) == model
    assert mirror.sent == 100_000 + len(model)


async def test_a_server_that_always_begins_anew_and_is_cut_ends(
    pull: Pull, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However much each attempt brings."""
    monkeypatch.setattr(download, "_WORTH", 50_000)
    mirror.ranges, mirror.faults = False, [Fault(cut=100_000)] * 20
    await pull.fails(DownloadInterrupted, retries=3)
    assert len(mirror.asked) == 4


async def test_attempts_that_bring_something_are_no_failures(
    pull: Pull, mirror: Mirror, model: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "_WORTH", 50_000)
    mirror.faults = [Fault(cut=60_000)] * 5
    assert await pull(retries=1) == model
    assert len(mirror.asked) == 6


@pytest.mark.parametrize("heeds_if_range", [True, False])
async def test_a_changed_file_begins_anew(pull: Pull, mirror: Mirror, model: bytes, heeds_if_range: bool) -> None:
    """A server that sends the rest of the new one for the old one's rest is seen through."""
    mirror.faults = [Fault(cut=100_000)]
    await pull.fails(DownloadInterrupted)
    other = bytearray(model)
    other[5000] ^= 1
    mirror.body, mirror.etag, mirror.heeds_if_range = bytes(other), '"two"', heeds_if_range
    assert await pull() == bytes(other)
    assert any("anew" in said for said in pull.said)


@pytest.mark.parametrize(
    "told", ["bytes 0-9/438528", "bytes 100000-438527/500000", "bytes 100000-438527/*", "nonsense"]
)
async def test_another_part_than_was_asked_for_begins_anew(pull: Pull, mirror: Mirror, model: bytes, told: str) -> None:
    mirror.faults = [Fault(cut=100_000), Fault(headers={"Content-Range": told})]
    assert await pull(retries=1) == model
    assert mirror.ranges_asked() == [None, "bytes=100000-", None]


async def test_a_file_that_became_shorter_begins_anew(pull: Pull, mirror: Mirror, model: bytes) -> None:
    mirror.body += bytes(1000)
    mirror.faults = [Fault(cut=len(model) + 500)]
    await pull.fails(DownloadInterrupted)
    mirror.body, mirror.etag, mirror.heeds_if_range = model, '"two"', False
    assert await pull() == model


async def test_last_modified_vouches_where_there_is_no_etag(pull: Pull, mirror: Mirror, model: bytes) -> None:
    mirror.etag, mirror.modified = "", "Tue, 03 Nov 2026 10:00:00 GMT"
    mirror.faults = [Fault(cut=100_000)]
    assert await pull(retries=1) == model
    assert mirror.asked[1][1]["If-Range"] == mirror.modified
    assert mirror.sent == len(model)


@pytest.mark.parametrize("etag", ["", 'W/"weak"'])
async def test_what_nobody_vouches_for_is_not_kept(pull: Pull, mirror: Mirror, model: bytes, etag: str) -> None:
    mirror.etag, mirror.faults = etag, [Fault(cut=100_000), Fault(cut=100_000)]
    await pull.fails(DownloadInterrupted, retries=1)
    assert mirror.ranges_asked() == [None, None]
    assert pull.left() is None


async def test_a_digest_vouches_too(pull: Pull, mirror: Mirror, model: bytes) -> None:
    mirror.etag, mirror.faults = "", [Fault(cut=100_000)]
    await pull.fails(DownloadInterrupted, sha256=sha(model))
    assert await pull(sha256=sha(model)) == model
    assert mirror.ranges_asked() == [None, "bytes=100000-"]


async def test_another_url_does_not_go_on_with_it(pull: Pull, mirror: Mirror, model: bytes) -> None:
    mirror.faults = [Fault(cut=100_000)]
    await pull.fails(DownloadInterrupted)
    assert await pull(url=f"{mirror.base}/other/tiny.gguf") == model
    assert mirror.ranges_asked() == [None, None]


async def test_wrong_bytes_are_not_kept(pull: Pull, mirror: Mirror, model: bytes) -> None:
    error = await pull.fails(DigestMismatch, sha256="0" * 64)
    assert sha(model) in error.detail
    assert pull.left() is None


async def test_a_part_that_rotted_is_fetched_once_more(pull: Pull, mirror: Mirror, model: bytes) -> None:
    mirror.faults = [Fault(cut=100_000)]
    await pull.fails(DownloadInterrupted, sha256=sha(model))
    rotten = bytearray(pull.part.read_bytes())
    rotten[777] ^= 1
    pull.part.write_bytes(rotten)
    assert await pull(sha256=sha(model)) == model
    assert mirror.ranges_asked() == [None, "bytes=100000-", None]


async def test_after_a_power_cut_only_what_reached_the_disk_counts(
    pull: Pull, mirror: Mirror, model: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Another boot, and a file whose end is the zeros of a file system that had not written it yet."""
    mirror.faults = [Fault(cut=100_000)]
    await pull.fails(DownloadInterrupted)
    with pull.part.open("ab") as stream:
        stream.write(bytes(4096))
    (tmp_path / "boot_id").write_text("another boot")
    monkeypatch.setattr(parts, "_BOOT", tmp_path / "boot_id")
    assert await pull() == model
    assert mirror.ranges_asked() == [None, "bytes=100000-"]


async def test_a_length_that_is_a_lie(pull: Pull, mirror: Mirror, model: bytes) -> None:
    mirror.faults = [Fault(length=len(model) + 10)] * 3  # the second is spent on a range that is not there
    error = await pull.fails(DownloadInterrupted, retries=1)
    assert f"of {len(model) + 10}" in error.detail


async def test_another_length_than_was_promised(pull: Pull, mirror: Mirror, model: bytes) -> None:
    await pull.fails(LengthMismatch, size=len(model) + 1)
    assert (mirror.sent, pull.left()) == (len(model), None)
    mirror.faults = [Fault(chunked=True)]
    await pull.fails(LengthMismatch, size=len(model) + 1)
    assert pull.left() is None


async def test_more_than_the_disk_has_is_not_begun(pull: Pull, mirror: Mirror) -> None:
    mirror.faults = [Fault(length=1 << 50)]
    assert "are needed" in (await pull.fails(DiskFull, retries=3)).detail
    assert (len(mirror.asked), pull.left()) == (1, None)


async def test_chunks_without_a_length(pull: Pull, mirror: Mirror, model: bytes) -> None:
    mirror.faults = [Fault(chunked=True, cut=100_000)]
    assert await pull(retries=1) == model
    assert mirror.ranges_asked() == [None, "bytes=100000-"]


async def test_a_web_page_is_no_model(pull: Pull, mirror: Mirror, model: bytes) -> None:
    page = Fault(kind="text/html", body=b"<html>please log in</html>")
    mirror.faults = [page]
    assert "text/html" in (await pull.fails(NotAModel)).detail
    assert pull.left() is None


async def test_a_log_in_page_in_between_does_not_cost_what_was_fetched(
    pull: Pull, mirror: Mirror, model: bytes
) -> None:
    mirror.faults = [Fault(cut=100_000)]
    await pull.fails(DownloadInterrupted)
    mirror.ranges, mirror.faults = False, [Fault(kind="text/html", body=b"<html>please log in</html>")]
    await pull.fails(NotAModel)
    assert pull.left() == 100_000
    mirror.ranges = True
    assert await pull() == model
    assert mirror.ranges_asked()[-1] == "bytes=100000-"


@pytest.mark.parametrize(
    ("status", "error"),
    [(404, NotFound), (410, NotFound), (403, Forbidden), (401, Forbidden), (400, DownloadRefused)],
)
async def test_what_is_refused_is_not_tried_again(
    pull: Pull, mirror: Mirror, status: int, error: type[EdgedError]
) -> None:
    mirror.faults = [Fault(status=status)] * 3
    assert str(status) in (await pull.fails(error, retries=3)).detail
    assert (len(mirror.asked), pull.left()) == (1, None)


async def test_what_passes_is_tried_again_when_it_was_said(pull: Pull, mirror: Mirror, model: bytes) -> None:
    mirror.faults = [Fault(status=503, headers={"Retry-After": "7"}), Fault(status=429)]
    assert await pull(retries=2) == model
    assert 7 <= pull.rests[0] <= 9
    assert pull.rests[1] <= 3


async def test_redirects(pull: Pull, mirror: Mirror, model: bytes) -> None:
    there = f"{mirror.base}/cdn/tiny.gguf"
    mirror.faults = [Fault(location=there), Fault(cut=100_000), Fault(location=there)]
    assert await pull(retries=1) == model
    assert mirror.ranges_asked() == [None, None, "bytes=100000-", "bytes=100000-"]


async def test_redirects_in_a_loop(pull: Pull, mirror: Mirror) -> None:
    mirror.faults = [Fault(location=mirror.url)] * 50
    assert "loop" in (await pull.fails(DownloadRefused, retries=3)).detail
    assert len(mirror.asked) < 12


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://127.0.0.1/x.gguf"])
async def test_redirects_out_of_the_web(pull: Pull, mirror: Mirror, location: str) -> None:
    mirror.faults = [Fault(location=location)]
    await pull.fails(DownloadRefused, retries=3)
    assert len(mirror.asked) == 1


@pytest.fixture
async def guarded(model: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Mirror]:
    """A server with TLS, and a certificate that is trusted."""
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost".split()
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)]
    await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True)
    monkeypatch.setenv("SSL_CERT_FILE", str(cert))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    async with serving(model, context) as running:
        yield running


async def test_https_and_never_from_there_to_http(pull: Pull, mirror: Mirror, guarded: Mirror, model: bytes) -> None:
    guarded.faults = [Fault(location=mirror.url)]
    assert "redirects to http" in (await pull.fails(DownloadRefused, url=guarded.url, retries=3)).detail
    assert mirror.asked == []
    assert await pull(url=guarded.url) == model


async def test_a_certificate_that_is_not_trusted(pull: Pull, guarded: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    assert "certificate" in (await pull.fails(DownloadRefused, url=guarded.url, retries=3)).detail
    assert (guarded.asked, pull.rests) == ([], [])


async def test_what_cannot_be_fetched_at_all(pull: Pull, tmp_path: Path) -> None:
    for url in ("file:///etc/passwd", "tiny.gguf", "http://[::1/x.gguf", "http://u:secret@127.0.0.1/x.gguf"):
        assert "secret" not in (await pull.fails(BadRequest, url=url, retries=3)).detail
    await pull.fails(DownloadInterrupted, url="http://127.0.0.1:9/x.gguf")
    assert pull.rests == []


async def test_compressed_bytes_are_refused(pull: Pull, mirror: Mirror) -> None:
    mirror.faults = [Fault(headers={"Content-Encoding": "gzip"}, length=4, body=b"GGUF")]
    await pull.fails(DownloadRefused)


async def test_a_damaged_record_begins_anew(pull: Pull, mirror: Mirror, model: bytes) -> None:
    mirror.faults = [Fault(cut=100_000)]
    await pull.fails(DownloadInterrupted)
    record = pull.part.with_name(pull.part.name + ".json")
    assert json.loads(record.read_text())["synced"] == 100_000
    record.write_text("{}")
    assert await pull() == model
    assert mirror.ranges_asked() == [None, None]


def test_secrets_of_a_url_are_not_shown() -> None:
    assert shown("https://u:p@host:8/a/b.gguf?sig=secret#x") == "https://host:8/a/b.gguf"
    assert shown("http://[::1/b?sig=secret") == "http://[::1/b"
