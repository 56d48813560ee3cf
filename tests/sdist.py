"""Real chat templates and tokenizers: those of the llama.cpp tree inside llama-cpp-python's sdist, which pip fetches once."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import tempfile
from functools import cache
from importlib.metadata import version
from pathlib import Path

__all__ = ["TIMEOUT", "models", "template", "templates", "vocabulary"]

TIMEOUT = 900  # seconds for a test that may be the first to fetch: pip builds the sdist's metadata
_RUN = Path(__file__).parent.parent / ".run"
_NAME = f"llama_cpp_python-{version('llama-cpp-python')}"
_MODELS = Path(_NAME) / "vendor" / "llama.cpp" / "models"


@cache
def models() -> Path:
    """The folder `models` of the tree. The benchmark's copy will do, if there is one."""
    found = next((path for room in ("sdist", "bench/engine") if (path := _RUN / room / _MODELS).is_dir()), None)
    return found if found is not None else _fetched(_RUN / "sdist")


def templates() -> list[Path]:
    return sorted((models() / "templates").glob("*.jinja"))


def template(name: str) -> str:
    return (models() / "templates" / f"{name}.jinja").read_text()


def vocabulary(name: str) -> Path:
    """A GGUF file with a tokenizer and no weights."""
    return models() / f"ggml-vocab-{name}.gguf"


def _fetched(room: Path) -> Path:
    """Unpacked beside its place and moved there whole: a run that is cut short leaves nothing half done."""
    room.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=room) as scratch:
        folder = Path(scratch)
        download = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--disable-pip-version-check",
            "--no-deps",
            "-q",
            "-d",
            scratch,
        ]
        package = f"llama-cpp-python=={version('llama-cpp-python')}"
        subprocess.run([*download, "--no-binary", "llama-cpp-python", package], check=True)
        with tarfile.open(folder / f"{_NAME}.tar.gz") as archive:
            wanted = [member for member in archive if Path(member.name).is_relative_to(_MODELS)]
            archive.extractall(folder, wanted, filter="data")
        shutil.rmtree(room / _NAME, ignore_errors=True)
        (folder / _NAME).rename(room / _NAME)
    return room / _MODELS
