"""Groups as machines have them: recorded trees of v1 and v2, and a real one where it may be made."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from edged.device.cgroups import Cgroup, Level

from .small_group import small_group

MIB = 1 << 20
V1_NONE = "9223372036854771712"


class Tree:
    """A /proc and a mounted hierarchy in tmp_path; texts as the kernel writes them."""

    def __init__(self, root: Path) -> None:
        self.proc, self.mount = root / "proc", root / "sys fs" / "cgroup"
        self.mount.mkdir(parents=True)
        (self.proc / "self").mkdir(parents=True)

    def lives_in(self, cgroups: str, *, kind: str = "cgroup2", options: str = "rw", root: str = "/") -> Cgroup | None:
        point = str(self.mount).replace(" ", "\\040")
        mounts = f"23 1 8:1 / / rw - ext4 /dev/sda1 rw\n31 23 0:26 {root} {point} rw,nosuid shared:9 - {kind} cgroup {options}\n"
        (self.proc / "self/mountinfo").write_text(mounts)
        (self.proc / "self/cgroup").write_text(cgroups)
        return Cgroup.own(self.proc)

    def group(self, path: str, **files: object) -> Path:
        folder = self.mount / path
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name.replace("__", ".")).write_text(f"{text}\n")
        return folder


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_the_levels_go_up_to_the_mount(tree: Tree) -> None:
    own = tree.lives_in("0::/system.slice/edged.service\n")
    assert own is not None
    names = ["system.slice/edged.service", "system.slice", ""]
    assert own == Cgroup(2, tuple(tree.mount / name for name in names))


def test_v2_files_are_reclaimable_and_swap_is_told_apart(tree: Tree) -> None:
    own = tree.lives_in("0::/a\n")
    stat = f"anon {100 * MIB}\nfile {60 * MIB}\ninactive_file {30 * MIB}\nactive_file {20 * MIB}\nshmem {10 * MIB}"
    swap = {"memory__swap__current": 7 * MIB}
    group = tree.group("a", memory__max=512 * MIB, memory__current=170 * MIB, memory__stat=stat, **swap)
    assert own is not None
    assert own.tightest() == Level(group, 512 * MIB, 120 * MIB, 50 * MIB, 7 * MIB)


def test_v1_counts_its_children_too(tree: Tree) -> None:
    own = tree.lives_in("5:memory:/a\n0::/\n", kind="cgroup", options="rw,memory")
    stat = f"inactive_file 1\nactive_file 1\nswap 1\ntotal_inactive_file {8 * MIB}\ntotal_active_file {2 * MIB}\ntotal_swap 4096"
    group = tree.group("a", memory__limit_in_bytes=64 * MIB, memory__usage_in_bytes=50 * MIB, memory__stat=stat)
    assert own is not None
    assert own.tightest() == Level(group, 64 * MIB, 40 * MIB, 10 * MIB, 4096)


# (name, {group: (max, high, current)}, the group that binds, what is free there)
NESTED: list[tuple[str, dict[str, tuple[object, object, int]], str | None, int]] = [
    ("nothing is limited", {"a/b": ("max", "max", 5), "a": ("max", "max", 9)}, None, 0),
    ("the own", {"a/b": (100, "max", 40), "a": (1000, "max", 50)}, "a/b", 60),
    ("one above", {"a/b": ("max", "max", 40), "a": (1000, "max", 500)}, "a", 500),
    ("a larger limit with less left", {"a/b": (100, "max", 10), "a": (200, "max", 150)}, "a", 50),
    ("high is a limit", {"a/b": (100, 70, 40), "a": ("max", "max", 50)}, "a/b", 30),
    ("high above max", {"a/b": (100, 170, 40), "a": ("max", "max", 50)}, "a/b", 60),
    ("passed", {"a/b": ("max", 70, 90), "a": ("max", "max", 90)}, "a/b", -20),
]


@pytest.mark.parametrize(("groups", "binds", "free"), [row[1:] for row in NESTED], ids=[row[0] for row in NESTED])
def test_what_binds_is_the_level_with_the_least_left(
    tree: Tree, groups: dict[str, tuple[object, object, int]], binds: str | None, free: int
) -> None:
    own = tree.lives_in("0::/a/b\n")
    for path, (limit, high, current) in groups.items():
        tree.group(path, memory__max=limit, memory__high=high, memory__current=current)
    assert own is not None
    level = own.tightest()
    assert (level and level.path, level.free if level else 0) == (binds and tree.mount / binds, free)


def test_v1_without_a_limit(tree: Tree) -> None:
    own = tree.lives_in("5:memory:/a\n", kind="cgroup", options="rw,memory")
    tree.group("a", memory__limit_in_bytes=V1_NONE, memory__usage_in_bytes=50, memory__stat="total_swap 0")
    assert own is not None
    assert own.tightest() is None


def test_a_container_is_shown_its_own_group_as_the_root(tree: Tree) -> None:
    tree.group("", memory__limit_in_bytes=100, memory__usage_in_bytes=50)
    docker = "5:memory:/docker/4f1e\n"
    own = tree.lives_in(docker, kind="cgroup", options="rw,memory", root="/docker/4f1e")
    assert own == Cgroup(1, (tree.mount,))
    assert (level := own.tightest()) is not None
    assert level.free == 50
    private = tree.lives_in("0::/\n")
    assert private == Cgroup(2, (tree.mount,))
    outside = tree.lives_in("0::/../../system.slice\n")
    assert outside == Cgroup(2, (tree.mount,))
    namesake = tree.lives_in("5:memory:/docker/4f1e99\n", kind="cgroup", options="rw,memory", root="/docker/4f1e")
    assert namesake == Cgroup(1, (tree.mount,))


@pytest.mark.parametrize(
    ("cgroups", "kind", "options"),
    [
        ("5:memory:/a\n0::/\n", "cgroup", "rw,cpu"),  # v1 has it, and it is not mounted
        ("4:cpu,cpuacct:/\n", "cgroup2", "rw"),  # nobody accounts for memory
        ("", "cgroup2", "rw"),
        ("rubbish\n", "cgroup2", "rw"),
    ],
)
def test_no_controller(tree: Tree, cgroups: str, kind: str, options: str) -> None:
    assert tree.lives_in(cgroups, kind=kind, options=options) is None


def test_no_proc(tmp_path: Path) -> None:
    assert Cgroup.own(tmp_path) is None


def test_v2_without_the_controller_limits_and_counts_nothing(tree: Tree) -> None:
    own = tree.lives_in("0::/a\n")
    tree.group("a")
    assert own is not None
    assert (own.tightest(), own.oom_kills()) == (None, None)


def test_kills_are_counted(tree: Tree) -> None:
    v2 = tree.lives_in("0::/a\n")
    tree.group("a", memory__events="low 0\nhigh 12\nmax 30\noom 4\noom_kill 3\noom_group_kill 0")
    assert v2 is not None
    assert v2.oom_kills() == 3
    v1 = tree.lives_in("5:memory:/a\n", kind="cgroup", options="rw,memory")
    tree.group("a", memory__oom_control="oom_kill_disable 0\nunder_oom 0\noom_kill 2")
    assert v1 is not None
    assert v1.oom_kills() == 2


CHILD = """
import os, pathlib, signal, sys
from edged.device.cgroups import Cgroup
pathlib.Path(sys.argv[1], "cgroup.procs").write_text(str(os.getpid()))
own = Cgroup.own()
level = own.tightest()
print(level.path.name, level.limit, 0 < level.used < level.limit, own.oom_kills())
if (pid := os.fork()) == 0:
    pathlib.Path("/proc/self/oom_score_adj").write_text("1000")
    bytearray(2 * level.limit)[::4096] = b"x" * (level.limit // 2048)
    os._exit(0)
_, status = os.waitpid(pid, 0)
print(os.WTERMSIG(status) == signal.SIGKILL, own.oom_kills())
"""


async def test_a_real_limit_is_found_and_a_real_kill_is_counted() -> None:
    with small_group(48 * MIB) as group:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", CHILD, str(group), stdout=asyncio.subprocess.PIPE
        )
        told, _ = await child.communicate()
    assert told.decode().splitlines() == [f"{group.name} {48 * MIB} True 0", "True 1"]
