"""Clients: reading them for people, and writing what was heard of them."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import fields
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import (
    Row,
    Select,
    Update,
    bindparam,
    delete,
    insert,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from infoscreen.domain.availability import StatusInterval, closed
from infoscreen.domain.clients import STALE, Client, Condition, Presence, sort_key
from infoscreen.storage import availability, client_index
from infoscreen.storage.columns import chunks
from infoscreen.storage.engine import Connection
from infoscreen.storage.tables import clients

_FIELDS = tuple(field.name for field in fields(Client))
COLUMNS = [clients.c[name] for name in _FIELDS]


def client_of(row: Row[*tuple[Any, ...]]) -> Client:
    """Return the client in a row that begins with ``COLUMNS``."""
    # By position: it takes a third of the time of the row's own mapping, and the live view reads many.
    return Client(**dict(zip(_FIELDS, row, strict=False)))


async def get(connection: Connection, uuid: str) -> Client | None:
    """Return one client, or None."""
    return (await get_many(connection, [uuid])).get(uuid)


async def get_many(connection: Connection, uuids: Collection[str]) -> dict[str, Client]:
    """Return those of the clients that exist, by UUID."""
    return await _matching(connection, _THESE, uuids)


async def for_change(connection: Connection, uuids: Collection[str]) -> dict[str, Client]:
    """Return the same, and hold the rows: nobody else changes or deletes them until this transaction ends.

    SQLite holds everything anyway. On PostgreSQL rows are locked in the order of their UUIDs, here and in
    ``hold`` and ``keep``, so that two transactions cannot wait for each other.
    """
    return await _matching(connection, _THESE_FOR_CHANGE, uuids)


_CHANGE: Mapping[str, Any] = {"key_share": True}
"""``FOR NO KEY UPDATE``: rows that only refer to a client, as a new command does, need not wait."""

_THESE = select(*COLUMNS).where(clients.c.uuid.in_(bindparam("uuids", expanding=True)))
_THESE_FOR_CHANGE = _THESE.order_by(clients.c.uuid).with_for_update(**_CHANGE)


async def hold(connection: Connection, uuids: Collection[str]) -> None:
    """Hold those of the clients that exist, as ``for_change`` does, without reading them."""
    if connection.dialect.name == "sqlite":
        return
    for chunk in chunks(sorted(uuids)):
        statement = select(clients.c.uuid).where(clients.c.uuid.in_(chunk)).order_by(clients.c.uuid)
        await connection.execute(statement.with_for_update(**_CHANGE))


async def keep(connection: Connection, uuids: Collection[str]) -> set[str]:
    """Return which of the clients exist; none of those is deleted until this transaction ends.

    For who writes rows that refer to them. They may still be changed meanwhile.
    """
    found: set[str] = set()
    for chunk in chunks(sorted(uuids)):
        statement = select(clients.c.uuid).where(clients.c.uuid.in_(chunk)).order_by(clients.c.uuid)
        kept = await connection.scalars(statement.with_for_update(read=True, key_share=True))
        found.update(kept.all())
    return found


class Target(NamedTuple):
    """As much of a client as a command needs to know before it is queued."""

    uuid: str
    status: Condition
    capabilities: list[str]
    presence: Presence | None
    stale_at: datetime | None

    def is_away(self, now: datetime) -> bool:
        """Tell whether the client is silent or disconnected, also in maintenance."""
        silent = self.status in {*STALE, Condition.OFF_HOURS, Condition.SHUT_DOWN, Condition.NEVER_SEEN}
        return (
            silent or self.presence is Presence.OFFLINE or (self.stale_at is not None and self.stale_at < now)
        )


_TARGETS = select(*(clients.c[name] for name in Target._fields))


async def targets(connection: Connection, uuids: Collection[str]) -> dict[str, Target]:
    """Return what decides whether the clients are fit for a command."""
    found: dict[str, Target] = {}
    for chunk in chunks(uuids):
        rows = await connection.execute(_TARGETS.where(clients.c.uuid.in_(chunk)))
        found.update((row[0], Target._make(row)) for row in rows)
    return found


async def keep_targets(connection: Connection, uuids: Collection[str]) -> dict[str, Target]:
    """Do as ``keep``, and return what decides whether the clients are fit for a command."""
    found: dict[str, Target] = {}
    statement = _TARGETS.order_by(clients.c.uuid)
    for chunk in chunks(sorted(uuids)):
        rows = await connection.execute(
            statement.where(clients.c.uuid.in_(chunk)).with_for_update(read=True, key_share=True)
        )
        found.update((row[0], Target._make(row)) for row in rows)
    return found


async def _matching(
    connection: Connection, statement: Select[Any], uuids: Collection[str]
) -> dict[str, Client]:
    found: dict[str, Client] = {}
    for chunk in chunks(sorted(uuids)):
        rows = await connection.execute(statement, {"uuids": chunk})
        found.update((client.uuid, client) for client in map(client_of, rows))
    return found


async def register(connection: Connection, uuids: Collection[str], now: datetime) -> set[str]:
    """Create the clients; those that exist already are left alone. Return those that exist then, kept.

    One that somebody else registered at the same moment may be deleted again by now.
    """
    if not uuids:
        return set()
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(clients).on_conflict_do_nothing(index_elements=["uuid"])
    rows = [
        {"uuid": uuid, "created_at": now, "status_since": now, "sort_key": sort_key(None, None, uuid)}
        for uuid in uuids
    ]
    await connection.execute(statement, rows)
    kept = await keep(connection, uuids)
    await client_index.note_new(connection, kept)
    return kept


async def save_changes(
    connection: Connection, before: Client, after: Client, said: int | None = None
) -> None:
    """Write the fields in which ``after`` differs, and the digest of its last heartbeat if given."""
    await save_all_changes(connection, [(before, after, said)])


async def save_all_changes(
    connection: Connection, changes: Iterable[tuple[Client, Client, int | None]]
) -> None:
    """Do the same for many clients, with one statement for all that differ in the same fields.

    Many clients change in the same way at the same time. Compiled for each client, the
    statement is what costs most.
    """
    alike: defaultdict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
    renamed: list[Client] = []
    tagged: list[Client] = []
    intervals: list[StatusInterval] = []
    for before, after, said in changes:
        values = _differences(before, after)
        if said is not None:
            values["said"] = said
        if values:
            row = {f"new_{name}": value for name, value in values.items()}
            alike[tuple(values)].append({"which": after.uuid, **row})
        renamed += [after] if client_index.SEARCHED & values.keys() else []
        tagged += [after] if "tags" in values else []
        interval = closed(before, after) if "interval_since" in values else None
        intervals += [] if interval is None else [interval]
    for names, rows in alike.items():
        await connection.execute(_change_of(names), rows)
    await availability.append(connection, intervals)
    await client_index.note(connection, renamed)
    await client_index.note_tags(connection, tagged)


def _differences(before: Client, after: Client) -> dict[str, Any]:
    values = {name: getattr(after, name) for name in _FIELDS if getattr(after, name) != getattr(before, name)}
    if "name" in values or "hostname" in values:
        values["sort_key"] = sort_key(after.name, after.hostname, after.uuid)
    return values


@lru_cache(maxsize=256)
def _change_of(names: tuple[str, ...]) -> Update:
    return (
        update(clients)
        .where(clients.c.uuid == bindparam("which"))
        .values({name: bindparam(f"new_{name}") for name in names})
    )


async def create(connection: Connection, client: Client) -> None:
    """Insert one client as it stands."""
    values = {name: getattr(client, name) for name in _FIELDS}
    values["sort_key"] = sort_key(client.name, client.hostname, client.uuid)
    await connection.execute(insert(clients).values(**values))
    await client_index.note(connection, [client])
    await client_index.note_tags(connection, [client])


async def remove(connection: Connection, uuid: str) -> bool:
    """Delete a client with all its history; tell whether it was there."""
    return (await connection.execute(delete(clients).where(clients.c.uuid == uuid))).rowcount > 0
