"""A disk that is really full: a tmpfs of 5 MB, in a user namespace of the test's own."""

from __future__ import annotations

import asyncio
import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]


def in_namespace(command: str) -> list[str]:
    return ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", command]


def can_mount(folder: Path) -> bool:
    if shutil.which("unshare") is None:
        return False
    command = in_namespace(f"mount -t tmpfs none {shlex.quote(str(folder))}")
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


async def test_accepted_work_finishes_on_a_full_disk(tmp_path: Path) -> None:
    if not can_mount(tmp_path):
        pytest.skip("user namespaces are off: no tmpfs to fill")
    folder, python = shlex.quote(str(tmp_path)), shlex.quote(sys.executable)
    child = await asyncio.create_subprocess_exec(
        *in_namespace(f"mount -t tmpfs -o size=5m none {folder} && {python} -m store.full_child {folder}"),
        cwd=TESTS,
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await child.communicate()
    assert child.returncode == 0
    found = json.loads(said)
    assert found["accepted"] > 50
    assert found == {
        "accepted": found["accepted"],
        "lean": True,
        "finished": found["accepted"],
        "set_aside": "None",
        "ballast_spent": True,
        "then": "new",
        "ballast_made": 1 << 20,
    }
