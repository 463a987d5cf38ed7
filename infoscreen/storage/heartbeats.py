"""The hot path of ingest: what heartbeats and health need to know of their client, and change there."""

import json
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import (
    Column,
    ColumnElement,
    Select,
    String,
    bindparam,
    cast,
    func,
    select,
    update,
)
from sqlalchemy.dialects import sqlite

from infoscreen.domain.clients import Condition, ProcessStatus
from infoscreen.storage.columns import chunks, utc_text, utc_time
from infoscreen.storage.engine import Connection
from infoscreen.storage.tables import clients


class Pulse(NamedTuple):
    """As much of a client as messages need that may tell nothing new but times and readings.

    ``said`` digests what its last heartbeat told besides times; ``unread_fields`` and ``signs`` are the
    columns' JSON.
    """

    uuid: str
    status: Condition
    said: int
    last_alive: datetime | None
    last_device_time: datetime | None
    heartbeats: int
    interval: float | None
    deviation: float | None
    skew: float | None
    process_status: ProcessStatus | None
    current_process: str | None
    process_pid: int | None
    app_started_at: datetime | None
    unread_fields: str
    signs: str | None


_PULSE: Select[Any] = select(
    clients.c.uuid,
    clients.c.status,
    clients.c.said,
    clients.c.last_alive,
    clients.c.last_device_time,
    clients.c.heartbeats,
    clients.c.heartbeat_interval_seconds,
    clients.c.heartbeat_deviation_seconds,
    clients.c.clock_skew_seconds,
    clients.c.process_status,
    clients.c.current_process,
    clients.c.process_pid,
    clients.c.app_started_at,
    cast(clients.c.unread_fields, String),  # as text: decoding JSON is what costs most
    cast(clients.c.signs, String),
)
_PULSE_ON_SQLITE = (
    str(_PULSE.compile(dialect=sqlite.dialect())) + " WHERE uuid IN (SELECT value FROM json_each(?))"
)
_CONDITIONS = {condition.value: condition for condition in Condition}
_PROCESS_STATUSES = {status.value: status for status in ProcessStatus}


async def pulses(connection: Connection, uuids: Collection[str]) -> dict[str, Pulse]:
    """Return the pulse of those of the clients that exist."""
    if connection.dialect.name == "sqlite":
        given = (json.dumps(list(uuids)),)
        rows = await connection.exec_driver_sql(_PULSE_ON_SQLITE, given)
        return {row[0]: _pulse_on_sqlite(row) for row in rows}
    found: dict[str, Pulse] = {}
    for chunk in chunks(uuids):
        rows = await connection.execute(_PULSE.where(clients.c.uuid.in_(chunk)))
        found.update((row[0], Pulse._make(row)) for row in rows)
    return found


def _pulse_on_sqlite(row: Sequence[Any]) -> Pulse:
    """Return what SQLAlchemy's types would make of a row, in a third of the time."""
    uuid, status, said, alive, device_time, beats, interval, deviation, skew = row[:9]
    process_status, process, pid, started, unread, signs = row[9:]
    return Pulse(
        uuid,
        _CONDITIONS[status],
        said,
        utc_time(alive),
        utc_time(device_time),
        beats,
        interval,
        deviation,
        skew,
        None if process_status is None else _PROCESS_STATUSES[process_status],
        process,
        pid,
        utc_time(started),
        unread,
        signs,
    )


class QuietBeat(NamedTuple):
    """What heartbeats that told nothing new change in their client; ``beats`` is how many there were.

    ``alive_at`` differs from the time of receipt only if the heartbeat has waited at the broker.
    """

    alive_at: datetime
    device_time: datetime
    skew: float | None
    beats: int
    interval: float | None
    deviation: float | None
    stale_after: float
    stale_at: datetime


class QuietHealth(NamedTuple):
    """New readings of a client; ``health`` is the message as JSON."""

    health: str
    reconnects: int | None
    disconnected_at: datetime | None


class Quiet(NamedTuple):
    """What one client said in a batch that told nothing new but times and readings; either part or both."""

    uuid: str
    beat: QuietBeat | None
    health: QuietHealth | None


class _Statement:
    """The update that a heartbeat, health, or both at once cause; SQLite rewrites a whole row for each."""

    def __init__(self, *, beat: bool, health: bool) -> None:
        c = clients.c
        values: list[tuple[Column[Any], ColumnElement[Any]]] = [(c.last_heard_at, _given(c.last_heard_at))]
        if beat:
            values += [
                (c.last_alive, _given(c.last_alive)),
                (c.last_device_time, _given(c.last_device_time)),
                (c.clock_skew_seconds, _given(c.clock_skew_seconds)),
                (c.heartbeats, c.heartbeats + _given(c.heartbeats)),
                (c.heartbeats_since_boot, c.heartbeats_since_boot + _given(c.heartbeats_since_boot)),
                (c.heartbeat_interval_seconds, _given(c.heartbeat_interval_seconds)),
                (c.heartbeat_deviation_seconds, _given(c.heartbeat_deviation_seconds)),
                (c.stale_after_seconds, _given(c.stale_after_seconds)),
                (c.stale_at, _given(c.stale_at)),
            ]
        if health:
            values += [
                (c.health_at, _given(c.health_at)),
                (c.health, _given(c.health)),
                (c.mqtt_reconnect_count, _unless_none(c.mqtt_reconnect_count)),
                (c.mqtt_last_disconnect_at, _unless_none(c.mqtt_last_disconnect_at)),
            ]
        self.statement = update(clients).where(c.uuid == bindparam("uuid_")).ordered_values(*values)
        self.names = [*(f"new_{column.name}" for column, _ in values), "uuid_"]
        self.on_sqlite = str(self.statement.compile(dialect=sqlite.dialect()))


def _given(column: Column[Any]) -> ColumnElement[Any]:
    return bindparam(f"new_{column.name}", type_=column.type)


def _unless_none(column: Column[Any]) -> ColumnElement[Any]:
    return func.coalesce(_given(column), column)


_STATEMENTS = {
    (beat, health): _Statement(beat=beat, health=health)
    for beat, health in ((True, False), (False, True), (True, True))
}


async def save_quiet(connection: Connection, quiet: Collection[Quiet], now: datetime) -> None:
    """Write what clients said that told nothing new: nearly all there is, so this is the hottest write.

    On SQLite the compiled statement goes to the driver with ready values, which takes a third of the time.
    """
    is_sqlite = connection.dialect.name == "sqlite"
    time: Callable[[datetime | None], Any] = _sqlite_time if is_sqlite else _same
    received = time(now)
    rows: dict[tuple[bool, bool], list[tuple[Any, ...]]] = {}
    for uuid, beat, health in quiet:
        values: tuple[Any, ...] = (received,)
        if beat is not None:
            values += (
                received if beat.alive_at is now else time(beat.alive_at),
                time(beat.device_time),
                beat.skew,
                beat.beats,
                beat.beats,
                beat.interval,
                beat.deviation,
                beat.stale_after,
                time(beat.stale_at),
            )
        if health is not None:
            told = health.health if is_sqlite else json.loads(health.health)
            values += (received, told, health.reconnects, time(health.disconnected_at))
        rows.setdefault((beat is not None, health is not None), []).append((*values, uuid))
    for shape, some in rows.items():
        one = _STATEMENTS[shape]
        if is_sqlite:
            await connection.exec_driver_sql(one.on_sqlite, some)
        else:
            named = [dict(zip(one.names, values, strict=True)) for values in some]
            await connection.execute(one.statement, named)


def _sqlite_time(at: datetime | None) -> str | None:
    return None if at is None else utc_text(at)


def _same(at: datetime | None) -> datetime | None:
    return at


async def heard(connection: Connection, uuids: Collection[str], at: datetime) -> None:
    """Note that something other than a heartbeat was heard of the clients."""
    for chunk in chunks(uuids):
        await connection.execute(update(clients).where(clients.c.uuid.in_(chunk)).values(last_heard_at=at))
