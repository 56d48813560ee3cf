"""Repositories: which file is meant, what it must be, and who gets the token."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from edged.cli.hub import Repository, choose, locate, repository
from edged.cli.web import Web
from edged.domain.errors import BadRequest, DigestMismatch, DownloadRefused, EdgedError, NotAModel, NotFound

from .mirror import Fault, Mirror, serving

FILES = [
    "README.md",
    "tiny-q2_k.gguf",
    "tiny-Q4_K_M.gguf",
    "tiny-Q4_K_S.gguf",
    "tiny-IQ4_XS.gguf",
    "mmproj-tiny-f16.gguf",
    "tiny-Q8_0-00001-of-00002.gguf",
    "tiny-Q8_0-00002-of-00002.gguf",
    "BF16/tiny.BF16.gguf",
]


@pytest.mark.parametrize(
    ("wish", "file"),
    [
        ("Q4_K_M", "tiny-Q4_K_M.gguf"),
        ("q4_k_m", "tiny-Q4_K_M.gguf"),
        ("Q2_K", "tiny-q2_k.gguf"),
        ("IQ4_XS", "tiny-IQ4_XS.gguf"),
        ("bf16", "BF16/tiny.BF16.gguf"),
        ("tiny-q2_k.gguf", "tiny-q2_k.gguf"),
        ("README.md", "README.md"),
    ],
)
def test_the_file_that_is_meant(wish: str, file: str) -> None:
    assert choose(FILES, wish) == file


@pytest.mark.parametrize(
    ("files", "wish", "error", "said"),
    [
        (FILES, "", BadRequest, "Q4_K_M, Q4_K_S"),
        (FILES, "Q4_K", NotFound, "Q4_K_S"),
        (FILES, "4_K_M", NotFound, "Q4_K_M"),
        (FILES, "f16", NotFound, "BF16"),
        (FILES, "Q8_0", NotAModel, "several files"),
        (["README.md"], "Q8_0", NotFound, "no GGUF"),
        ([], "", NotFound, "no GGUF"),
    ],
)
def test_what_is_not_clear_is_said(files: list[str], wish: str, error: type[EdgedError], said: str) -> None:
    with pytest.raises(error, match=said):
        choose(files, wish)


def test_a_single_model_needs_no_wish() -> None:
    assert choose(["README.md", "a.gguf", "mmproj-a.gguf"], "") == "a.gguf"


@pytest.mark.parametrize(
    ("source", "is_repo", "found"),
    [
        ("hf:o/n", False, Repository("https://hub", "o", "n")),
        ("hf:o/n:Q4_K_M", False, Repository("https://hub", "o", "n", "Q4_K_M")),
        ("hf:o/n.x:a/b.gguf", False, Repository("https://hub", "o", "n.x", "a/b.gguf")),
        ("https://host:8/o/n:Q8_0", True, Repository("https://host:8", "o", "n", "Q8_0")),
        ("https://host/o/n/", True, Repository("https://host", "o", "n")),
        ("https://host/o/n", False, None),
    ],
)
def test_names_of_repositories(source: str, is_repo: bool, found: Repository | None) -> None:
    assert repository(source, "https://hub/", is_repo) == found


@pytest.mark.parametrize("source", ["hf:", "hf:o", "hf:o/n/x", "hf:../n", "hf:o/..", "hf:o/n?x"])
def test_names_that_are_none(source: str) -> None:
    with pytest.raises(BadRequest):
        repository(source, "https://hub", False)


@pytest.fixture
async def mirror(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Mirror]:
    monkeypatch.setenv("no_proxy", "*")
    async with serving(b"GGUF") as running:
        yield running


def fill(mirror: Mirror, tree: Any) -> Repository:
    mirror.pages["/api/models/o/n"] = {"siblings": [{"rfilename": name} for name in FILES]}
    mirror.pages["/api/models/o/n/tree/main"] = tree
    return Repository(mirror.base, "o", "n", "Q4_K_M")


def row(digest: str) -> dict[str, object]:
    return {
        "type": "file",
        "path": "tiny-Q4_K_M.gguf",
        "size": 130,
        "lfs": {"oid": digest, "size": 4, "pointerSize": 130},
    }


async def test_length_and_digest_are_those_of_lfs(mirror: Mirror) -> None:
    repo = fill(mirror, [{"path": "README.md"}, row("a" * 64)])
    wanted = await asyncio.to_thread(locate, Web(), repo)
    assert (wanted.size, wanted.sha256, wanted.file) == (4, "a" * 64, "tiny-Q4_K_M.gguf")
    assert wanted.url == f"{mirror.base}/o/n/resolve/main/tiny-Q4_K_M.gguf"
    with pytest.raises(DigestMismatch, match="nothing was fetched"):
        await asyncio.to_thread(locate, Web(), repo, "b" * 64)


async def test_a_file_in_a_folder(mirror: Mirror) -> None:
    repo = fill(mirror, [])
    mirror.pages["/api/models/o/n/tree/main/BF16"] = [{**row("a" * 64), "path": "BF16/tiny.BF16.gguf"}]
    wanted = await asyncio.to_thread(locate, Web(), Repository(repo.base, "o", "n", "BF16"))
    assert wanted.url == f"{mirror.base}/o/n/resolve/main/BF16/tiny.BF16.gguf"
    assert (wanted.file, wanted.sha256) == ("tiny.BF16.gguf", "a" * 64)


@pytest.mark.parametrize("tree", [[], [{"path": "tiny-Q4_K_M.gguf"}], [row("no digest")], [None, 3]])
async def test_a_repository_may_promise_nothing(mirror: Mirror, tree: list[Any]) -> None:
    assert (await asyncio.to_thread(locate, Web(), fill(mirror, tree))).sha256 == ""


@pytest.mark.parametrize("page", [[], {}, {"siblings": 3}, "text", None])
async def test_another_server_is_told_from_a_repository(mirror: Mirror, page: object) -> None:
    mirror.pages["/api/models/o/n"] = page
    with pytest.raises(DownloadRefused):
        await asyncio.to_thread(locate, Web(), Repository(mirror.base, "o", "n"))


async def test_no_such_repository(mirror: Mirror) -> None:
    with pytest.raises(NotFound):
        await asyncio.to_thread(locate, Web(), Repository(mirror.base, "o", "n"))


async def test_a_token_goes_home_only(mirror: Mirror) -> None:
    """The other port is another host to it, though the redirect comes from home; and back home it is sent again."""
    async with serving(b"GGUF") as other:
        mirror.faults = [Fault(location=other.url)]
        other.faults = [Fault(location=f"{mirror.base}/back.gguf")]
        web = Web(mirror.base, "hf_secret")
        (await asyncio.to_thread(web.open, mirror.url)).close()
        assert [headers.get("Authorization") for _, headers in mirror.asked] == ["Bearer hf_secret"] * 2
        assert [headers.get("Authorization") for _, headers in other.asked] == [None]


async def test_a_token_goes_over_nothing_that_can_be_listened_to(mirror: Mirror) -> None:
    """A name that only this machine resolves, by a proxy that sees what would go over the network."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("no_proxy")
        patch.setenv("http_proxy", mirror.base)
        web = Web("http://mirror.lan", "hf_secret")
        (await asyncio.to_thread(web.open, "http://mirror.lan/a.gguf")).close()
    assert [headers.get("Authorization") for _, headers in mirror.asked] == [None]
