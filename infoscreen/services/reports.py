"""What each device message does to the client it came from: a fold of messages over a frozen ``Client``.

No I/O in here; ``ingest`` loads, folds and saves.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple, assert_never

from infoscreen.domain.availability import interval_begin
from infoscreen.domain.clients import STALE, Client, Condition, Presence, ProcessStatus, Speaker
from infoscreen.domain.codes import Fact
from infoscreen.domain.duplicates import Heard, device_name, devices_of, discovered, turned
from infoscreen.domain.error_codes import MessageDefect, reason_of
from infoscreen.domain.events import TimelineKind
from infoscreen.domain.failures import Services, emptied, reported, summed_up
from infoscreen.domain.history import Happening
from infoscreen.domain.presence import (
    Backlog,
    Beat,
    Rhythm,
    StalePolicy,
    alive_at,
    beaten,
    condition_of,
    start_due_at,
)
from infoscreen.domain.showing import is_prompt, meant, not_showing_until, seen
from infoscreen.domain.verification import moved
from infoscreen.services.beats import Beats, Run, digest
from infoscreen.services.sights import sight_of
from infoscreen.storage.heartbeats import Pulse
from infoscreen.storage.timeline import NewEntry
from infoscreen.wire.messages import (
    ActualState,
    Discovery,
    Health,
    Heartbeat,
    PresenceReport,
    ServiceCleared,
    ServiceFailed,
)
from infoscreen.wire.reading import Unread

ALARMING = STALE | {
    Condition.CRASHED,
    Condition.NOT_SHOWING,
    Condition.SERVICE_FAILED,
    Condition.INCOMPREHENSIBLE,
    Condition.DUPLICATE,
}
"""Conditions an operator wants to be told of."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Messages of one client that could not be understood: why the last one was refused, and how many."""

    defect: Fact[MessageDefect]
    count: int


ClientReport = Health | ServiceFailed | ServiceCleared | PresenceReport | Discovery | Refusal


class Told(NamedTuple):
    """A report, and which of its fields could not be read. A ``replay`` is what the broker has retained."""

    report: ClientReport
    unread: tuple[Unread, ...] = ()
    replay: bool = False


@dataclass(slots=True)
class Folding:
    """One client while a batch is folded into it: as it is by now, and what there is to tell about it."""

    before: Client
    client: Client
    said: int | None = None
    failures_before: Services = field(default_factory=dict)
    failures: Services = field(default_factory=dict)
    entries: list[NewEntry] = field(default_factory=list)
    alert: bool = False


def fold_beats(
    folding: Folding,
    beats: Beats,
    now: datetime,
    listening_since: datetime | None,
    backlog: Backlog | None,
    policy: StalePolicy,
) -> None:
    """Take in heartbeats that tell something new."""
    before, newest = folding.client, beats.newest
    beat = Beat(now, newest.timestamp, newest.boot_id, beats.count)
    rhythm = beaten(
        Rhythm(before.heartbeat_interval_seconds, before.heartbeat_deviation_seconds, before.heartbeats),
        before.last_alive,
        before.last_device_time,
        before.boot_id,
        beat,
        listening_since,
        policy,
    )
    threshold = rhythm.threshold_seconds(policy)
    folding.said = digest(beats)
    for run in beats.runs:
        _take_run(folding, run, now, backlog, policy)
    folding.client = replace(
        folding.client,
        last_heard_at=now,
        heartbeats=rhythm.beats,
        heartbeat_interval_seconds=rhythm.interval,
        heartbeat_deviation_seconds=rhythm.deviation,
        stale_after_seconds=threshold,
        stale_at=now + timedelta(seconds=threshold),
        shut_down_at=None,
    )
    _tell_duplicate(folding, before, now)


def _tell_duplicate(folding: Folding, before: Client, now: datetime) -> None:
    """Write a line once two devices under the identity are recognised."""
    if folding.client.duplicate_since is None or before.duplicate_since is not None:
        return
    found = devices_of(folding.client)
    devices = [asdict(one) | {"heard_at": one.heard_at.isoformat()} for one in found]
    names = {"first": device_name(found[0]), "second": device_name(found[-1])}
    fact = Fact(Happening.TWO_DEVICES, names)
    _tell(folding, now, TimelineKind.STATUS, fact, {"devices": devices})


def _take_run(
    folding: Folding, run: Run, now: datetime, backlog: Backlog | None, policy: StalePolicy
) -> None:
    """Take in the heartbeats of one device in a row."""
    client, newest = folding.client, run.newest
    skew = (newest.timestamp - now).total_seconds()
    alive = alive_at(client.last_alive, client.last_device_time, newest.timestamp, now, backlog)
    speaker = Speaker(
        boot_id=newest.boot_id,
        booted_at=newest.booted_at,
        hostname=newest.hostname,
        ip=newest.ip,
        device_time=newest.timestamp,
        skew=skew,
        heard_at=now,
    )
    turn = turned(client, speaker, client.heartbeat_interval_seconds)
    if turn.heard is Heard.LATE:
        # Said before the reboot, and by now outdated; but something was heard.
        folding.client = replace(turn.client, last_alive=alive)
        return
    new_boot = turn.heard is not Heard.SAME or client.boot_said_at is None
    new_start = _app_first_told(client, newest.app_started_at, newest.process_pid, skew, alive, now)
    folding.client = replace(
        turn.client,
        last_alive=alive,
        boot_said_at=alive if new_boot else client.boot_said_at,
        boot_heard_at=now if new_boot else client.boot_heard_at,
        **new_start,
        last_device_time=newest.timestamp,
        # Of a message that has waited, the age cannot be told from a wrong clock.
        clock_skew_seconds=skew if alive == now else client.clock_skew_seconds,
        heartbeats_since_boot=run.count
        if turn.heard is not Heard.SAME
        else client.heartbeats_since_boot + run.count,
        unread_fields=_unread(client, "heartbeat", run.unread),
        boot_seen_at=_boot_seen(newest, now) if turn.rebooted else client.boot_seen_at,
        **_signs_after_start(client, host=turn.rebooted, app=bool(new_start)),
        start_due_at=start_due_at(client, newest.process_status, now, policy, rebooted=turn.rebooted),
        **_known(
            process_status=newest.process_status,
            current_process=newest.current_process,
            process_pid=newest.process_pid,
            app_started_at=newest.app_started_at,
            boot_id=newest.boot_id,
            booted_at=newest.booted_at,
            ip=newest.ip,
            hostname=newest.hostname,
            software_version=newest.software_version,
            persistent_session=newest.persistent_session,
        ),
    )
    if turn.rebooted:
        _tell(folding, now, TimelineKind.REBOOT, Fact(Happening.REBOOTED), {"boot_id": newest.boot_id})


def _signs_after_start(client: Client, *, host: bool, app: bool) -> dict[str, Any]:
    """Return what is left of what was seen of the screen before the application or the host started."""
    if host or client.shut_down_at is not None:
        return {"signs": [], "not_showing_until": None}
    return {"signs": meant(client.signs), "not_showing_until": None} if app else {}


def _app_first_told(
    client: Client,
    started_at: datetime | None,
    pid: int | None,
    skew: float | None,
    said_at: datetime,
    now: datetime,
) -> dict[str, Any]:
    """Return since when the client tells of the present start of its application, if that is news."""
    before = client.app_started_at
    restarted = started_at is not None and (
        before is None or moved(before, client.clock_skew_seconds, started_at, skew)
    )
    another = pid is not None and client.process_pid is not None and pid != client.process_pid
    if not restarted and not another and client.app_said_at is not None:
        return {}
    return {"app_said_at": said_at, "app_heard_at": now}


LONGEST_BOOT = timedelta(minutes=15)


def _boot_seen(heartbeat: Heartbeat, now: datetime) -> datetime:
    """Return when the device booted, by our clock; its own clock is only asked how long ago that was."""
    if heartbeat.booted_at is None:
        return now
    return now - min(max(heartbeat.timestamp - heartbeat.booted_at, timedelta()), LONGEST_BOOT)


def fold(folding: Folding, told: Told, now: datetime, backlog: Backlog | None, policy: StalePolicy) -> None:
    """Take in one report other than a heartbeat.

    Neither what was retained nor the last will is a sign of life, nor is an emptied report, which may be our
    own.
    """
    client, report = folding.client, told.report
    will = isinstance(report, PresenceReport) and report.presence is Presence.OFFLINE
    if not told.replay and not will and not isinstance(report, ServiceCleared):
        client = replace(client, last_heard_at=now)
    match report:
        case Refusal():
            client = _with_refusal(client, report, now, policy)
        case Health():
            client = _with_health(folding, client, report, now, backlog, policy)
            client = replace(client, unread_fields=_unread(client, "health", told.unread))
        case Discovery():
            folding.said = 0  # it may contradict the last heartbeat, whose repetition must then be read again
            client = replace(
                discovered(client, report.mac, report.hostname, report.ip, now),
                unread_fields=_unread(client, "discovery", told.unread),
                **_known(
                    capabilities=report.capabilities,
                    keepalive_seconds=report.keepalive_seconds,
                    hostname=report.hostname,
                    ip=report.ip,
                    mac=report.mac,
                    hardware_model=report.hardware_model,
                    os_release=report.os_release,
                    software_version=report.software_version,
                    agent_version=report.agent_version,
                ),
            )
        case PresenceReport():
            client = _with_presence(folding, client, report.presence, now)
        case ServiceFailed():
            if not told.replay or report.failed_at != client.service_failed_acked_at:
                client = _with_failure(folding, client, report, now)
        case ServiceCleared():
            client = _with_withdrawal(folding, client, now)
        case _:
            assert_never(report)
    before, folding.client = folding.client, client
    _tell_duplicate(folding, before, now)


def settle(folding: Folding, now: datetime, listening_since: datetime | None) -> None:
    """Draw the conclusion: the condition that follows from what is known now."""
    client = folding.client
    condition = condition_of(client, now, listening_since)
    if condition is client.status:
        _turn(folding, now)
        return
    since = now
    if client.status is Condition.OFF_HOURS and condition in STALE and client.expected_by is not None:
        since = max(client.status_since, min(now, client.expected_by))
    folding.client = replace(
        client,
        status=condition,
        status_since=since,
        well_until=now if client.status is Condition.ONLINE else client.well_until,
        heartbeats_at_change=client.heartbeats,
    )
    _turn(folding, now)
    folding.alert = folding.alert or condition in ALARMING
    told = Fact(Happening.STATUS_CHANGED, {"from": client.status, "to": condition})
    _tell(folding, now, TimelineKind.STATUS, told)


def _turn(folding: Folding, now: datetime) -> None:
    """Let a new interval begin if the client is otherwise than it was."""
    since = interval_begin(folding.before, folding.client, now)
    if since != folding.client.interval_since:
        folding.client = replace(folding.client, interval_since=since)


def _with_refusal(client: Client, refusal: Refusal, now: datetime, policy: StalePolicy) -> Client:
    """Return the client that has spoken, and was not understood."""
    patience = timedelta(seconds=client.stale_after_seconds or policy.unlearned_seconds)
    return replace(
        client,
        refused_at=now,
        refused_until=now + patience,
        refused_reason=reason_of(refusal.defect.code),
        refused_defect={"code": refusal.defect.code.value, "arguments": refusal.defect.packed()},
        refused_count=client.refused_count + refusal.count,
    )


def _unread(client: Client, kind: str, unread: Sequence[Unread]) -> dict[str, str]:
    """Return what of the client's messages cannot be read, with the newest of this kind."""
    others = {key: said for key, said in client.unread_fields.items() if not key.startswith(f"{kind}.")}
    return others | {f"{kind}.{one.field}": one.said for one in unread}


def _with_health(
    folding: Folding,
    client: Client,
    health: Health,
    now: datetime,
    backlog: Backlog | None,
    policy: StalePolicy,
) -> Client:
    told: dict[str, Any] = {}
    if health.broker_connection is not None:
        told |= _known(
            mqtt_reconnect_count=health.broker_connection.reconnect_count,
            mqtt_last_disconnect_at=health.broker_connection.last_disconnect_at,
        )
    if health.actual_state is not None:
        actual = health.actual_state
        skew = (health.timestamp - now).total_seconds()
        said_at = alive_at(client.last_alive, client.last_device_time, health.timestamp, now, backlog)
        new_start = _app_first_told(client, actual.started_at, actual.pid, skew, said_at, now)
        if new_start:
            told |= new_start
            client = replace(client, **_signs_after_start(client, host=False, app=True))
        if says_new(actual, client):
            folding.said = 0  # it contradicts the last heartbeat, whose repetition must then be read again
        told |= _known(**{field: getattr(actual, name) for name, field in _STATE})
        told["start_due_at"] = start_due_at(client, actual.status, now, policy)
    told |= _signs(client, health, now, policy)
    return replace(client, health=json.loads(health.as_stored()), health_at=now, **told)


def _signs(client: Client, health: Health, now: datetime, policy: StalePolicy) -> dict[str, Any]:
    """Return the signs of a dark or stuck screen after a health message that is news."""
    sight = sight_of(health)
    last = None if client.health is None else datetime.fromisoformat(client.health["timestamp"])
    if not is_prompt(sight, now, client.clock_skew_seconds, last):
        return {}
    signs = seen(client.signs, sight, now, timedelta(seconds=policy.frozen_seconds))
    return {"signs": signs, "not_showing_until": not_showing_until(signs)}


_STATE = (
    ("status", "process_status"),
    ("process", "current_process"),
    ("pid", "process_pid"),
    ("started_at", "app_started_at"),
)
"""What health says of the application, and which fields of a client that is."""


def says_new(actual: ActualState, client: Client | Pulse) -> bool:
    """Tell whether health says anything of the application that differs from what is known of it."""
    for name, field_name in _STATE:
        value = getattr(actual, name)
        if value is not None and value != getattr(client, field_name):
            return True
    return False


def _with_presence(folding: Folding, client: Client, presence: Presence, now: datetime) -> Client:
    if presence is client.presence:
        return client  # the retained one again, or a redelivery
    _tell(folding, now, TimelineKind.PRESENCE, Fact(Happening.PRESENCE_CHANGED, {"presence": presence}))
    back = presence is Presence.ONLINE
    return replace(
        client, presence=presence, presence_at=now, shut_down_at=None if back else client.shut_down_at
    )


def _with_failure(folding: Folding, client: Client, failure: ServiceFailed, now: datetime) -> Client:
    services, news = reported(folding.failures, failure.unit, failure.failed_at, failure.result, now)
    folding.failures = services
    if not news:
        return client
    folding.alert = True
    fact = (
        Fact(Happening.SERVICE_FAILED_WITH_RESULT, {"unit": failure.unit, "result": failure.result})
        if failure.result
        else Fact(Happening.SERVICE_FAILED, {"unit": failure.unit})
    )
    data = {"failed_at": failure.failed_at.isoformat(), "result": failure.result}
    _tell(folding, now, TimelineKind.SERVICE_FAILED, fact, data)
    # What the broker holds now is the new one.
    client = replace(summed_up(client, services), service_failed_clear_pending=False)
    if client.process_status is ProcessStatus.RUNNING:
        # Said before the failure. Only what is heard from now on shows that the application runs again.
        folding.said = 0
        client = replace(client, process_status=None)
    return client


def _with_withdrawal(folding: Folding, client: Client, now: datetime) -> Client:
    folding.failures, unit = emptied(folding.failures, client, now)
    if client.service_failed_clear_requested_at is not None and client.service_failed_echo_at is None:
        client = replace(client, service_failed_echo_at=now)
    if unit is None:
        return client
    fact = Fact(Happening.SERVICE_WITHDRAWN, {"unit": unit})
    _tell(folding, now, TimelineKind.SERVICE_CLEARED, fact, {"by": "device"})
    return summed_up(client, folding.failures)


def _known(**told: Any) -> dict[str, Any]:
    """Return what was said; a missing optional field means unknown and leaves the last known value alone."""
    return {name: value for name, value in told.items() if value is not None}


def _tell(
    folding: Folding,
    now: datetime,
    kind: TimelineKind,
    fact: Fact[Happening],
    data: dict[str, Any] | None = None,
) -> None:
    folding.entries.append(NewEntry(client_uuid=folding.client.uuid, at=now, kind=kind, fact=fact, data=data))
