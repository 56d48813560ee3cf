"""Configuration: what it refuses, and how well it says so; how files are merged; what the rooms get."""

from __future__ import annotations

from pathlib import Path

import pytest

from edged.domain.errors import ConfigError
from edged.domain.power import PowerPlan, PowerState
from edged.fleet.settings import Settings, load

SHIPPED = Path(__file__).parents[2] / "config"


def configure(folder: Path, main: str = "", **drops: str) -> Path:
    """A folder with edged.toml and conf.d/NAME.toml."""
    (folder / "conf.d").mkdir(exist_ok=True)
    (folder / "edged.toml").write_text(main)
    for name, text in drops.items():
        (folder / "conf.d" / f"{name}.toml").write_text(text)
    return folder


# the mistake; its key as it is told; words of what would be right
MISTAKES = [
    ("colour = 1", "colour", "log_level"),
    ('source = "/etc"', "source", "log_level"),
    ("[mqtt]\nhots = 1", "mqtt.hots", "password_file"),
    ("[models.a]\nfile = 'x'", "models.a.file", "context_length"),
    ("[agents.a]\nmodle = 'x'", "agents.a.modle", "max_steps"),
    ("[[agents.a.reflexes]]\npattern='x'\ntool='t'\nargs=1", "agents.a.reflexes.0.args", "arguments"),
    ("[[agents.a.reflexes]]\npattern='x'", "agents.a.reflexes.0.tool", "required"),
    ("[[agents.a.reflexes]]\npattern=''\ntool='t'", "agents.a.reflexes.0.pattern", "at least 1"),
    ("[[agents.a.reflexes]]\npattern='turn (on'\ntool='t'", "agents.a.reflexes.0.pattern", "cannot be read"),
    ("[[agents.a.reflexes]]\npattern='{where:room}'\ntool='t'", "agents.a.reflexes.0.pattern", "no list 'where'"),
    ("[[agents.a.reflexes]]\npattern='<the> fan'\ntool='t'", "agents.a.reflexes.0.pattern", "no rule 'the'"),
    ("[agents.a.lists]\nroom = ['[hall']", "agents.a.lists.room", "cannot be read"),
    ("[agents.a.lists]\nroom = [1]", "agents.a.lists.room", "valid dictionary"),
    ("[agents.a.lists]\n'a b' = ['x']", "agents.a.lists.a b", "no name"),
    ("[agents.a.rules]\nthe = '(the'", "agents.a.rules.the", "cannot be read"),
    ("[mqtt]\nport = 'high'", "mqtt.port", "valid integer"),
    ("[mqtt]\nport = 70000", "mqtt.port", "less than 65536"),
    ("[mqtt]\nenabled = 'perhaps'", "mqtt.enabled", "valid boolean"),
    ("mqtt = 5", "mqtt", "dictionary"),
    ("agents = []", "agents", "dictionary"),
    ("[memory]\nbudget = '12 parsecs'", "memory.budget", "512MiB"),
    ("[memory]\nbudget = ''", "memory.budget", "512MiB"),
    ("[memory]\nbudget = '-1MiB'", "memory.budget", "512MiB"),
    ("[memory]\nbudget = 0", "memory.budget", "greater than 0"),
    ("[http]\nrequests_per_second = nan", "http.requests_per_second", "greater than 0"),
    ("log_level = 'loud'", "log_level", "'debug', 'info'"),
    ("[agents.a]\ntiers = ['oracle']", "agents.a.tiers.0", "'reflex'"),
    ("[agents.a]\ndeadline = 0", "agents.a.deadline", "greater than 0"),
    ("[agents.a]\nmax_steps = 33", "agents.a.max_steps", "less than or equal to 32"),
    ("[agents.a]\ntools = 'kiosk.*'", "agents.a.tools", "tuple"),
    ("[agents.a]\nmodel = 'absent'", "agents.a.model", "bundled"),
    ("[agents.'a b']", "agents.a b.[key]", "pattern"),
    ("[device]\nid = '../up'", "device.id", "pattern"),
    ("[cloud]\nredact = ['names']", "cloud.redact.0", "'email'"),
    ("[models.a]\nkv_type = 'q5'", "models.a.kv_type", "'q8_0'"),
    ("[agents.a]\nadapter = 'absent'", "agents.a.adapter", "configured are: none"),
    ("[models.a]\ndialect = 'latin'", "models.a.dialect", "'hermes'"),
    ("[power]\nsaver = 30", "power.saver", "saver_percent"),
    ("[power]\nsaver_percent = 130", "power.saver_percent", "less than or equal to 100"),
    ("[power]\nsaver_percent = 10", "power", "critical_percent has to be below saver_percent"),
    ("[power]\nhot_celsius = 106", "power", "hot_celsius has to be below critical_celsius"),
    ("[power]\nrefuse_low = ['tired']", "power.refuse_low.0", "'saver'"),
]


@pytest.mark.parametrize("place", ["main", "drop"])
@pytest.mark.parametrize(("text", "key", "expected"), MISTAKES, ids=[key for _, key, _ in MISTAKES])
def test_a_mistake_is_told_by_file_key_and_what_is_right(
    tmp_path: Path, text: str, key: str, expected: str, place: str
) -> None:
    folder = configure(tmp_path, text) if place == "main" else configure(tmp_path, "[memory]\n", **{"50-mine": text})
    file = folder / ("edged.toml" if place == "main" else "conf.d/50-mine.toml")
    with pytest.raises(ConfigError) as caught:
        load(folder)
    fields = caught.value.fields
    assert (fields["file"], fields["key"]) == (str(file), key)
    assert expected in fields["expected"]
    assert caught.value.detail.startswith(f"{file}: {key}: ")


@pytest.mark.parametrize(
    ("text", "line"),
    [("a = 1\nb = \n", 2), ("[mqtt\n", 1), ("x = 1\n\nx = 2\n", 3), ("a = [1,\n", None), (f"a = {'9' * 5000}", None)],
)
def test_bad_toml_is_told_by_line(tmp_path: Path, text: str, line: int | None) -> None:
    with pytest.raises(ConfigError) as caught:
        load(configure(tmp_path, "", **{"10-bad": text}))
    assert caught.value.fields["file"] == str(tmp_path / "conf.d" / "10-bad.toml")
    assert caught.value.fields["line"] == line
    assert caught.value.fields["expected"] == "valid TOML"


def test_text_that_is_not_utf8_is_told(tmp_path: Path) -> None:
    (configure(tmp_path) / "edged.toml").write_bytes(b"log_level = '\xff'")
    with pytest.raises(ConfigError, match="not valid TOML"):
        load(tmp_path)


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (configure(tmp_path) / "conf.d" / "10-folder.toml").mkdir()
    with pytest.raises(ConfigError) as caught:
        load(tmp_path)
    assert caught.value.fields["expected"] == "a readable file"


def test_no_configuration_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path)
    assert caught.value.fields["file"] == str(tmp_path / "edged.toml")


def test_later_files_win_key_by_key(tmp_path: Path) -> None:
    drops = {
        "20-b": "[agents.a]\ninstructions = 'b'\n[mqtt]\nport = 3\n",
        "10-a": "log_level = 'debug'\n[mqtt]\nport = 2\n[agents.a]\ninstructions = 'a'\nmax_steps = 2\n",
    }
    main = "log_level = 'error'\n[mqtt]\nhost = 'h'\nport = 1\n[agents.a]\ntools = ['x']\n"
    settings = load(configure(tmp_path, main, **drops))
    assert (settings.log_level, settings.mqtt.host, settings.mqtt.port) == ("debug", "h", 3)
    agent = settings.agents["a"]
    assert (agent.tools, agent.instructions, agent.max_steps) == (("x",), "b", 2)


def test_a_list_is_replaced_as_a_whole(tmp_path: Path) -> None:
    settings = load(configure(tmp_path, "[agents.a]\ntools = ['x', 'y']", z="[agents.a]\ntools = ['z']"))
    assert settings.agents["a"].tools == ("z",)


def test_a_mistake_that_a_later_file_mends_is_none(tmp_path: Path) -> None:
    assert load(configure(tmp_path, "[mqtt]\nport = 0", z="[mqtt]\nport = 7")).mqtt.port == 7


def test_other_files_in_the_folder_are_not_read(tmp_path: Path) -> None:
    (configure(tmp_path) / "conf.d" / "10-agent.toml.bak").write_text("not toml at all")
    load(tmp_path)


def test_one_file_alone_is_a_configuration(tmp_path: Path) -> None:
    configure(tmp_path, "log_level = 'debug'", z="log_level = 'error'")
    assert load(tmp_path / "edged.toml").log_level == "debug"


@pytest.mark.parametrize(
    ("size", "count"),
    [
        ("1024", 1024),
        ("'1024'", 1024),
        ("'1KB'", 1000),
        ("'1 KiB'", 1024),
        ("'512MiB'", 512 << 20),
        ("' 1.5 gib '", 3 << 29),
        ("'2GB'", 2 * 10**9),
    ],
)
def test_sizes(tmp_path: Path, size: str, count: int) -> None:
    assert load(configure(tmp_path, f"[memory]\nbudget = {size}")).budget().memory_bytes == count


def test_an_empty_configuration_has_the_bundled_model_and_no_agents(tmp_path: Path) -> None:
    settings = load(configure(tmp_path))
    assert settings.agent_specs() == {}
    assert settings.model_specs()["bundled"].path == "bundled"
    assert settings.cloud.base_url is None


def test_the_power_plan(tmp_path: Path) -> None:
    assert load(configure(tmp_path)).power_plan() == PowerPlan()
    plan = load(configure(tmp_path, "[power]\nsysfs = 'sys'\nrefuse_low = ['battery']\naccount = true")).power_plan()
    assert (plan.sysfs, plan.account) == (str(tmp_path.resolve() / "sys"), True)
    assert plan.refuse_low == (PowerState.BATTERY,)


def test_paths_are_relative_to_the_configuration(tmp_path: Path) -> None:
    settings = load(configure(tmp_path, "[models.a]\npath = 'm/a.gguf'\n[models.b]\npath = '/abs/b.gguf'"))
    specs = settings.model_specs()
    assert specs["a"].path == str(tmp_path.resolve() / "m" / "a.gguf")
    assert specs["b"].path == "/abs/b.gguf"
    assert settings.resolve(Path("plugins")) == tmp_path.resolve() / "plugins"


def test_folders_of_the_service_manager_are_the_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/x")
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/run/x")
    settings = load(configure(tmp_path))
    assert (settings.device.state_dir, settings.http.socket) == (Path("/var/lib/x"), Path("/run/x/edged.sock"))


def test_an_agent_keeps_everything_that_was_said_of_it(tmp_path: Path) -> None:
    text = """
        [agents.a]
        tools = ["home.*"]
        tiers = ["reflex", "model"]
        local_only = true
        max_tokens = 64
        roles = ["staff"]
        memory = 4
        [[agents.a.reflexes]]
        pattern = "lights {state}"
        tool = "switch_device"
        arguments = { device = "all" }
        [agents.a.lists]
        room = ["kitchen", "living room"]
        state = { an = "on", zwanzig = 20, ja = true }
        [agents.a.rules]
        the = "(the|a)"
    """
    agent = load(configure(tmp_path, text)).agent_specs()["a"]
    assert (agent.name, agent.model, agent.tools, agent.tiers) == ("a", "bundled", ("home.*",), ("reflex", "model"))
    assert (agent.local_only, agent.max_tokens, agent.roles, agent.memory) == (True, 64, ("staff",), 4)
    assert agent.reflexes == (("lights {state}", "switch_device", {"device": "all"}),)
    assert agent.phrases.lists["room"] == {"kitchen": "kitchen", "living room": "living room"}
    assert [type(value) for value in agent.phrases.lists["state"].values()] == [str, int, bool]
    assert agent.phrases.rules == {"the": "(the|a)"}


def test_a_host_name_of_any_kind_makes_a_device_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "küche/1")
    assert Settings().device.id == "k-che-1"


def test_the_shipped_configuration_loads() -> None:
    settings = load(SHIPPED)
    assert {"kiosk", "home", "desk"} <= settings.agents.keys()
    assert settings.agents["home"].local_only
    assert settings.resolve(settings.device.plugin_dirs[0]).is_dir()


def test_adapters_are_found_beside_the_configuration(tmp_path: Path) -> None:
    text = (
        "[models.m]\npath = 'm.gguf'\nadapters = {shop = 'lora/shop.gguf'}\n[agents.a]\nmodel = 'm'\nadapter = 'shop'"
    )
    settings = load(configure(tmp_path, text))
    folder = settings.source
    assert settings.model_specs()["m"].adapters == {"shop": str(folder / "lora/shop.gguf")}
    assert settings.agent_specs()["a"].adapter == "shop"
