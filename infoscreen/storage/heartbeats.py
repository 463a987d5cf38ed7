"""The hot path of ingest: what a heartbeat needs to know of its client and what it changes there."""

import json
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import (
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
from infoscreen.storage.columns import chunks, utc_text
from infoscreen.storage.engine import Connection
from infoscreen.storage.tables import clients


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
    skew: float | None


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
).where(clients.c.uuid.in_(bindparam("uuids", expanding=True)))


async def pulses(connection: Connection, uuids: Collection[str]) -> dict[str, Pulse]:
    """Return the pulse of those of the clients that exist."""
    found: dict[str, Pulse] = {}
    for chunk in chunks(uuids):
        rows = await connection.execute(_PULSE, {"uuids": chunk})
        found.update((row[0], Pulse._make(row)) for row in rows)
    return found


class QuietBeat(NamedTuple):
    """What a heartbeat that told nothing new changes; ``beats`` heartbeats of one client at once.

    ``alive_at`` differs from ``received_at`` only if it has waited at the broker.
    """

    uuid: str
    received_at: datetime
    alive_at: datetime
    device_time: datetime
    skew: float | None
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
        last_alive=bindparam("alive_at"),
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
_ON_SQLITE = str(_QUIET_BEAT.compile(dialect=sqlite.dialect()))


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
            received if beat.alive_at is beat.received_at else utc_text(beat.alive_at),
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
    await connection.exec_driver_sql(_ON_SQLITE, values)


class Vitals(NamedTuple):
    """As much of a client as a health message needs to tell whether it says anything new but readings."""

    uuid: str
    status: Condition
    process_status: ProcessStatus | None
    current_process: str | None
    process_pid: int | None
    app_started_at: datetime | None
    unread_fields: str


_VITALS: Select[Any] = select(
    *(clients.c[name] for name in Vitals._fields[:-1]),
    cast(clients.c.unread_fields, String).label("unread_fields"),  # as text: decoding JSON is what costs most
)


async def vitals(connection: Connection, uuids: Collection[str]) -> dict[str, Vitals]:
    """Return the vitals of those of the clients that exist."""
    found: dict[str, Vitals] = {}
    for chunk in chunks(uuids):
        rows = await connection.execute(_VITALS.where(clients.c.uuid.in_(chunk)))
        found.update((row[0], Vitals._make(row)) for row in rows)
    return found


class QuietHealth(NamedTuple):
    """New readings of a client; ``health`` is the message as JSON."""

    uuid: str
    at: datetime
    health: str
    reconnects: int | None
    disconnected_at: datetime | None


_QUIET_HEALTH = (
    update(clients)
    .where(clients.c.uuid == bindparam("uuid_"))
    .values(
        last_heard_at=bindparam("at_"),
        health_at=bindparam("at_"),
        health=bindparam("health_"),
        mqtt_reconnect_count=func.coalesce(bindparam("reconnects"), clients.c.mqtt_reconnect_count),
        mqtt_last_disconnect_at=func.coalesce(
            bindparam("disconnected_at", type_=clients.c.mqtt_last_disconnect_at.type),
            clients.c.mqtt_last_disconnect_at,
        ),
    )
)
_HEALTH_ON_SQLITE = _QUIET_HEALTH.compile(dialect=sqlite.dialect())


async def save_quiet_health(connection: Connection, readings: Sequence[QuietHealth]) -> None:
    """Write health that changed readings only, as directly as ``save_quiet_beats`` does."""
    if not readings:
        return
    if connection.dialect.name != "sqlite":
        rows = [
            {
                "uuid_": one.uuid,
                "at_": one.at,
                "health_": json.loads(one.health),
                "reconnects": one.reconnects,
                "disconnected_at": one.disconnected_at,
            }
            for one in readings
        ]
        await connection.execute(_QUIET_HEALTH, rows)
        return
    given = [
        {
            "uuid_": one.uuid,
            "at_": utc_text(one.at),
            "health_": one.health,
            "reconnects": one.reconnects,
            "disconnected_at": None if one.disconnected_at is None else utc_text(one.disconnected_at),
        }
        for one in readings
    ]
    order = _HEALTH_ON_SQLITE.positiontup or []
    await connection.exec_driver_sql(
        str(_HEALTH_ON_SQLITE), [tuple(values[name] for name in order) for values in given]
    )


async def heard(connection: Connection, uuids: Collection[str], at: datetime) -> None:
    """Note that something other than a heartbeat was heard of the clients."""
    for chunk in chunks(uuids):
        await connection.execute(update(clients).where(clients.c.uuid.in_(chunk)).values(last_heard_at=at))
