"""What a plugin child really has: the kernel's view of a running one, and its environment from inside."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes import WILD, host, plugin

from edged.domain.messages import ToolCall
from edged.tools.sandbox import environment, observe


async def test_the_fence_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOUD_API_KEY", "secret")
    plugins = plugin(tmp_path / "plugins", "wild", WILD, "memory_mb = 128\n")
    async with host(plugins, tmp_path / "state") as running:
        inside = await running.call(ToolCall("c", "where", {}), request_id="r")
        seen = running.status()[0]["sandbox"]
    assert inside.ok and "secret" not in inside.content["env"].values()
    assert inside.content["cwd"] == str(tmp_path / "state" / "plugins" / "wild")
    assert len(inside.content["fds"]) == 5  # the standard three, the socket, and the listing itself
    assert seen["no_new_privs"] is True and seen["capabilities"] == 0
    assert seen["limits"] == {"data": str(128 << 20), "files": "64", "file_size": str(64 << 20), "core": "0"}
    assert seen["own_network"] is False  # said as it is


def test_observe_of_a_process_that_is_gone_is_empty() -> None:
    assert observe(2**22 + 1) == {}


def test_environment_keeps_only_what_is_listed(tmp_path: Path) -> None:
    made = environment(tmp_path, {"PATH": "/bin", "AWS_SECRET": "x", "HTTP_PROXY": "y", "TZ": "UTC"})
    assert {"AWS_SECRET", "HTTP_PROXY"}.isdisjoint(made) and made["TZ"] == "UTC" and made["HOME"] == str(tmp_path)
