"""The way in: `run` without click, usage, where things are, and the exit statuses of `check`."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import pytest

from edged.cli.check import explain
from edged.cli.places import config_folder, socket_path
from edged.domain.errors import ConfigError

from .conftest import Command

GOOD = '[device]\nid = "demo"\nstate_dir = "state"\n[http]\nsocket = "s"\n[mqtt]\nenabled = false\n[agents.desk]\n'


def write(folder: Path, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "edged.toml").write_text(text)
    return folder


async def test_run_imports_neither_click_nor_rich(edged: Command) -> None:
    folder = write(edged.folder / "bad", "wrong = 1")
    code = (
        "import sys; from edged.cli.main import main; status = main(['run', '--config', sys.argv[1]]);"
        "assert 'edged.daemon' in sys.modules and not {'click', 'rich'} & set(sys.modules); sys.exit(status)"
    )
    command = [sys.executable, "-c", code, str(folder)]
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec(*command, env=edged.environment, cwd=edged.folder, stderr=pipe)
    _, err = await child.communicate()
    assert (child.returncode, b"Traceback" in err, b"wrong" in err) == (78, False, True)


async def test_run_is_the_daemon_and_the_other_commands_reach_it(edged: Command) -> None:
    folder = write(edged.folder / "config", GOOD)
    daemon = await edged.start("run", "--config", folder)
    assert daemon.stderr is not None
    try:
        while b"ready" not in (line := await daemon.stderr.readline()):
            assert line, "the daemon ended before it was ready"
        seen = await edged("agents", "--socket", folder / "s")
    finally:
        daemon.send_signal(signal.SIGTERM)
        await daemon.communicate()
    assert (seen.status, seen.out.split()[5]) == (0, "desk")
    assert daemon.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "status"), [((), 2), (("nonsense",), 2), (("ask", "desk"), 2), (("run", "--nonsense"), 2)]
)
async def test_usage(edged: Command, arguments: tuple[str, ...], status: int) -> None:
    ran = await edged(*arguments)
    assert (ran.status, ran.out) == (status, "")
    assert "usage:" in ran.err.lower()


async def test_help_and_version(edged: Command) -> None:
    listed = await edged("--help")
    assert listed.status == 0
    assert {"run", "ask", "chat", "ticket", "status", "agents", "models", "check", "doctor"} <= set(listed.out.split())
    assert (await edged("run", "--help")).out.startswith("usage: edged run")
    assert (await edged("--version")).out.startswith("edged 0.")


async def test_without_click_the_command_says_what_to_install(edged: Command) -> None:
    write(edged.folder, "")
    (edged.folder / "click.py").write_text("raise ImportError('not here')")
    edged.environment["PYTHONPATH"] = f"{edged.folder}:{edged.environment['PYTHONPATH']}"
    ran = await edged("status")
    assert (ran.status, ran.err) == (1, "edged: this command needs click and rich: pip install 'edged[cli]'\n")


@pytest.mark.parametrize(
    ("environ", "there", "expected"),
    [
        ({"EDGED_SOCKET": "/a", "RUNTIME_DIRECTORY": "/b"}, True, "/a"),
        ({"RUNTIME_DIRECTORY": "/b"}, True, "/b/edged.sock"),
        ({}, True, "{here}/.run/edged.sock"),
        ({}, False, "/run/edged/edged.sock"),
    ],
)
def test_where_the_socket_is(tmp_path: Path, environ: dict[str, str], there: bool, expected: str) -> None:
    if there:
        (tmp_path / ".run").mkdir()
        (tmp_path / ".run" / "edged.sock").touch()
    assert str(socket_path(environ, tmp_path)) == expected.format(here=tmp_path)


@pytest.mark.parametrize(
    ("environ", "there", "expected"),
    [
        ({"EDGED_CONFIG": "/a", "CONFIGURATION_DIRECTORY": "/b"}, True, "/a"),
        ({"CONFIGURATION_DIRECTORY": "/b"}, True, "/b"),
        ({}, True, "{here}/config"),
        ({}, False, "/etc/edged"),
    ],
)
def test_where_the_configuration_is(tmp_path: Path, environ: dict[str, str], there: bool, expected: str) -> None:
    if there:
        write(tmp_path / "config", "")
    assert str(config_folder(environ, tmp_path)) == expected.format(here=tmp_path)


async def test_check_of_a_good_configuration(edged: Command) -> None:
    folder = write(edged.folder / "config", GOOD)
    ran = await edged("check")
    assert (ran.status, ran.err) == (0, "")
    assert ran.out == "ok: config: device demo, 1 agents, 2 models, mqtt off, cloud none\n"
    assert list(folder.iterdir()) == [folder / "edged.toml"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[device]\nid = 3", ("edged.toml", "device.id", "expected:")),
        ("[device]\nspeed = 3", ("edged.toml", "device.speed", "state_dir")),
        ("[device\nid = 3", ("edged.toml:1", "expected: valid TOML")),
        ('[agents.desk]\nmodel = "none"', ("agents.desk.model", "'none'", "bundled")),
    ],
)
async def test_check_tells_where_and_what_would_be_right(edged: Command, text: str, told: tuple[str, ...]) -> None:
    ran = await edged("check", write(edged.folder / "c", text))
    assert (ran.status, ran.out) == (78, "")
    for part in told:
        assert part in ran.err
    assert ran.err.count("edged.toml") == 1


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[models.big]\npath = "big.gguf"', ("models.big.path", "there is no", "c/big.gguf")),
        ('[models.ears]\nkind = "encoder"\npath = "/nowhere"', ("models.ears.path", "/nowhere")),
        ('[mqtt]\npassword_file = "secret"', ("mqtt.password_file", "c/secret")),
        ('[agents.desk]\ntools = ["kisok.*", "now"]', ("agents.desk.tools", "no plugin kisok", "did you mean kiosk?")),
        ('[agents.desk]\ntools = ["weather.now"]', ("no plugin weather", "there are: kiosk")),
    ],
)
async def test_check_looks_for_what_is_named(edged: Command, text: str, told: tuple[str, ...]) -> None:
    folder = write(edged.folder / "c", text)
    plugin = folder / "plugins" / "kiosk"
    plugin.mkdir(parents=True)
    (plugin / "plugin.toml").write_text('module = "kiosk"\n')
    (plugin / "kiosk.py").write_text("")
    ran = await edged("check", folder)
    assert (ran.status, ran.out, ran.err.count("\n")) == (78, "", 1)
    for part in told:
        assert part in ran.err
    assert (await edged("check", folder, "--elsewhere")).status == 0


async def test_check_of_nothing(edged: Command) -> None:
    ran = await edged("check", "nowhere")
    assert (ran.status, ran.err.count("\n")) == (78, 2)


def test_an_error_with_nothing_but_a_sentence() -> None:
    assert explain(ConfigError("All is wrong.")) == "All is wrong."
    assert explain(ConfigError("x.toml: k: bad", file="x.toml", key="k", line=3)) == "x.toml:3: k: bad"
