"""``infoscreen config``: are the settings right, and what are they."""

import click

from infoscreen.cli.output import as_json_option, write_json, write_table
from infoscreen.domain.errors import InvalidSettings


@click.group()
def config() -> None:
    """Check or show the settings."""


@config.command()
@as_json_option
def check(as_json: bool) -> None:
    """Check the settings as `serve` does, without starting anything."""
    from infoscreen import config_check, settings

    faults: list[str] = []
    cautions: list[str] = []
    try:
        cautions = settings.cautions(config_check.loaded())
    except InvalidSettings as error:
        if not as_json:
            raise
        faults = str(error).splitlines()
    if as_json:
        write_json({"ok": not faults, "faults": faults, "cautions": cautions})
        raise SystemExit(1 if faults else 0)
    for caution in cautions:
        click.echo(f"Warning: {caution}", err=True)
    click.echo("The settings are right.")


@config.command()
@as_json_option
def show(as_json: bool) -> None:
    """Show the values in use and where they come from; secrets are masked."""
    from infoscreen import settings

    values = settings.effective(settings.load())
    if as_json:
        write_json(values)
    else:
        write_table(
            ("VARIABLE", "VALUE", "SOURCE"), [(value.variable, value.value, value.source) for value in values]
        )
