"""`edged check`: is the configuration right? Starts nothing, writes nothing."""

from __future__ import annotations

from pathlib import Path

import click

from edged.cli.places import CONFIG, config_folder
from edged.cli.screen import echo, note
from edged.domain.errors import ConfigError

__all__ = ["check", "explain"]


@click.command()
@click.argument("config", type=click.Path(path_type=Path), default=config_folder, metavar="[CONFIG_DIR]")
def check(config: Path) -> int:
    """Check the configuration. Exit 78: it must be mended."""
    from edged.fleet.settings import load  # pydantic costs more than all the other commands take

    try:
        settings = load(config)
    except ConfigError as error:
        note(explain(error))
        return CONFIG
    agents, models = len(settings.agents), len(settings.models)
    mqtt = f"mqtt {settings.mqtt.host}:{settings.mqtt.port}" if settings.mqtt.enabled else "mqtt off"
    cloud = settings.cloud.base_url or "none"
    echo(f"ok: {config}: device {settings.device.id}, {agents} agents, {models} models, {mqtt}, cloud {cloud}")
    return 0


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
