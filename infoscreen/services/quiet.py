"""Heartbeats and health that say nothing new but times and readings, which is most of them."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from infoscreen.domain.clients import Condition
from infoscreen.domain.presence import Backlog, Beat, Rhythm, StalePolicy, alive_at, beaten
from infoscreen.domain.showing import looks_well, seen
from infoscreen.services.beats import Beats, digest
from infoscreen.services.reports import Told, says_new
from infoscreen.services.sights import sight_of
from infoscreen.storage import heartbeats
from infoscreen.storage.columns import signs_of
from infoscreen.storage.engine import Connection
from infoscreen.storage.heartbeats import Pulse, Quiet, QuietBeat, QuietHealth
from infoscreen.wire.messages import Health

STEADY = frozenset(
    {
        Condition.ONLINE,
        Condition.CRASHED,
        Condition.NOT_SHOWING,
        Condition.SERVICE_FAILED,
        Condition.MAINTENANCE,
    }
)
"""Conditions that a heartbeat which tells nothing new leaves as they are."""

AT_A_STRETCH = 250
"""Clients judged between two turns of the event loop: some 3 ms."""


@dataclass(slots=True)
class Remaining:
    """What is left after ``save_quiet``: who was written, and everything that tells something new."""

    written: list[str] = field(default_factory=list)
    beats: dict[str, Beats] = field(default_factory=dict)
    reports: list[tuple[str, Told]] = field(default_factory=list)


async def save_quiet(
    connection: Connection,
    beats: Mapping[str, Beats],
    reports: Sequence[tuple[str, Told]],
    pulses: Mapping[str, Pulse],
    now: datetime,
    listening_since: datetime | None,
    backlog: Backlog | None,
    policy: StalePolicy,
) -> Remaining:
    """Write what tells nothing new, the heartbeats and the health of a client at once; return the rest.

    Health of a client whose heartbeats in the same batch say something new is never quiet.
    """
    told = _by_client(reports)
    remaining = Remaining()
    quiet: list[Quiet] = []
    loud: set[str] = set()
    for uuid in dict.fromkeys((*beats, *told)):
        pulse, heard, said = pulses.get(uuid), beats.get(uuid), told.get(uuid)
        beat = None
        if heard is not None:
            if pulse is not None and _is_quiet_beat(heard, pulse):
                beat = _quiet_beat(pulse, heard, now, listening_since, backlog, policy)
            else:
                remaining.beats[uuid] = heard
        health = None
        if said is not None:
            if (
                pulse is not None
                and uuid not in remaining.beats
                and _is_quiet_health(said, pulse, now, policy)
            ):
                health = _newest_readings(said)
            else:
                loud.add(uuid)
        if beat is None and health is None:
            continue
        remaining.written.append(uuid)
        quiet.append(Quiet(uuid, beat, health))
        if len(quiet) >= AT_A_STRETCH:
            await heartbeats.save_quiet(connection, quiet, now)
            quiet = []
    await heartbeats.save_quiet(connection, quiet, now)
    if loud:
        remaining.reports = [one for one in reports if one[0] in loud]
    return remaining


def _by_client(reports: Sequence[tuple[str, Told]]) -> dict[str, list[Told]]:
    found: defaultdict[str, list[Told]] = defaultdict(list)
    for uuid, one in reports:
        found[uuid].append(one)
    return found


def _is_quiet_beat(beats: Beats, pulse: Pulse) -> bool:
    return pulse.status in STEADY and len(beats.runs) == 1 and pulse.said == digest(beats)


def _quiet_beat(
    pulse: Pulse,
    beats: Beats,
    now: datetime,
    listening_since: datetime | None,
    backlog: Backlog | None,
    policy: StalePolicy,
) -> QuietBeat:
    newest, count = beats.newest, beats.count
    rhythm = beaten(
        Rhythm(pulse.interval, pulse.deviation, pulse.heartbeats),
        pulse.last_alive,
        pulse.last_device_time,
        None,
        Beat(now, newest.timestamp, None, count),
        listening_since,
        policy,
    )
    threshold = rhythm.threshold_seconds(policy)
    alive = alive_at(pulse.last_alive, pulse.last_device_time, newest.timestamp, now, backlog)
    return QuietBeat(
        alive,
        newest.timestamp,
        (newest.timestamp - now).total_seconds() if alive == now else pulse.skew,
        count,
        rhythm.interval,
        rhythm.deviation,
        threshold,
        now + timedelta(seconds=threshold),
    )


def _is_quiet_health(told: Sequence[Told], pulse: Pulse, now: datetime, policy: StalePolicy) -> bool:
    """Tell whether all that a client said besides heartbeats is health, and changes readings only."""
    if pulse.status not in STEADY or '"health.' in pulse.unread_fields:
        return False
    for one in told:
        report = one.report
        if not isinstance(report, Health) or one.unread or one.replay:
            return False
        if report.actual_state is not None and says_new(report.actual_state, pulse):
            return False
        if not _same_picture(report, pulse, now, policy):
            return False
    return True


def _same_picture(health: Health, pulse: Pulse, now: datetime, policy: StalePolicy) -> bool:
    """Tell whether health leaves what is known of the screen as it is."""
    if health.health_metrics is None and health.expected_state is None and pulse.signs is None:
        return True
    sight, frozen_after = sight_of(health), timedelta(seconds=policy.frozen_seconds)
    if pulse.signs is None:
        return looks_well(sight, frozen_after)
    signs = signs_of(json.loads(pulse.signs))
    return seen(signs, sight, now, frozen_after) == signs


def _newest_readings(told: Sequence[Told]) -> QuietHealth:
    """Return the readings of the last health message, with what only earlier ones said of the broker."""
    reconnects = disconnected_at = None
    for one in told:
        broker = one.report.broker_connection if isinstance(one.report, Health) else None
        if broker is not None:
            reconnects = reconnects if broker.reconnect_count is None else broker.reconnect_count
            disconnected_at = broker.last_disconnect_at or disconnected_at
    newest = told[-1].report
    assert isinstance(newest, Health)  # noqa: S101 - _is_quiet_health has seen to it
    return QuietHealth(newest.as_stored(), reconnects, disconnected_at)
