"""Repositories of models in the manner of Hugging Face: which file is meant, where it is, and what it must be.

`GET BASE/api/models/OWNER/NAME` lists the files, `.../tree/main` tells length and sha256 of those in LFS, the file itself is at
BASE/OWNER/NAME/resolve/main/FILE. Any server that answers these three will do.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlsplit

from edged.cli.download import Wanted
from edged.cli.web import Web, shown
from edged.domain.errors import BadRequest, DigestMismatch, DownloadRefused, EdgedError, NotAModel, NotFound

__all__ = ["HUB", "Repository", "choose", "locate", "repository"]

HUB: Final = "https://huggingface.co"
_PART: Final = r"[A-Za-z0-9][A-Za-z0-9_.-]*"
_SPLIT: Final = re.compile(r"-\d{5}-of-\d{5}\.gguf$", re.IGNORECASE)
_WEIGHTS: Final = re.compile(r"[-_.]((?:i?q\d\w*|bf16|f16|f32|fp16))\.gguf$", re.IGNORECASE)
_TOLD: Final = 12


@dataclass(frozen=True, slots=True)
class Repository:
    """`wish` is a file's path, a quantization such as "Q4_K_M", or empty."""

    base: str
    owner: str
    name: str
    wish: str = ""

    @property
    def path(self) -> str:
        return f"{self.owner}/{self.name}"


def repository(source: str, endpoint: str, is_repo: bool) -> Repository | None:
    """What `source` names, or None for a plain URL. Raises `BadRequest`."""
    if source.startswith("hf:"):
        found = re.fullmatch(rf"({_PART})/({_PART})(?::(.+))?", source.removeprefix("hf:"))
        base = endpoint
    elif is_repo:
        parts = urlsplit(source)
        found = re.fullmatch(rf"/({_PART})/({_PART})/?(?::(.+))?", parts.path)
        base = f"{parts.scheme}://{parts.netloc}"
    else:
        return None
    if not found:
        raise BadRequest(
            f"{shown(source)}: not a repository; give hf:OWNER/NAME[:FILE], or https://HOST/OWNER/NAME --repo"
        )
    return Repository(base.rstrip("/"), found[1], found[2], found[3] or "")


def locate(web: Web, repo: Repository, sha256: str = "") -> Wanted:
    """The file that is meant, with its length and digest where the repository tells them. Raises as `Web.json` and `choose` do,
    and DigestMismatch where `sha256` is not what it tells."""
    told = web.json(f"{repo.base}/api/models/{repo.path}")
    rows = told.get("siblings") if isinstance(told, Mapping) else None
    names = [str(row["rfilename"]) for row in _rows(rows, repo) if "rfilename" in row]
    file = choose(names, repo.wish)
    size, digest = _promised(web, repo, file)
    if sha256 and digest and sha256 != digest:
        raise DigestMismatch(f"{repo.path}: {file} is sha256 {digest} there, not {sha256}; nothing was fetched")
    return Wanted(
        f"{repo.base}/{repo.path}/resolve/main/{quote(file)}", file.rpartition("/")[2], sha256 or digest, size
    )


def choose(names: Sequence[str], wish: str) -> str:
    """The one file that is meant. Raises `NotFound`, `BadRequest` where several could be, `NotAModel` for one in pieces."""
    models = [name for name in names if name.lower().endswith(".gguf") and "mmproj" not in name.lower()]
    meant = [name for name in models if not wish or _is_meant(name, wish)] if wish not in names else [wish]
    whole = [name for name in meant if not _SPLIT.search(name)]
    if len(whole) == 1:
        return whole[0]
    raise _unclear(models, meant, whole, wish)


def _is_meant(name: str, wish: str) -> bool:
    """By the quantization at its end."""
    plain = _SPLIT.sub(".gguf", name)
    return plain.lower().endswith(tuple(f"{mark}{wish.lower()}.gguf" for mark in "-_./"))


def _unclear(models: list[str], meant: list[str], whole: list[str], wish: str) -> EdgedError:
    if not models:
        return NotFound("there is no GGUF file in that repository; look for one whose name ends in GGUF")
    if meant and not whole:
        return NotAModel(f"{meant[0]} is one of several files of a model; edged serves models of one file")
    choices = sorted({found[1] if (found := _WEIGHTS.search(name)) else name for name in models})
    more = ", ..." if len(choices) > _TOLD else ""
    listed = ", ".join(choices[:_TOLD]) + more
    if not whole:
        return NotFound(f"there is no {wish} in that repository; there are: {listed}")
    return BadRequest(f"several files could be meant; add one of these after a colon: {listed}")


def _promised(web: Web, repo: Repository, file: str) -> tuple[int | None, str]:
    """Bytes and sha256, of its folder's listing; None and "" for a file that is not in LFS."""
    folder = file.rpartition("/")[0]
    below = f"/{quote(folder)}" if folder else ""
    tree = web.json(f"{repo.base}/api/models/{repo.path}/tree/main{below}")
    row = next((row for row in _rows(tree, repo) if row.get("path") == file), {})
    lfs = row.get("lfs")
    if not isinstance(lfs, Mapping):
        return None, ""
    size, digest = lfs.get("size"), str(lfs.get("oid", "")).removeprefix("sha256:").lower()
    return size if isinstance(size, int) else None, digest if re.fullmatch("[0-9a-f]{64}", digest) else ""


def _rows(rows: Any, repo: Repository) -> list[Mapping[str, Any]]:
    if not isinstance(rows, list):
        raise DownloadRefused(
            f"{repo.base}: the answer is not that of a repository of models; mend --endpoint or HF_ENDPOINT"
        )
    return [row for row in rows if isinstance(row, Mapping)]
