"""`edged check`: is the configuration right, and is there what it names? Starts nothing, writes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edged.cli.places import CONFIG, config_folder
from edged.cli.screen import echo, note
from edged.domain.errors import ConfigError

if TYPE_CHECKING:
    from edged.fleet.settings import Settings

__all__ = ["check", "explain"]


@click.command()
@click.argument("config", type=click.Path(path_type=Path), default=config_folder, metavar="[CONFIG_DIR]")
@click.option("--elsewhere", is_flag=True, help="It is for another machine: do not look for the files that it names.")
def check(config: Path, elsewhere: bool) -> int:
    """Check the configuration. Exit 78: it must be mended."""
    from edged.fleet.settings import load  # pydantic costs more than all the other commands take

    try:
        settings = load(config)
        missing = [] if elsewhere else [*_missing_files(settings), *_missing_plugins(settings)]
    except ConfigError as error:
        note(explain(error))
        return CONFIG
    for line in missing:
        note(line)
    if missing:
        return CONFIG
    agents, models = len(settings.agents), len(settings.models)
    mqtt = f"mqtt {settings.mqtt.host}:{settings.mqtt.port}" if settings.mqtt.enabled else "mqtt off"
    cloud = settings.cloud.base_url or "none"
    echo(f"ok: {config}: device {settings.device.id}, {agents} agents, {models} models, {mqtt}, cloud {cloud}")
    return 0


def _missing_files(settings: Settings) -> Iterator[str]:
    named = {
        f"models.{name}.path": spec.path for name, spec in settings.model_specs().items() if spec.path != "bundled"
    }
    secrets = {"mqtt.password_file": settings.mqtt.password_file, "mqtt.ca_file": settings.mqtt.ca_file}
    named |= {
        f"models.{name}.adapters.{key}": file
        for name, spec in settings.model_specs().items()
        for key, file in spec.adapters.items()
    }
    named |= {key: str(settings.resolve(path)) for key, path in secrets.items() if path and settings.mqtt.enabled}
    for key, path in named.items():
        if not Path(path).exists():
            yield f"{key}: there is no {path}"


def _missing_plugins(settings: Settings) -> Iterator[str]:
    """Raises ConfigError for a manifest that cannot be read."""
    from edged.tools.manifest import discover

    folders = [settings.resolve(folder) for folder in settings.device.plugin_dirs]
    there = [manifest.name for manifest in discover(folders)]
    for name, agent in settings.agents.items():
        for tool in agent.tools:
            plugin = tool.rpartition(".")[0]
            if plugin and plugin not in there:
                close = get_close_matches(plugin, there, 1)
                hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(there) or 'none'}"
                yield f"agents.{name}.tools: {tool}: there is no plugin {plugin} in {', '.join(map(str, folders))}; {hint}"


def explain(error: ConfigError) -> str:
    """File, line and key as far as they are known, what is wrong, and on a second line what would be right."""
    file, line, key, expected = (error.fields.get(name) for name in ("file", "line", "key", "expected"))
    # The detail often begins with the same file and key; said once is enough.
    wrong = error.detail
    for known in (file, key):
        wrong = wrong.removeprefix(f"{known}:").removeprefix(f"{known} ").strip() if known else wrong
    where = f"{file}:{line}" if file and line else file
    told = ": ".join(str(part) for part in (where, key, wrong) if part)
    return f"{told}\n  expected: {expected}" if expected else told
