"""The columns that hold sealed secrets, all of them, to be sealed again under a new key."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Column, Table, select, update

from infoscreen.storage.account_tables import second_factors
from infoscreen.storage.engine import Connection
from infoscreen.storage.notify_tables import channels
from infoscreen.storage.power_tables import client_power


@dataclass(frozen=True, slots=True)
class SealedColumn:
    """A column with sealed texts, null where there is none; ``key`` names the row and its purpose."""

    key: Column[Any]
    column: Column[str]

    @property
    def table(self) -> Table:
        """Return the table that it belongs to."""
        table: Table = self.column.table
        return table


CHANNEL_URL = SealedColumn(channels.c.id, channels.c.sealed_url)
CHANNEL_SECRET = SealedColumn(channels.c.id, channels.c.sealed_secret)
OUTLET = SealedColumn(client_power.c.client_uuid, client_power.c.sealed)
SECOND_FACTOR = SealedColumn(second_factors.c.user_id, second_factors.c.sealed)
OFFERED_FACTOR = SealedColumn(second_factors.c.user_id, second_factors.c.offered)

COLUMNS = (CHANNEL_URL, CHANNEL_SECRET, OUTLET, SECOND_FACTOR, OFFERED_FACTOR)


class SealedRow(NamedTuple):
    """The key of a row and its sealed text."""

    key: int | str
    sealed: str


async def not_under(
    connection: Connection, where: SealedColumn, prefix: str, after: int | str | None, limit: int
) -> list[SealedRow]:
    """Return texts that do not begin with ``prefix``, in the order of their keys beyond ``after``."""
    statement = select(where.key, where.column).where(
        where.column.is_not(None), ~where.column.startswith(prefix, autoescape=True)
    )
    if after is not None:
        statement = statement.where(where.key > after)
    rows = await connection.execute(statement.order_by(where.key).limit(limit))
    return [SealedRow(key, sealed) for key, sealed in rows]


async def replace(connection: Connection, where: SealedColumn, row: SealedRow, sealed: str) -> None:
    """Write a text sealed again, unless somebody has changed it meanwhile."""
    same = (where.key == row.key, where.column == row.sealed)
    await connection.execute(update(where.table).where(*same).values({where.column.name: sealed}))
