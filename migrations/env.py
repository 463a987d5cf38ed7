"""Runs the migrations, on the connection it is given or, for the ``alembic`` command, on one of its own.

The transaction and SQLite's foreign keys are ``infoscreen.storage.schema``'s business, see there.
"""

import asyncio
import re
from logging.config import fileConfig
from typing import Any

from alembic import context
from sqlalchemy import Column, Connection

from infoscreen.storage import schema
from infoscreen.storage.counting import restore_triggers
from infoscreen.storage.finding import is_declared
from infoscreen.storage.tables import metadata


def _default_differs(
    migrating: Any,
    in_database: Column[Any],
    in_model: Column[Any],
    database_default: str | None,
    model_default: Any,
    rendered_model_default: str | None,
) -> bool | None:
    # As text: Alembic would ask PostgreSQL to compare JSON values, which it cannot.
    if model_default is None:
        return None
    return _bare(database_default) != _bare(rendered_model_default)


def _bare(default: str | None) -> str | None:
    return None if default is None else re.sub(r"::[a-z ]+$", "", default).strip("()'")


def _migrate(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=metadata,
        render_as_batch=True,
        compare_server_default=_default_differs,
        include_name=is_declared,
    )
    context.run_migrations()
    restore_triggers(connection)


async def _migrate_own_database() -> None:
    # Only the alembic command needs the settings; the daemon's own commands bring a connection.
    from infoscreen.settings import load

    async with schema.migration(load().database_url) as connection:
        await connection.run_sync(_migrate)


if context.is_offline_mode():
    raise SystemExit("Migrations copy rows, so they need a database; there is no --sql mode.")
if context.config.config_file_name is not None:
    fileConfig(context.config.config_file_name, disable_existing_loggers=False)
given: Connection | None = context.config.attributes.get("connection")
if given is None:
    asyncio.run(_migrate_own_database())
else:
    _migrate(given)
