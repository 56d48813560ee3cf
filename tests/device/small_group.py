"""A real control group of cgroup v1 below our own, where this machine lets us make one; kernels with v2 alone test on trees."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from edged.device.cgroups import Cgroup


@contextlib.contextmanager
def small_group(size: int) -> Iterator[Path]:
    """A folder to whose cgroup.procs children may write themselves; they must have ended when it is left."""
    own = Cgroup.own()
    if own is None or own.version != 1 or not os.access(own.path, os.W_OK):
        pytest.skip("no memory controller of cgroup v1 in which groups may be made")
    group = own.path / f"edged-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(size))
    except OSError as error:
        with contextlib.suppress(OSError):
            group.rmdir()
        pytest.skip(f"a group may not be made here: {error}")
    try:
        yield group
    finally:
        group.rmdir()
