"""Clients: reading them for people, and writing what was heard of them."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import (
    Row,
    Select,
    Update,
    and_,
    bindparam,
    delete,
    insert,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from infoscreen.domain.clients import Client, Condition, sort_key
from infoscreen.storage.columns import chunks, one_of, utc_text
from infoscreen.storage.engine import Connection
from infoscreen.storage.tables import WATCHED, clients

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
    return await _matching(connection, select(*COLUMNS), uuids)


async def for_change(connection: Connection, uuids: Collection[str]) -> dict[str, Client]:
    """Return the same, and hold the rows until this transaction ends (SQLite holds everything anyway)."""
    return await _matching(connection, select(*COLUMNS).order_by(clients.c.uuid).with_for_update(), uuids)


async def _matching(
    connection: Connection, statement: Select[Any], uuids: Collection[str]
) -> dict[str, Client]:
    found: dict[str, Client] = {}
    for chunk in chunks(uuids):
        rows = await connection.execute(statement.where(clients.c.uuid.in_(chunk)))
        found.update((client.uuid, client) for client in map(client_of, rows))
    return found


# --- what was heard


class Pulse(NamedTuple):
    """As much of a client as a heartbeat needs; ``said`` digests what its last one told besides times."""

    uuid: str
    status: Condition
    said: int
    last_alive: datetime | None
    last_device_time: datetime | None
    heartbeats: int
    interval: float | None
    deviation: float | None


_PULSE: Select[Any] = select(
    clients.c.uuid,
    clients.c.status,
    clients.c.said,
    clients.c.last_alive,
    clients.c.last_device_time,
    clients.c.heartbeats,
    clients.c.heartbeat_interval_seconds,
    clients.c.heartbeat_deviation_seconds,
)


async def pulses(connection: Connection, uuids: Collection[str]) -> dict[str, Pulse]:
    """Return the pulse of those of the clients that exist."""
    found: dict[str, Pulse] = {}
    for chunk in chunks(uuids):
        rows = await connection.execute(_PULSE.where(clients.c.uuid.in_(chunk)))
        found.update((row[0], Pulse._make(row)) for row in rows)
    return found


class QuietBeat(NamedTuple):
    """What a heartbeat that told nothing new changes; ``beats`` heartbeats of one client at once."""

    uuid: str
    received_at: datetime
    device_time: datetime
    skew: float
    beats: int
    interval: float | None
    deviation: float | None
    stale_after: float
    stale_at: datetime


_QUIET_BEAT = (
    update(clients)
    .where(clients.c.uuid == bindparam("uuid_"))
    .values(
        last_heard_at=bindparam("received_at"),
        last_alive=bindparam("received_at"),
        last_device_time=bindparam("device_time"),
        clock_skew_seconds=bindparam("skew"),
        heartbeats=clients.c.heartbeats + bindparam("beats"),
        heartbeats_since_boot=clients.c.heartbeats_since_boot + bindparam("beats"),
        heartbeat_interval_seconds=bindparam("interval"),
        heartbeat_deviation_seconds=bindparam("deviation"),
        stale_after_seconds=bindparam("stale_after"),
        stale_at=bindparam("stale_at_"),
    )
)
_ON_SQLITE = _QUIET_BEAT.compile(dialect=sqlite.dialect())


async def save_quiet_beats(connection: Connection, beats: Sequence[QuietBeat]) -> None:
    """Write heartbeats that told nothing new: nearly all there are, so this is the hottest statement of all.

    On SQLite the compiled statement goes to the driver with ready values, which takes a third of the time.
    """
    if not beats:
        return
    if connection.dialect.name != "sqlite":
        rows = [{"uuid_": beat.uuid, "stale_at_": beat.stale_at} | beat._asdict() for beat in beats]
        await connection.execute(_QUIET_BEAT, rows)
        return
    received = utc_text(beats[0].received_at)
    values = [
        (
            received,
            received,
            utc_text(beat.device_time),
            beat.skew,
            beat.beats,
            beat.beats,
            beat.interval,
            beat.deviation,
            beat.stale_after,
            utc_text(beat.stale_at),
            beat.uuid,
        )
        for beat in beats
    ]
    await connection.exec_driver_sql(str(_ON_SQLITE), values)


async def register(connection: Connection, uuids: Collection[str], now: datetime) -> None:
    """Create the clients; those that exist already are left alone."""
    if not uuids:
        return
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(clients).on_conflict_do_nothing(index_elements=["uuid"])
    rows = [
        {"uuid": uuid, "created_at": now, "status_since": now, "sort_key": sort_key(None, None, uuid)}
        for uuid in uuids
    ]
    await connection.execute(statement, rows)


async def existing(connection: Connection, uuids: Collection[str]) -> set[str]:
    """Return which of the UUIDs belong to a client."""
    found: set[str] = set()
    for chunk in chunks(uuids):
        found.update(
            (await connection.scalars(select(clients.c.uuid).where(clients.c.uuid.in_(chunk)))).all()
        )
    return found


async def change(connection: Connection, uuid: str, values: Mapping[str, Any]) -> None:
    """Set columns of one client."""
    if values:
        await connection.execute(update(clients).where(clients.c.uuid == uuid).values(**values))


async def save_changes(
    connection: Connection, before: Client, after: Client, said: int | None = None
) -> None:
    """Write the fields in which ``after`` differs, and the digest of its last heartbeat if given."""
    await save_all_changes(connection, [(before, after, said)])


async def save_all_changes(
    connection: Connection, changes: Iterable[tuple[Client, Client, int | None]]
) -> None:
    """Do the same for many clients, with one statement for all that differ in the same fields.

    A crowd does the same thing at the same time: it comes, goes or returns. Made anew for each client, the
    statement is what costs most.
    """
    alike: defaultdict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
    for before, after, said in changes:
        values = _differences(before, after)
        if said is not None:
            values["said"] = said
        if values:
            row = {f"new_{name}": value for name, value in values.items()}
            alike[tuple(values)].append({"which": after.uuid, **row})
    for names, rows in alike.items():
        await connection.execute(_change_of(names), rows)


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


async def heard(connection: Connection, uuids: Collection[str], at: datetime) -> None:
    """Note that something other than a heartbeat was heard of the clients."""
    if uuids:
        statement = update(clients).where(clients.c.uuid == bindparam("key")).values(last_heard_at=at)
        await connection.execute(statement, [{"key": uuid} for uuid in uuids])


async def create(connection: Connection, client: Client) -> None:
    """Insert one client as it stands."""
    values = {name: getattr(client, name) for name in _FIELDS}
    values["sort_key"] = sort_key(client.name, client.hostname, client.uuid)
    await connection.execute(insert(clients).values(**values))


async def remove(connection: Connection, uuid: str) -> bool:
    """Delete a client with all its history; tell whether it was there."""
    return (await connection.execute(delete(clients).where(clients.c.uuid == uuid))).rowcount > 0


# --- what time does


async def fallen_silent(
    connection: Connection, now: datetime, listened_for: timedelta, longest: timedelta
) -> list[Client]:
    """Return clients whose silence has passed their threshold while we listened, but does not show yet.

    Among them those who were last heard in the future, by a clock that was set back since; ``longest`` is
    more than any threshold.
    """
    due = and_(
        one_of(clients.c.status, WATCHED),
        or_(clients.c.stale_at <= now, clients.c.stale_at > now + longest),
        clients.c.stale_after_seconds <= listened_for.total_seconds(),
    )
    return [client_of(row) for row in await connection.execute(select(*COLUMNS).where(due).limit(5_000))]


async def out_of_maintenance(connection: Connection, now: datetime) -> list[Client]:
    """Return clients that still show a maintenance that is over."""
    due = and_(clients.c.status == Condition.MAINTENANCE, clients.c.maintenance_until <= now)
    return [client_of(row) for row in await connection.execute(select(*COLUMNS).where(due).limit(5_000))]


async def awaiting_clear(connection: Connection) -> list[str]:
    """Return the clients whose retained failure an operator has acknowledged and the broker still holds."""
    statement = select(clients.c.uuid).where(text("clients.service_failed_clear_pending"))
    return list((await connection.scalars(statement.limit(1_000))).all())
