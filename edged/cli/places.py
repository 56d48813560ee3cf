"""Where things are when nobody says so, and the exit statuses. Stdlib only: `edged run` reads it before anything else."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

__all__ = ["CONFIG", "FAILED", "INTERRUPTED", "TEMPORARY", "UNREACHABLE", "config_folder", "socket_path"]

# From sysexits.h, so that scripts and systemd can tell what to do next.
FAILED: Final = 1
UNREACHABLE: Final = 69
TEMPORARY: Final = 75
CONFIG: Final = 78
INTERRUPTED: Final = 130


def socket_path(environ: Mapping[str, str] = os.environ, here: Path = Path()) -> Path:
    """$EDGED_SOCKET, else the service's runtime folder, else ./.run/edged.sock if it is there, else the system's."""
    if named := environ.get("EDGED_SOCKET"):
        return Path(named)
    if folder := environ.get("RUNTIME_DIRECTORY"):
        return Path(folder) / "edged.sock"
    local = here / ".run" / "edged.sock"
    return local if local.exists() else Path("/run/edged/edged.sock")


def config_folder(environ: Mapping[str, str] = os.environ, here: Path = Path()) -> Path:
    """$EDGED_CONFIG, else the service's configuration folder, else ./config if it holds one, else the system's."""
    if named := environ.get("EDGED_CONFIG"):
        return Path(named)
    if folder := environ.get("CONFIGURATION_DIRECTORY"):
        return Path(folder)
    local = here / "config"
    return local if (local / "edged.toml").is_file() else Path("/etc/edged")
