"""What each device message does to the client it came from: a fold of messages over a frozen ``Client``.

No I/O in here; ``ingest`` loads, folds and saves.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple, assert_never

from infoscreen.domain.clients import STALE, Client, Condition, Presence
from infoscreen.domain.codes import Fact
from infoscreen.domain.events import Kind
from infoscreen.domain.failures import empty_withdraws, raises
from infoscreen.domain.history import UNKNOWN, Happening
from infoscreen.domain.presence import Beat, Rhythm, StalePolicy, beaten, condition_of, start_due_at
from infoscreen.domain.visible import visible
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

ALARMING = STALE | {Condition.CRASHED, Condition.SERVICE_FAILED, Condition.INCOMPREHENSIBLE}
"""Conditions an operator wants to be told of."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Messages of one client that could not be understood: why the last one was refused, and how many."""

    reason: str
    detail: str
    count: int


ClientReport = Health | ServiceFailed | ServiceCleared | PresenceReport | Discovery | Refusal


class Told(NamedTuple):
    """A report, and which of its fields could not be read. A ``replay`` is what the broker has retained."""

    report: ClientReport
    unread: tuple[Unread, ...] = ()
    replay: bool = False


@dataclass(slots=True)
class Beats:
    """The heartbeats of one client in one batch: the newest, and how many came."""

    newest: Heartbeat
    unread: tuple[Unread, ...] = ()
    count: int = 1
    count_of_boot: int = 1

    def add(self, heartbeat: Heartbeat, unread: tuple[Unread, ...] = ()) -> None:
        """Take in one more, later heartbeat."""
        same_boot = heartbeat.boot_id == self.newest.boot_id
        self.count_of_boot = self.count_of_boot + 1 if same_boot else 1
        self.count += 1
        self.newest, self.unread = heartbeat, unread


def digest(beats: Beats) -> int:
    """Return a digest of all a heartbeat tells besides times; if it repeats, only the pulse is written.

    Of fields that could not be read it takes the names, and what was said of the process, which is the one
    that people look at. Never 0, which stands for "nothing known".
    """
    heartbeat = beats.newest
    told = (
        [one if one.field == "process_status" else one.field for one in beats.unread],
        heartbeat.process_status,
        heartbeat.current_process,
        heartbeat.process_pid,
        heartbeat.app_started_at,
        heartbeat.boot_id,
        heartbeat.booted_at,
        heartbeat.ip,
        heartbeat.hostname,
        heartbeat.software_version,
        heartbeat.persistent_session,
    )
    # Half of CRC-32's range, so that it fits PostgreSQL's integer; plus one, so that it is never 0.
    return (zlib.crc32(repr(told).encode()) >> 1) or 1


@dataclass(slots=True)
class Folding:
    """One client while a batch is folded into it: as it is by now, and what there is to tell about it."""

    before: Client
    client: Client
    said: int | None = None
    entries: list[NewEntry] = field(default_factory=list)
    alert: bool = False


def fold_beats(
    folding: Folding, beats: Beats, now: datetime, listening_since: datetime | None, policy: StalePolicy
) -> None:
    """Take in heartbeats that tell something new."""
    client, newest = folding.client, beats.newest
    rebooted = has_rebooted(client, newest)
    beat = Beat(now, newest.timestamp, newest.boot_id, beats.count)
    rhythm = beaten(
        Rhythm(client.heartbeat_interval_seconds, client.heartbeat_deviation_seconds, client.heartbeats),
        client.last_alive,
        client.last_device_time,
        client.boot_id,
        beat,
        listening_since,
        policy,
    )
    threshold = rhythm.threshold_seconds(policy)
    folding.said = digest(beats)
    folding.client = replace(
        client,
        last_heard_at=now,
        last_alive=now,
        last_device_time=newest.timestamp,
        clock_skew_seconds=(newest.timestamp - now).total_seconds(),
        heartbeats=rhythm.beats,
        heartbeats_since_boot=beats.count_of_boot if rebooted else client.heartbeats_since_boot + beats.count,
        heartbeat_interval_seconds=rhythm.interval,
        heartbeat_deviation_seconds=rhythm.deviation,
        stale_after_seconds=threshold,
        stale_at=now + timedelta(seconds=threshold),
        shut_down_at=None,
        unread_fields=_unread(client, "heartbeat", beats.unread),
        boot_seen_at=_boot_seen(newest, now) if rebooted else client.boot_seen_at,
        start_due_at=start_due_at(client, newest.process_status, now, policy, rebooted=rebooted),
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
    if rebooted:
        _tell(folding, now, Kind.REBOOT, Fact(Happening.REBOOTED), {"boot_id": newest.boot_id})


WAVERS = timedelta(seconds=30)
"""Devices compute their boot time as now minus uptime; it wavers."""

LONGEST_BOOT = timedelta(minutes=15)


def has_rebooted(client: Client, heartbeat: Heartbeat) -> bool:
    """Tell whether a heartbeat is the first of another boot."""
    if heartbeat.boot_id is not None and client.boot_id is not None:
        return heartbeat.boot_id != client.boot_id
    if heartbeat.booted_at is None or client.booted_at is None or heartbeat.boot_id != client.boot_id:
        return False
    return abs(heartbeat.booted_at - client.booted_at) > WAVERS


def _boot_seen(heartbeat: Heartbeat, now: datetime) -> datetime:
    """Return when the device booted, by our clock; its own clock is only asked how long ago that was."""
    if heartbeat.booted_at is None:
        return now
    return now - min(max(heartbeat.timestamp - heartbeat.booted_at, timedelta()), LONGEST_BOOT)


def fold(folding: Folding, told: Told, now: datetime, policy: StalePolicy) -> None:
    """Take in one report other than a heartbeat.

    Neither what was retained nor the last will is a sign of life.
    """
    client, report = folding.client, told.report
    if not told.replay and not (isinstance(report, PresenceReport) and report.presence is Presence.OFFLINE):
        client = replace(client, last_heard_at=now)
    match report:
        case Refusal():
            client = _with_refusal(client, report, now, policy)
        case Health():
            client = _with_health(folding, client, report, now, policy)
            client = replace(client, unread_fields=_unread(client, "health", told.unread))
        case Discovery():
            folding.said = 0  # it may contradict the last heartbeat, whose repetition must then be read again
            client = replace(
                client,
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
            client = _with_failure(folding, client, report, now)
        case ServiceCleared():
            client = _with_withdrawal(folding, client, now)
        case _:
            assert_never(report)
    folding.client = client


def settle(folding: Folding, now: datetime, listening_since: datetime | None) -> None:
    """Draw the conclusion: the condition that follows from what is known now."""
    client = folding.client
    condition = condition_of(client, now, listening_since)
    if condition is client.status:
        return
    folding.client = replace(
        client,
        status=condition,
        status_since=now,
        well_until=now if client.status is Condition.ONLINE else client.well_until,
        heartbeats_at_change=client.heartbeats,
    )
    folding.alert = folding.alert or condition in ALARMING
    told = Fact(Happening.STATUS_CHANGED, {"from": client.status, "to": condition})
    _tell(folding, now, Kind.STATUS, told)


def _with_refusal(client: Client, refusal: Refusal, now: datetime, policy: StalePolicy) -> Client:
    """Return the client that has spoken, and was not understood."""
    patience = timedelta(seconds=client.stale_after_seconds or policy.unlearned_seconds)
    return replace(
        client,
        refused_at=now,
        refused_until=now + patience,
        refused_reason=refusal.reason,
        refused_detail=visible(refusal.detail, one_line=True)[:500],
        refused_count=client.refused_count + refusal.count,
    )


def _unread(client: Client, kind: str, unread: Sequence[Unread]) -> dict[str, str]:
    """Return what of the client's messages cannot be read, with the newest of this kind."""
    others = {key: said for key, said in client.unread_fields.items() if not key.startswith(f"{kind}.")}
    return others | {f"{kind}.{one.field}": one.said for one in unread}


def _with_health(
    folding: Folding, client: Client, health: Health, now: datetime, policy: StalePolicy
) -> Client:
    told: dict[str, Any] = {}
    if health.broker_connection is not None:
        told |= _known(
            mqtt_reconnect_count=health.broker_connection.reconnect_count,
            mqtt_last_disconnect_at=health.broker_connection.last_disconnect_at,
        )
    if health.actual_state is not None:
        state = state_of(health.actual_state)
        if any(getattr(client, name) != value for name, value in state.items()):
            folding.said = 0  # it contradicts the last heartbeat, whose repetition must then be read again
        told |= state
        told["start_due_at"] = start_due_at(client, health.actual_state.status, now, policy)
    shown = health.model_dump(mode="json", exclude_none=True, exclude={"uuid"})
    return replace(client, health=shown, health_at=now, **told)


def state_of(actual: ActualState) -> dict[str, Any]:
    """Return what a health message says of the application, by the client's fields."""
    return _known(
        process_status=actual.status,
        current_process=actual.process,
        process_pid=actual.pid,
        app_started_at=actual.started_at,
    )


def _with_presence(folding: Folding, client: Client, presence: Presence, now: datetime) -> Client:
    if presence is client.presence:
        return client  # the retained one again, or a redelivery
    _tell(folding, now, Kind.PRESENCE, Fact(Happening.PRESENCE_CHANGED, {"presence": presence}))
    back = presence is Presence.ONLINE
    return replace(
        client, presence=presence, presence_at=now, shut_down_at=None if back else client.shut_down_at
    )


def _with_failure(folding: Folding, client: Client, failure: ServiceFailed, now: datetime) -> Client:
    if not raises(client, failure.failed_at):
        return client
    folding.alert = True
    fact = (
        Fact(Happening.SERVICE_FAILED_WITH_RESULT, {"unit": failure.unit, "result": failure.result})
        if failure.result
        else Fact(Happening.SERVICE_FAILED, {"unit": failure.unit})
    )
    data = {"failed_at": failure.failed_at.isoformat(), "result": failure.result}
    _tell(folding, now, Kind.SERVICE_FAILED, fact, data)
    return replace(
        client,
        service_failed_at=failure.failed_at,
        service_failed_unit=failure.unit,
        service_failed_result=failure.result,
        service_failed_raised_at=now,
        service_failed_clear_pending=False,  # what the broker holds now is the new one
    )


def _with_withdrawal(folding: Folding, client: Client, now: datetime) -> Client:
    withdrawn = empty_withdraws(client)
    if client.service_failed_clear_requested_at is not None and client.service_failed_echo_at is None:
        client = replace(client, service_failed_echo_at=now)
    if not withdrawn:
        return client
    fact = Fact(Happening.SERVICE_WITHDRAWN, {"unit": client.service_failed_unit or UNKNOWN})
    _tell(folding, now, Kind.SERVICE_CLEARED, fact, {"by": "device"})
    return cleared(client)


def cleared(client: Client) -> Client:
    """Return the client without its failed service, remembering which one it was."""
    return replace(
        client,
        service_failed_at=None,
        service_failed_unit=None,
        service_failed_result=None,
        service_failed_raised_at=None,
        service_failed_acked_at=client.service_failed_at or client.service_failed_acked_at,
    )


def _known(**told: Any) -> dict[str, Any]:
    """Return what was said; a missing optional field means unknown and leaves the last known value alone."""
    return {name: value for name, value in told.items() if value is not None}


def _tell(
    folding: Folding, now: datetime, kind: Kind, fact: Fact[Happening], data: dict[str, Any] | None = None
) -> None:
    folding.entries.append(NewEntry(client_uuid=folding.client.uuid, at=now, kind=kind, fact=fact, data=data))
