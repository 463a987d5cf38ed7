"""Patients and snapshots for the tests of the recovery: defaults, so that only what matters is named."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from infoscreen.domain.clients import Client, Condition, Presence, ProcessStatus
from infoscreen.domain.commands import Action, ClientCommand, CommandStatus, Source
from infoscreen.domain.recovery import (
    Attempt,
    Census,
    Decision,
    Incident,
    Ladder,
    Observer,
    Patient,
    Phase,
    Plan,
    RecoveryPolicy,
    Rung,
    Snapshot,
    decide,
)

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=3)
POLICY = RecoveryPolicy(enabled=True)
DRY = replace(POLICY, enabled=False)
OBSERVER = Observer(listening_since=LONG_AGO, started_at=LONG_AGO)
WELL = Census(online=1_000, asked=40, heard=40)


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def ahead(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def client(status: Condition = Condition.CRASHED, since: float = 120, **facts: object) -> Client:
    """A client with ``status`` for so many seconds; a silent one was heard until 45 s before that."""
    silent = status in {Condition.HUNG, Condition.UNREACHABLE}
    last = ago(since + 45) if silent else ago(5)
    told: dict[str, object] = {
        "uuid": "11111111-1111-4111-8111-111111111111",
        "created_at": LONG_AGO,
        "status": status,
        "status_since": ago(since),
        "last_heard_at": last,
        "last_alive": last,
        "heartbeats": 1_000,
        "heartbeat_interval_seconds": 10.0,
        "heartbeat_deviation_seconds": 0.5,
        "stale_after_seconds": 45.0,
        "stale_at": last + timedelta(seconds=45),
        "process_status": ProcessStatus.CRASHED if status is Condition.CRASHED else ProcessStatus.RUNNING,
        "presence": Presence.OFFLINE if status is Condition.UNREACHABLE else Presence.ONLINE,
    }
    if status is Condition.SERVICE_FAILED:
        told |= {
            "service_failed_at": ago(since),
            "service_failed_unit": "infoscreen-app.service",
            "service_failed_raised_at": ago(since),
            "process_status": ProcessStatus.STOPPED,
        }
    return Client(**(told | facts))


def patient(
    status: Condition = Condition.CRASHED,
    since: float = 120,
    *,
    of: dict[str, object] | None = None,
    **facts: object,
) -> Patient:
    """A patient; ``of`` are facts of the client, the rest are facts of the patient."""
    told: dict[str, object] = {"client": client(status, since, **(of or {})), "well_until": ago(since)}
    return Patient(**(told | facts))


def attempt(rung: Rung, seconds_ago: float, *, published: bool = True, **facts: object) -> Attempt:
    at = ago(seconds_ago)
    told: dict[str, object] = {"rung": rung, "decided_at": at, "published_at": at if published else None}
    return Attempt(**(told | facts))


def ladder(phase: Phase = Phase.CLIMBING, seconds_ago: float = 3_000, **facts: object) -> Ladder:
    at = ago(seconds_ago)
    told: dict[str, object] = {
        "phase": phase,
        "began_at": at,
        "unwell_since": at,
        "changed_at": at,
        "rung": Rung.RESTART_APP,
    }
    return Ladder(**(told | facts))


def command(action: Action = Action.REBOOT_HOST, seconds_ago: float = 10) -> ClientCommand:
    return ClientCommand(
        command_id="c",
        client_uuid="11111111-1111-4111-8111-111111111111",
        action=action,
        status=CommandStatus.PUBLISHED,
        source=Source.OPERATOR,
        requested_by=1,
        reason=None,
        created_at=ago(seconds_ago),
        expires_at=ago(seconds_ago - 240),
        deadline_at=ago(seconds_ago - 240),
    )


def snapshot(
    patients: Iterable[Patient],
    *,
    fleet: Census = WELL,
    sites: dict[str, Census] | None = None,
    incidents: Iterable[Incident] = (),
    observer: Observer = OBSERVER,
    size: int = 1_000,
) -> Snapshot:
    return Snapshot(
        observer=observer,
        fleet=fleet,
        fleet_size=size,
        patients=tuple(patients),
        sites=sites or {},
        incidents=tuple(incidents),
    )


def plan_for(
    *patients: Patient, policy: RecoveryPolicy = POLICY, now: datetime = NOW, **world: object
) -> Plan:
    return decide(snapshot(patients, **world), policy, now)  # type: ignore[arg-type]


def decision_for(
    one: Patient, policy: RecoveryPolicy = POLICY, now: datetime = NOW, **world: object
) -> Decision:
    (decision,) = plan_for(one, policy=policy, now=now, **world).decisions
    return decision
