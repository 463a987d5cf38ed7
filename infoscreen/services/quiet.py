"""Heartbeats and health that say nothing new but times and readings, which is most of them."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from infoscreen.domain.clients import Condition
from infoscreen.domain.presence import Beat, Rhythm, StalePolicy, alive_at, beaten
from infoscreen.services.beats import Beats
from infoscreen.services.reports import Told, state_of
from infoscreen.storage import heartbeats
from infoscreen.storage.engine import Connection
from infoscreen.storage.heartbeats import Pulse, QuietBeat, QuietHealth, Vitals
from infoscreen.wire.messages import Health

STEADY = frozenset({Condition.ONLINE, Condition.CRASHED, Condition.SERVICE_FAILED, Condition.MAINTENANCE})
"""Conditions that a heartbeat which tells nothing new leaves as they are."""


def quiet_beat(
    pulse: Pulse, beats: Beats, now: datetime, listening_since: datetime | None, policy: StalePolicy
) -> QuietBeat:
    """Return what heartbeats that tell nothing new change in their client."""
    newest = beats.newest
    rhythm = beaten(
        Rhythm(pulse.interval, pulse.deviation, pulse.heartbeats),
        pulse.last_alive,
        pulse.last_device_time,
        None,
        Beat(now, newest.timestamp, None, beats.count),
        listening_since,
        policy,
    )
    threshold = rhythm.threshold_seconds(policy)
    alive = alive_at(pulse.last_alive, pulse.last_device_time, newest.timestamp, now, listening_since)
    return QuietBeat(
        pulse.uuid,
        now,
        alive,
        newest.timestamp,
        (newest.timestamp - now).total_seconds() if alive == now else pulse.skew,
        beats.count,
        rhythm.interval,
        rhythm.deviation,
        threshold,
        now + timedelta(seconds=threshold),
    )


async def quiet_health(
    connection: Connection, told: Sequence[tuple[str, Told]], telling: Collection[str], now: datetime
) -> tuple[list[QuietHealth], list[tuple[str, Told]]]:
    """Return health that changes readings only, the newest of each client, and all other reports.

    ``telling`` are clients whose heartbeats in the same batch say something new; theirs is never quiet.
    """
    by_client: dict[str, list[Told]] = {}
    for uuid, one in told:
        by_client.setdefault(uuid, []).append(one)
    candidates = {
        uuid: [one.report for one in all_of_it if isinstance(one.report, Health)]
        for uuid, all_of_it in by_client.items()
        if uuid not in telling
        and all(isinstance(one.report, Health) and not one.unread and not one.replay for one in all_of_it)
    }
    known = await heartbeats.vitals(connection, candidates)
    quiet = {
        uuid: [_readings(uuid, one, now) for one in all_of_it]
        for uuid, all_of_it in candidates.items()
        if uuid in known and all(_is_quiet(one, known[uuid]) for one in all_of_it)
    }
    return (
        [_newest(readings) for readings in quiet.values()],
        [(uuid, one) for uuid, one in told if uuid not in quiet],
    )


def _is_quiet(health: Health, client: Vitals) -> bool:
    if client.status not in STEADY or '"health.' in client.unread_fields:
        return False
    state = {} if health.actual_state is None else state_of(health.actual_state)
    return all(getattr(client, name) == value for name, value in state.items())


def _readings(uuid: str, health: Health, now: datetime) -> QuietHealth:
    broker = health.broker_connection
    return QuietHealth(
        uuid,
        now,
        health.model_dump_json(exclude_none=True, exclude={"uuid"}),
        None if broker is None else broker.reconnect_count,
        None if broker is None else broker.last_disconnect_at,
    )


def _newest(readings: Sequence[QuietHealth]) -> QuietHealth:
    """Return the last of some readings, with what only earlier ones said."""
    newest = readings[-1]
    for one in reversed(readings[:-1]):
        if newest.reconnects is None:
            newest = newest._replace(reconnects=one.reconnects)
        if newest.disconnected_at is None:
            newest = newest._replace(disconnected_at=one.disconnected_at)
    return newest
