"""Groups for workers on a pretended cgroup v2 tree: this machine has no v2 memory controller to make real ones with."""

from __future__ import annotations

from pathlib import Path

import pytest

from edged.device.cgroups import Cgroup
from edged.device.walls import Walls

PID = 4711


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A delegated group with one process; its files are plain ones."""
    (tmp_path / "cgroup.procs").write_text(f"{PID}\n")
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids\n")
    (tmp_path / "cgroup.subtree_control").write_text("")
    return tmp_path


def test_the_daemon_moves_into_a_leaf(base: Path) -> None:
    walls = Walls.delegated(Cgroup(2, (base,)), PID)
    assert walls is not None
    assert walls.own == base / "daemon"
    assert (walls.own / "cgroup.procs").read_text() == str(PID)
    assert (base / "cgroup.subtree_control").read_text() == "+memory"


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("cgroup.procs", f"{PID}\n1\n"),  # a shell's group
        ("cgroup.controllers", "cpu pids\n"),
        ("cgroup.procs", "1\n"),
    ],
)
def test_what_is_not_ours_is_left_alone(base: Path, file: str, text: str) -> None:
    (base / file).write_text(text)
    assert Walls.delegated(Cgroup(2, (base,)), PID) is None
    assert not (base / "daemon").exists()
    assert (base / "cgroup.subtree_control").read_text() == ""


def test_a_refusal_half_way_moves_back(base: Path) -> None:
    (base / "cgroup.subtree_control").unlink()
    (base / "cgroup.subtree_control").mkdir()  # whatever is written there fails
    assert Walls.delegated(Cgroup(2, (base,)), PID) is None
    assert (base / "cgroup.procs").read_text() == str(PID)


def test_only_v2_is_taken_over(base: Path, tmp_path: Path) -> None:
    assert Walls.delegated(Cgroup(1, (base,)), PID) is None
    assert Walls.delegated(None, PID) is None
    assert Walls.delegated(Cgroup(2, (tmp_path / "none",)), PID) is None


def test_a_worker_gets_a_group_with_a_limit(base: Path) -> None:
    with Walls(base).around("qwen", 99, 1 << 20) as kills:
        group = base / "worker-qwen-99"
        written = {name: (group / f"{name}").read_text() for name in ("memory.max", "memory.swap.max", "cgroup.procs")}
        assert written == {"memory.max": str(1 << 20), "memory.swap.max": "0", "cgroup.procs": "99"}
        assert kills() == 0
        (group / "memory.events").write_text("max 7\noom_kill 1\n")
        assert kills() == 1
        for file in group.iterdir():  # the kernel's own files do not keep a group from going
            file.unlink()
    assert not group.exists()


def test_without_a_group_the_worker_goes_on(tmp_path: Path) -> None:
    with Walls(tmp_path / "none").around("qwen", 99, 1 << 20) as kills:
        assert kills() == 0
