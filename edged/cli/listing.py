"""What lies in the models folder, as a table and as JSON: variants of one model together, each with what it would take to run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from edged.cli.progress import size
from edged.cli.screen import echo
from edged.cli.show import Column, print_table
from edged.domain.resources import ModelSpec
from edged.engine.checking import need_of, proposed
from edged.engine.shelf import Entry, Shelf, base_of

__all__ = ["Listing"]

_DIGITS: Final = 12


class Listing:
    """`specs` are the configured models by name. Raises `ConfigError` where the folder cannot be read."""

    def __init__(self, shelf: Shelf, specs: Mapping[str, ModelSpec]) -> None:
        self._folder = shelf.folder
        self._rows = [_row(entry, specs) for entry in shelf.entries()]
        self._parts = [{"file": path.name, "bytes": _bytes(path)} for path in shelf.parts()]

    def to_json(self) -> dict[str, Any]:
        return {"models_dir": str(self._folder), "files": self._rows, "parts": self._parts}

    def show(self) -> None:
        good = [row for row in self._rows if not row["fault"]]
        if good:
            print_table("models", _COLUMNS, _headed(good))
        else:
            echo(f"no models in {self._folder}")
        for row in self._rows:
            if row["fault"]:
                echo(f"{row['file']}: cannot be served: {row['fault']}")
        for part in self._parts:
            echo(f"{part['file']}: {size(int(str(part['bytes'])))} of a download or copy that has not ended")


def _row(entry: Entry, specs: Mapping[str, ModelSpec]) -> dict[str, Any]:
    told = {"name": entry.name, "file": entry.path.name, "path": str(entry.path), "fault": entry.fault}
    if entry.facts is None:
        return told
    used = [spec for spec in specs.values() if Path(spec.path).resolve() == entry.path.resolve()]
    spec = used[0] if used else proposed(entry.name, entry.path, entry.facts)
    context = min(spec.context_length, entry.facts.context_length or spec.context_length)
    return {
        **told,
        "base": base_of(entry.facts),
        "quantization": entry.facts.quantization,
        "bytes": entry.facts.file_bytes,
        "trained_context_length": entry.facts.context_length,
        "context_length": entry.facts.context_length if spec.kind == "encoder" else context,
        "digest": entry.digest,
        "need_bytes": need_of(entry.facts, replace(spec, context_length=context)),
        "configured": [f"models.{spec.name}" for spec in used],
    }


def _headed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The model's name stands before the first of its variants only."""
    last, headed = None, []
    for row in rows:
        headed.append({**row, "base": row["base"] if row["base"] != last else " "})
        last = row["base"]
    return headed


def _bytes(path: Path) -> int:
    files = path.iterdir() if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.exists())


_COLUMNS: Final[tuple[Column, ...]] = (
    ("base", lambda row: row["base"]),
    ("name", lambda row: row["name"]),
    ("weights", lambda row: row["quantization"]),
    ("bytes", lambda row: size(row["bytes"])),
    ("context", lambda row: f"{row['context_length']} of {row['trained_context_length']}"),
    ("digest", lambda row: row["digest"][:_DIGITS]),
    ("needs", lambda row: size(row["need_bytes"])),
    ("configured as", lambda row: ", ".join(row["configured"])),
)
