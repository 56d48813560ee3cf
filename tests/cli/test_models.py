"""The commands around the models folder, as a person or a script calls them: what is said, what is left, how they exit."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shlex
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from engine.test_encoders import encoder
from store.test_full import can_mount, in_namespace
from workers.tiny_gguf import write

from edged.engine.copying import copy_file, copy_folder
from edged.fleet.settings import load

from .conftest import Api, Command, Ran
from .mirror import Fault, Mirror, serving


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("model") / "tiny.gguf")


@pytest.fixture
async def mirror(tiny: Path) -> AsyncIterator[Mirror]:
    async with serving(read(tiny)) as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path, edged: Command) -> Path:
    """The models folder of a configuration that every command finds."""
    config = tmp_path / "config"
    config.mkdir()
    (config / "edged.toml").write_text('[device]\nstate_dir = "../state"\n')
    edged.environment |= {"EDGED_CONFIG": str(config), "no_proxy": "*", "EDGED_SOCKET": str(tmp_path / "none")}
    return tmp_path / "state" / "models"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def read(path: Path) -> bytes:
    return path.read_bytes()


def put(path: Path, data: bytes | bytearray | str = b"", *, more: bool = False) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab" if more else "wb") as stream:
        stream.write(data.encode() if isinstance(data, str) else bytes(data))
    return path


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def shelve(folder: Path, source: Path, name: str = "") -> None:
    """What `models add` does, without a child of its own."""
    name = name or source.stem
    if source.is_dir():
        copy_folder(source, folder / name, lambda done, whole: None)
    else:
        copy_file(source, folder / f"{name}.gguf", lambda done, whole: None)


async def grown(part: Path, size: int) -> None:
    """Until the command has written so much."""

    def watch() -> None:
        end = time.monotonic() + 15
        while not part.exists() or part.stat().st_size < size:
            assert time.monotonic() < end, "it has not written so much"
            time.sleep(0.01)

    await asyncio.to_thread(watch)


def failed(ran: Ran, status: int, code: str) -> bool:
    return (ran.status, ran.out, ran.err.splitlines()[-1].partition(":")[0]) == (status, "", code)


# add


async def test_added_models_are_whole_noted_and_can_be_configured(edged: Command, folder: Path, tiny: Path) -> None:
    ran = await edged("models", "add", tiny, "--name", "tiny.v1")
    assert ran.status == 0
    assert read(folder / "tiny.v1.gguf") == read(tiny)
    assert names(folder) == ["tiny.v1.gguf", "tiny.v1.gguf.json"]
    noted = json.loads(read(folder / "tiny.v1.gguf.json").decode())["files"]
    assert noted == {"tiny.gguf": [sha(tiny), len(read(tiny))]}
    config = folder.parents[1] / "config"
    put(config / "conf.d" / "30-models.toml", ran.out)
    spec = load(config).model_specs()["tiny.v1"]
    assert (spec.path, spec.context_length) == (str(folder / "tiny.v1.gguf"), 512)


async def test_an_encoder_is_a_folder(edged: Command, folder: Path, tmp_path: Path) -> None:
    source = encoder(tmp_path / "enc")
    put(source / "notes.txt", "not a part of it")
    ran = await edged("models", "add", source)
    assert (ran.status, names(folder)) == (0, ["enc", "enc.json"])
    assert names(folder / "enc") == ["encoder.onnx", "model.json", "tokenizer.json"]
    assert ran.out == f'[models.encoder]\nkind = "encoder"\npath = "{folder / "enc"}"\n'


async def test_in_place_only_reads(edged: Command, folder: Path, tiny: Path) -> None:
    ran = await edged("models", "add", "--in-place", tiny)
    assert (ran.status, names(folder)) == (0, [])
    assert ran.out == f'[models.tiny]\npath = "{tiny}"\ncontext_length = 512\n'


async def test_a_name_is_taken_by_another_model_only(edged: Command, folder: Path, tiny: Path, tmp_path: Path) -> None:
    first = await edged("models", "add", tiny)
    again = await edged("models", "add", tiny)
    assert (again.status, again.out) == (0, first.out)
    other = write(tmp_path / "tiny.gguf", layers=1)
    assert failed(await edged("models", "add", other), 1, "name_taken")
    assert read(folder / "tiny.gguf") == read(tiny)


async def test_what_is_no_model_is_not_added(edged: Command, folder: Path, tiny: Path, tmp_path: Path) -> None:
    page = put(tmp_path / "page.gguf", "<html>")
    short = put(tmp_path / "short.gguf", read(tiny)[:-5000])
    split = put(tmp_path / "big-00001-of-00002.gguf", read(tiny))
    empty = put(tmp_path / "empty" / "notes.txt").parent
    for source, code in (
        (page, "model_broken"),
        (short, "model_broken"),
        (split, "not_a_model"),
        (empty, "not_a_model"),
    ):
        assert failed(await edged("models", "add", source), 1, code)
    assert failed(await edged("models", "add", tmp_path / "none.gguf"), 1, "model_broken")
    assert names(folder) == []


async def test_a_folder_that_cannot_be_written(edged: Command, tiny: Path, tmp_path: Path) -> None:
    put(tmp_path / "file")
    ran = await edged("models", "add", tiny, "--models-dir", tmp_path / "file" / "models")
    assert failed(ran, 78, "config_error")


# pull


async def test_a_file_is_pulled(edged: Command, folder: Path, mirror: Mirror, tiny: Path) -> None:
    digest = sha(tiny)
    ran = await edged("models", "pull", f"{mirror.url}?signature=secret", "--sha256", digest)
    assert ran.status == 0
    assert ran.out == f'[models.tiny]\npath = "{folder / "tiny.gguf"}"\ncontext_length = 512\n'
    assert names(folder) == ["tiny.gguf", "tiny.gguf.json"]
    assert "secret" not in read(folder / "tiny.gguf.json").decode() + ran.err
    assert f"sha256 {digest} (as promised)" in ran.err
    again = await edged("models", "pull", mirror.url, "--sha256", digest)
    assert (again.status, again.out, len(mirror.asked)) == (0, ran.out, 1)
    assert failed(await edged("models", "pull", mirror.url), 1, "name_taken")


async def test_a_repository_is_pulled_from(edged: Command, folder: Path, mirror: Mirror, tiny: Path) -> None:
    digest = sha(tiny)
    mirror.pages["/api/models/o/n"] = {"siblings": [{"rfilename": f"n-{q}.gguf"} for q in ("Q2_K", "Q8_0")]}
    lfs = {"path": "n-Q8_0.gguf", "lfs": {"oid": digest, "size": len(read(tiny))}}
    mirror.pages["/api/models/o/n/tree/main"] = [lfs]
    edged.environment |= {"HF_ENDPOINT": mirror.base, "HF_TOKEN": "hf_secret"}
    assert failed(await edged("models", "pull", "hf:o/n"), 1, "bad_request")
    ran = await edged("models", "pull", "hf:o/n:q8_0")
    assert (ran.status, names(folder)) == (0, ["n-Q8_0.gguf", "n-Q8_0.gguf.json"])
    assert mirror.asked[-1][0] == "/o/n/resolve/main/n-Q8_0.gguf"
    assert {headers.get("Authorization") for _, headers in mirror.asked} == {"Bearer hf_secret"}
    assert "hf_secret" not in ran.out + ran.err + read(folder / "n-Q8_0.gguf.json").decode()
    lfs["lfs"] = {"oid": "0" * 64, "size": len(read(tiny))}
    del edged.environment["HF_ENDPOINT"]
    ran = await edged("models", "pull", "--repo", f"{mirror.base}/o/n:Q8_0", "--name", "other")
    assert failed(ran, 1, "digest_mismatch")
    assert "Authorization" not in mirror.asked[-1][1]
    assert names(folder) == ["n-Q8_0.gguf", "n-Q8_0.gguf.json"]


async def test_a_kill_in_the_middle_costs_nothing(edged: Command, folder: Path, mirror: Mirror, tiny: Path) -> None:
    mirror.faults = [Fault(hang=200_000)]
    child = await edged.start("models", "pull", mirror.url)
    await grown(folder / "tiny.gguf.part", 200_000)
    busy = await edged("models", "pull", mirror.url)
    assert failed(busy, 75, "busy")
    child.kill()
    await child.communicate()
    listed = await edged("models", "list")
    assert "tiny.gguf.part: 195 KiB" in listed.out
    ran = await edged("models", "pull", mirror.url)
    assert (ran.status, mirror.ranges_asked()) == (0, [None, "bytes=200000-"])
    assert read(folder / "tiny.gguf") == read(tiny)
    assert names(folder) == ["tiny.gguf", "tiny.gguf.json"]


async def test_ctrl_c_keeps_what_came(edged: Command, folder: Path, mirror: Mirror) -> None:
    mirror.faults = [Fault(hang=200_000)]
    child = await edged.start("models", "pull", mirror.url)
    await grown(folder / "tiny.gguf.part", 200_000)
    child.send_signal(signal.SIGINT)
    out, _ = await child.communicate()
    assert (child.returncode, out) == (130, b"")
    assert names(folder) == ["tiny.gguf.part", "tiny.gguf.part.json"]
    assert (await edged("models", "rm", "tiny")).status == 0
    assert names(folder) == []


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        (Fault(status=404), 1, "not_found"),
        (Fault(status=403), 1, "forbidden"),
        (Fault(kind="text/html", body=b"<html>log in"), 1, "not_a_model"),
        (Fault(body=b"GGUF" + bytes(90_000)), 1, "model_broken"),
        (Fault(status=503), 75, "download_interrupted"),
        (Fault(location="/again.gguf"), 1, "download_refused"),
    ],
)
async def test_every_failure_has_a_code_and_a_status(
    edged: Command, folder: Path, mirror: Mirror, fault: Fault, status: int, code: str
) -> None:
    mirror.faults = [fault] * 20
    assert failed(await edged("models", "pull", mirror.url, "--retries", "0"), status, code)
    assert names(folder) == []
    assert (await edged("models", "pull", mirror.url, "--sha256", "abc")).status == 2


async def test_a_disk_that_fills_up_is_left_as_it_was(edged: Command, folder: Path, mirror: Mirror, tiny: Path) -> None:
    """A limit on the size of files stands for a disk that fills up while it is written."""
    command = f"ulimit -f 200; exec {shlex.quote(sys.executable)} -m edged models"
    for what in (f"pull {mirror.url}", f"add {shlex.quote(str(tiny))}"):
        child = await asyncio.create_subprocess_exec(
            "bash", "-c", f"{command} {what}", env=edged.environment, cwd=edged.folder, stderr=asyncio.subprocess.PIPE
        )
        _, said = await child.communicate()
        assert (child.returncode, said.decode().partition(":")[0]) == (75, "disk_full")
        assert names(folder) == []


async def test_a_disk_that_is_too_small_is_not_begun_on(
    edged: Command, folder: Path, mirror: Mirror, tiny: Path, tmp_path: Path
) -> None:
    if not can_mount(tmp_path):
        pytest.skip("user namespaces are off: no tmpfs to fill")
    put(folder / "under the mount")
    there, python = shlex.quote(str(folder)), shlex.quote(sys.executable)
    for what in (f"pull {mirror.url}", f"add {shlex.quote(str(tiny))}"):
        script = f"mount -t tmpfs -o size=30m none {there} && {python} -m edged models {what}; status=$?; ls {there}; exit $status"
        child = await asyncio.create_subprocess_exec(
            *in_namespace(script),
            env=edged.environment,
            cwd=edged.folder,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, said = await child.communicate()
        assert (child.returncode, said.decode().partition(":")[0], out) == (75, "disk_full", b"")
        assert "32 MiB are needed" in said.decode()


async def test_one_of_several_files_is_not_even_begun(edged: Command, folder: Path, mirror: Mirror) -> None:
    ran = await edged("models", "pull", f"{mirror.base}/big-00001-of-00002.gguf")
    assert failed(ran, 1, "not_a_model")
    assert (mirror.asked, names(folder)) == ([], [])


# list


async def test_without_a_daemon_the_folder_is_listed(edged: Command, folder: Path, tiny: Path, tmp_path: Path) -> None:
    shelve(folder, tiny, "tiny-F32")
    small = write(tmp_path / "q2.gguf", general__file_type=10, general__name="tiny-Q2_K")
    other = write(tmp_path / "other.gguf", layers=1, general__name="other")
    for source in (small, other, encoder(tmp_path / "enc")):
        shelve(folder, source)
    put(folder / "broken.gguf", "<html>")
    config = folder.parents[1] / "config"
    put(config / "edged.toml", f'[models.mine]\npath = "{folder / "q2.gguf"}"\ncontext_length = 128\n', more=True)
    ran = await edged("models")
    assert (ran.status, "there is no socket" in ran.err) == (0, True)
    lines = ran.out.splitlines()
    assert lines[0].split() == ["model", "name", "weights", "bytes", "context", "digest", "needs", "configured", "as"]
    assert [line.split()[:2] for line in lines[1:3]] == [["enc", "(encoder,"], ["other", "(llama,"]]
    assert lines[3].startswith("tiny (llama, 2 layers, 64 wide)")
    assert lines[3].split()[6:9] == ["q2", "Q2_K", "428"]
    assert lines[3].split()[10:13] == ["128", "of", "512"]
    assert lines[3].split()[-1] == "models.mine"
    assert lines[4].split()[:2] == ["tiny-F32", "F32"]
    assert lines[5].startswith("broken.gguf: cannot be served: broken.gguf is not a GGUF file")
    told = json.loads((await edged("models", "list", "--json")).out)
    row = next(row for row in told["files"] if row["name"] == "q2")
    assert (row["context_length"], row["bytes"], row["configured"]) == (128, len(read(small)), ["models.mine"])
    assert row["digest"] == sha(small)
    assert row["need_bytes"] > row["bytes"]
    assert "models" not in told


async def test_with_a_daemon_it_is_asked(api: Api, edged: Command, folder: Path, tiny: Path) -> None:
    api.answers({"models": [{"name": "bundled", "state": "cold"}]})
    shelve(folder, tiny)
    for command in (("models",), ("models", "list")):
        ran = await edged(*command, "--socket", api.socket)
        assert (ran.status, ran.err) == (0, "")
        assert [line.split()[0] for line in ran.out.splitlines()] == ["model", "bundled"]
    both = await edged("models", "--files", "--socket", api.socket)
    assert [line.split()[0] for line in both.out.splitlines() if line] == ["model", "bundled", "model", "tiny"]
    told = json.loads((await edged("models", "--files", "--json", "--socket", api.socket)).out)
    assert (told["models"][0]["name"], told["files"][0]["name"]) == ("bundled", "tiny")


async def test_neither_a_daemon_nor_a_configuration(edged: Command, tmp_path: Path) -> None:
    edged.environment |= {"EDGED_CONFIG": str(tmp_path / "none"), "EDGED_SOCKET": str(tmp_path / "none")}
    ran = await edged("models")
    assert (ran.status, ran.out, "there is no socket" in ran.err) == (69, "", True)
    assert (await edged("models", "--files")).status == 78
    assert (await edged("models", "--models-dir", "here")).out == f"no models in {tmp_path / 'here'}\n"


# verify and rm


async def test_verify_tells_what_has_changed(edged: Command, folder: Path, tiny: Path, tmp_path: Path) -> None:
    shelve(folder, tiny)
    shelve(folder, encoder(tmp_path / "enc"))
    assert (await edged("models", "verify")).out == "ok   enc\nok   tiny.gguf\n"
    rotten = bytearray(read(tiny))
    rotten[-77] ^= 1
    put(folder / "tiny.gguf", rotten)
    put(folder / "enc" / "encoder.onnx", b"longer weights")
    ran = await edged("models", "verify")
    assert ran.status == 1
    assert [line.split()[:3] for line in ran.out.splitlines()] == [
        ["bad", "enc:", "length_mismatch:"],
        ["bad", "tiny.gguf:", "digest_mismatch:"],
    ]
    put(folder / "tiny.gguf", rotten[:-5000])
    ran = await edged("models", "verify", "tiny")
    assert [line.split()[2] for line in ran.out.splitlines()] == ["model_broken:", "length_mismatch:"]
    assert failed(await edged("models", "verify", "none"), 1, "not_found")
    assert "no digest was noted" in (await edged("models", "verify", tiny)).out


async def test_rm_spares_what_the_configuration_names(edged: Command, folder: Path, tiny: Path) -> None:
    shelve(folder, tiny)
    config = folder.parents[1] / "config" / "edged.toml"
    named = f'[models.mine]\npath = "{folder / "tiny.gguf"}"\n[agents.desk]\nmodel = "mine"\n'
    put(config, named, more=True)
    ran = await edged("models", "rm", "tiny")
    assert failed(ran, 1, "model_in_use")
    assert "models.mine" in ran.err and "agents.desk" in ran.err
    assert names(folder) == ["tiny.gguf", "tiny.gguf.json"]
    assert (await edged("models", "rm", "tiny", "--force")).out == f"removed {folder / 'tiny.gguf'}\n"
    assert names(folder) == []
    assert failed(await edged("models", "rm", "tiny"), 1, "not_found")
    assert failed(await edged("models", "rm", "../config"), 1, "bad_request")


async def test_a_terminal_gets_a_bar(edged: Command, folder: Path, mirror: Mirror) -> None:
    edged.environment["TERM"] = "xterm-256color"
    mirror.faults = [Fault(hang=200_000)]
    main, side = os.openpty()
    child = await edged.start("models", "pull", mirror.url, stderr=side)
    await mirror.hanging.wait()
    shown = b""
    while b"KiB" not in shown:
        shown += await asyncio.to_thread(os.read, main, 8192)
    child.kill()
    await child.communicate()
    os.close(side)
    os.close(main)
    assert b"tiny" in shown
