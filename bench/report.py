"""The one shape of every bench's outcome: a table for people, and with `--json` a last line for machines."""

from __future__ import annotations

import json
import operator
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

__all__ = ["Bar", "Reported", "show"]

_OPERATORS: dict[str, Callable[[float, float], bool]] = {">=": operator.ge, "<=": operator.le, "==": operator.eq}


@dataclass(frozen=True, slots=True)
class Bar:
    """A figure that an issue names, and its limit."""

    name: str
    value: float
    op: Literal[">=", "<=", "=="]
    limit: float

    @property
    def holds(self) -> bool:
        return _OPERATORS[self.op](self.value, self.limit)


@dataclass(frozen=True, slots=True)
class Reported:
    """A figure without a limit."""

    name: str
    value: Any


def show(bench: str, bars: Sequence[Bar], reported: Sequence[Reported] = (), *, as_json: bool = False) -> None:
    """Print the table, and the JSON line if wanted."""
    width = max(len(name) for name in [bar.name for bar in bars] + [row.name for row in reported])
    for bar in bars:
        value = f"{bar.value:.4g}"
        print(f"{bar.name:<{width}}  {value:>10}  {bar.op} {bar.limit:<8g} {'holds' if bar.holds else 'FAILS'}")
    for row in reported:
        print(f"{row.name:<{width}}  {row.value if not isinstance(row.value, float) else format(row.value, '.4g'):>10}")
    if as_json:
        rows = [{**asdict(bar), "holds": bar.holds} for bar in bars]
        extra = {row.name: row.value for row in reported}
        print(json.dumps({"bench": bench, "bars": rows, "reported": extra, "machine": machine()}), flush=True)


def machine() -> dict[str, Any]:
    """Enough to judge a figure by; nothing that names the machine."""
    flags: set[str] = set()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(("flags", "Features")):
            flags = set(line.partition(":")[2].split())
            break
    wide = [f for f in ("avx2", "avx512f", "avx512_bf16", "amx_tile", "asimd", "sve") if f in flags]
    return {"arch": platform.machine(), "cores": os.cpu_count(), "cpu": wide, "python": platform.python_version()}
