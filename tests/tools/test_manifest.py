"""A table of manifests: good ones, and bad ones with the key that the error names."""

from __future__ import annotations

from pathlib import Path

import pytest

from edged.domain.errors import ConfigError
from edged.tools.manifest import discover, read_manifest


def write(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "code.py").touch()
    path = folder / "plugin.toml"
    path.write_text(text)
    return path


def test_defaults_and_all_keys(tmp_path: Path) -> None:
    plain = read_manifest(write(tmp_path / "plain", 'module = "code"'))
    assert (plain.name, plain.start, plain.idle, plain.timeout) == ("plain", "lazy", 300.0, 30.0)
    text = 'name = "x"\nmodule = "code"\nstart = "boot"\nidle = 0\ntimeout = 2\nstart_timeout = 1.5\nmemory_mb = 64'
    full = read_manifest(write(tmp_path / "full", text))
    assert (full.name, full.start, full.idle, full.timeout, full.memory_mb) == ("x", "boot", 0, 2, 64)


def test_sentence_patterns_are_carried_as_they_stand(tmp_path: Path) -> None:
    assert read_manifest(write(tmp_path / "plain", 'module = "code"')).phrases.reflexes == ()
    text = """
        module = "code"
        [[reflexes]]
        pattern = "<the> {device} {schalter:state}"
        tool = "switch"
        [[reflexes]]
        pattern = "lights out"
        tool = "switch"
        arguments = { state = "off" }
        [lists]
        device = ["fan"]
        schalter = { an = "on", halb = 0.5, aus = false }
        [rules]
        the = "[the|das]"
    """
    path = write(tmp_path / "talks", text)
    phrases = read_manifest(path).phrases
    assert phrases.reflexes == (
        ("<the> {device} {schalter:state}", "switch", {}),
        ("lights out", "switch", {"state": "off"}),
    )
    assert phrases.lists == {"device": {"fan": "fan"}, "schalter": {"an": "on", "halb": 0.5, "aus": False}}
    assert (phrases.rules, phrases.plugin, phrases.file) == ({"the": "[the|das]"}, "talks", str(path))


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("", "module"),
        ('module = "code"\nreflexes = "x"', "reflexes"),
        ('module = "code"\nreflexes = ["x"]', "reflexes.0"),
        ('module = "code"\n[[reflexes]]\npattern = "x"', "reflexes.0.tool"),
        ('module = "code"\n[[reflexes]]\npattern = ""\ntool = "t"', "reflexes.0.pattern"),
        ('module = "code"\n[[reflexes]]\npattern = "x"\ntool = "t"\nargs = {}', "reflexes.0.args"),
        ('module = "code"\n[[reflexes]]\npattern = "x"\ntool = "t"\narguments = 1', "reflexes.0.arguments"),
        ('module = "code"\nlists = ["x"]', "lists"),
        ('module = "code"\nlists.a = "x"', "lists.a"),
        ('module = "code"\nlists.a = ["x", 1]', "lists.a"),
        ('module = "code"\nlists.a = { x = [1] }', "lists.a"),
        ('module = "code"\nlists.a = { "" = 1 }', "lists.a"),
        ('module = "code"\nrules.a = 1', "rules.a"),
        ('module = "missing"', "module"),
        ('module = "../code"', "module"),
        ('module = "code"\nname = "Big Name"', "name"),
        ('module = "code"\nstart = "now"', "start"),
        ('module = "code"\nidle = -1', "idle"),
        ('module = "code"\ntimeout = true', "timeout"),
        ('module = "code"\nmemory_mb = "big"', "memory_mb"),
        ('module = "code"\nspeed = 1', "speed"),
        ("module = ", None),
    ],
)
def test_bad_manifests(tmp_path: Path, text: str, key: str | None) -> None:
    path = write(tmp_path / "bad", text)
    with pytest.raises(ConfigError) as caught:
        read_manifest(path)
    assert caught.value.fields.get("key") == key and str(path) in caught.value.detail


def test_an_earlier_folder_hides_a_later_one(tmp_path: Path) -> None:
    mine, shipped = tmp_path / "mine", tmp_path / "shipped"
    write(mine / "kiosk", 'module = "code"')
    write(shipped / "kiosk", 'module = "code"')
    write(shipped / "clock", 'module = "code"')
    found = discover([mine, shipped, tmp_path / "absent"])
    assert [(m.name, m.directory) for m in found] == [("clock", shipped / "clock"), ("kiosk", mine / "kiosk")]
