"""``infoscreen db``: bring the database to the version of the code, look at it, save it."""

import asyncio
from pathlib import Path

import click

from infoscreen.cli.output import as_json_option, write_json


@click.group()
def db() -> None:
    """Set up, upgrade, check and back up the database."""


@db.command()
@as_json_option
def upgrade(as_json: bool) -> None:
    """Set up the database, or upgrade it to this version."""
    from infoscreen.settings import load
    from infoscreen.storage import schema

    done = asyncio.run(schema.upgrade(load().database_url))
    if as_json:
        write_json(done)
    elif done.before == done.after:
        click.echo(f"Nothing to do: the database is at revision {done.after}.")
    elif done.before is None:
        click.echo(f"The database is set up, at revision {done.after}.")
    else:
        click.echo(f"Upgraded from revision {done.before} to {done.after}.")


@db.command()
@as_json_option
def current(as_json: bool) -> None:
    """Show the database's revision."""
    from infoscreen.settings import load
    from infoscreen.storage import schema

    state = asyncio.run(schema.current(load().database_url))
    if as_json:
        write_json(state)
    else:
        click.echo(f"{state.revision or 'none'} ({state.fitness}; this infoscreen needs {state.needed})")


@db.command()
def check() -> None:
    """Check whether `serve` can use the database.

    If not, exits with 1 and says what to do.
    """
    from infoscreen.settings import load
    from infoscreen.storage import schema

    asyncio.run(schema.check_url(load().database_url))
    click.echo("The database is fit.")


@db.command()
@click.argument("file", type=click.Path(path_type=Path))
@as_json_option
def backup(file: Path, as_json: bool) -> None:
    """Back up the SQLite database to FILE, also while the daemon runs."""
    from infoscreen.settings import load
    from infoscreen.storage import schema

    size = asyncio.run(schema.backup(load().database_url, file))
    if as_json:
        write_json({"file": str(file), "bytes": size})
    else:
        click.echo(f"Saved {size} bytes to {file}.")
