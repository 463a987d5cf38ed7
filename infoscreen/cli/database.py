"""``infoscreen db``: bring the database to the version of the code, look at it, save it and put it back."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click

from infoscreen.cli.output import as_json_option, write_json
from infoscreen.domain.errors import DatabaseNotReady, ToolFailed

if TYPE_CHECKING:
    from infoscreen.settings import Settings
    from infoscreen.storage.backups import VerifiedBackup

file_argument = click.argument("file", type=click.Path(path_type=Path))


@click.group()
def db() -> None:
    """Set up, upgrade, check, back up and restore the database."""


@db.command()
@click.option("--create", is_flag=True, help="Begin with an empty database if there is none.")
@as_json_option
def upgrade(create: bool, as_json: bool) -> None:
    """Set up the database, or upgrade it to this version.

    A new file is made where DATABASE_URL says so, in a directory with a file .env, or with --create.
    """
    from infoscreen.settings import load
    from infoscreen.storage import schema

    settings = load()
    if not create:
        _refuse_to_begin_by_mistake(settings)
    done = asyncio.run(schema.upgrade(settings.database_url))
    name = schema.name_of(settings.database_url)
    if as_json:
        write_json(done)
    elif done.before == done.after:
        click.echo(f"Nothing to do: {name} is at revision {done.after}.")
    elif done.before is None:
        click.echo(f"{name} is set up, at revision {done.after}.")
    else:
        click.echo(f"{name} is upgraded from revision {done.before} to {done.after}.")


def _refuse_to_begin_by_mistake(settings: "Settings") -> None:
    from infoscreen.settings import env_file, is_given
    from infoscreen.storage import schema

    file = schema.sqlite_file(settings.database_url)
    if file is None:
        return
    if not file.exists() and not is_given("database_url") and not env_file().exists():
        raise ToolFailed(
            f"There is no database {file}, and neither DATABASE_URL nor a file .env says that there "
            "should be. Set DATABASE_URL, or use --create."
        )
    if file.is_file() and file.stat().st_size == 0:
        raise ToolFailed(f"{file} is an empty file: the database is lost. {schema.LOST}")


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
    """Check whether `serve` can use the database, every page and index of it.

    If not, exits with 1 and says what to do.
    """
    from infoscreen.settings import load
    from infoscreen.storage import schema
    from infoscreen.storage.engine import Store

    url = load().database_url

    async def look() -> str | None:
        await schema.check_url(url)
        store = Store(url)
        try:
            return await schema.damage(store)
        finally:
            await store.close()

    damage = asyncio.run(look())
    if damage is not None:
        raise DatabaseNotReady(
            f"{schema.name_of(url)} is damaged: {damage}. Stop everything that uses it and restore a "
            "backup with `infoscreen db restore FILE`."
        )
    click.echo(f"{schema.name_of(url)} is fit.")


@db.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    help="Save to a file in this directory, named by the time, instead of FILE.",
)
@click.option(
    "--keep",
    type=click.IntRange(min=1),
    default=14,
    show_default=True,
    help="With --directory: how many backups are kept.",
)
@as_json_option
def backup(file: Path | None, directory: Path | None, keep: int, as_json: bool) -> None:
    """Back up the SQLite database to FILE, also while the daemon runs."""
    from infoscreen.clock import SystemClock
    from infoscreen.settings import load
    from infoscreen.storage import backups

    if (file is None) == (directory is None):
        raise click.UsageError("Give either FILE or --directory.")
    url = load().database_url
    if directory is not None:
        file, size = backups.back_up_into(url, directory, keep, SystemClock().now())
    else:
        assert file is not None  # noqa: S101  (one of both is given)
        file = file.absolute()
        size = backups.backup(url, file)
    if as_json:
        write_json({"file": str(file), "bytes": size})
    else:
        click.echo(f"Saved {size} bytes to {file}.")


@db.command()
@file_argument
@as_json_option
def verify(file: Path, as_json: bool) -> None:
    """Check a backup: every page, index and reference, and its revision."""
    from infoscreen.settings import load
    from infoscreen.storage import backups

    backups.database_file(load().database_url)  # with PostgreSQL it says what verifies there
    found = backups.verify(file)
    if as_json:
        write_json(found)
    else:
        click.echo(f"{found.file} is whole: {_contents(found)}.")


@db.command()
@file_argument
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_json_option
def restore(file: Path, yes: bool, as_json: bool) -> None:
    """Put the backup FILE in the place of the database. The daemon must be stopped.

    What was there is kept beside it.
    """
    from infoscreen import local_daemon
    from infoscreen.clock import SystemClock
    from infoscreen.settings import load
    from infoscreen.storage import backups, schema

    settings = load()
    if local_daemon.is_running(settings):
        raise ToolFailed("The daemon is running. Stop it first: systemctl stop infoscreen")
    if not yes:
        place = schema.name_of(settings.database_url)
        click.confirm(f"Replace {place[0].lower()}{place[1:]} with {file}?", abort=True, err=True)
    done = backups.restore(settings.database_url, file, SystemClock().now())
    if as_json:
        write_json(done)
        return
    click.echo(f"Restored {done.database} from {done.backup.file}: {_contents(done.backup)}.")
    if done.kept is not None:
        click.echo(f"What was there is kept as {done.kept}.")
    if done.backup.fitness is schema.Fitness.BEHIND:
        click.echo("It is from an earlier version: run `infoscreen db upgrade` before the start.")


def _contents(found: "VerifiedBackup") -> str:
    return f"revision {found.revision} ({found.fitness}), {found.clients} clients, {found.users} users"
