"""What clients and commands look like in JSON.

The names are the contract's (``Client``, ``Command``), with ``Model`` behind those that the domain has, too.
The OpenAPI document has them without it (``web.shapes``).
"""

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from typing import Any, Self

from pydantic import ConfigDict, Field

from infoscreen.domain import clients, commands, presence, timeline
from infoscreen.domain.clients import Condition, Presence, ProcessStatus
from infoscreen.domain.commands import Action, CommandStatus, Source, Verification, Waiting
from infoscreen.domain.errors import StoreTrouble
from infoscreen.domain.events import TimelineKind
from infoscreen.domain.hours import HoursSource
from infoscreen.domain.recovery import Closing, IncidentKind, Reason
from infoscreen.domain.refusals import is_refused, wrong_clock_seconds
from infoscreen.services.recovery.explain import RecoveryMode
from infoscreen.storage.paging import Page
from infoscreen.storage.recovery.incidents import StoredIncident
from infoscreen.web.api.alert_models import AlertModel
from infoscreen.web.api.broker_models import BrokerModel as BrokerModel
from infoscreen.web.api.device_models import (
    Duplicate,
    FailedServiceModel,
    PastDuplicateModel,
    RefusedModel,
    SignModel,
    UnreadField,
)
from infoscreen.web.shapes import Answer, Listing
from infoscreen.words import telling
from infoscreen.words.clients import status_reason
from infoscreen.words.speaking import say


class ClientModel(Answer):
    """One client. Every key is always there, null while unknown."""

    uuid: str
    name: str | None
    hostname: str | None
    ip: str | None
    site: str | None
    tags: list[str]
    description: str | None
    software_version: str | None
    status: Condition
    status_since: datetime
    status_reason: str = Field(description="One sentence that says why the client has its status.")
    conditions: list[Condition] = Field(description="All that hold, the one shown as status first.")
    is_alive: bool = Field(description="Heartbeats have come, and have not stopped.")
    last_alive: datetime | None = Field(description="Receipt of the last heartbeat.")
    heartbeat_interval_seconds: float | None = Field(description="As learned from its heartbeats.")
    process_status: ProcessStatus | None
    current_process: str | None
    process_pid: int | None
    app_started_at: datetime | None
    boot_id: str | None
    booted_at: datetime | None
    presence: Presence | None
    clock_skew_seconds: float | None
    health: dict[str, Any] | None
    health_at: datetime | None
    not_showing: list[SignModel] = Field(description="What tells that the screen is dark or stuck.")
    service_failed_at: datetime | None
    service_failed_unit: str | None
    failed_services: list[FailedServiceModel] = Field(description="All of them, the newest first.")
    mqtt_reconnect_count: int | None
    mqtt_last_disconnect_at: datetime | None
    hours: str = Field(description="Its operating hours that count.")
    hours_source: HoursSource = Field(description="Whose they are: its own, its site's, or nobody's (24/7).")
    time_zone: str | None = Field(description="Of its hours; null: the server's.")
    within_hours: bool = Field(description="It is meant to show something now.")
    next_change_at: datetime | None = Field(description="When its hours begin or end next.")
    hours_warning: str | None = Field(description="Why its hours count as 24/7: a code, or null.")
    maintenance_until: datetime | None
    auto_recovery: bool
    capabilities: list[str]
    keepalive_seconds: int | None
    unread_fields: list[UnreadField] = Field(description="Fields of its newest messages, if any.")
    duplicate: Duplicate | None = Field(description="Set while two devices use this identity.")
    last_duplicate: PastDuplicateModel | None = Field(description="The last time that is over, if any.")
    refused: RefusedModel | None = Field(description="Its last message that could not be read at all.")
    created_at: datetime

    @classmethod
    def of(cls, client: clients.Client, now: datetime, listening_since: datetime | None, **more: Any) -> Self:
        """Return how the client looks at ``now``; ``more`` are the fields that a subclass adds."""
        return cls(
            **{name: getattr(client, name) for name in _COPIED},
            status_reason=status_reason(client, listening_since),
            is_alive=presence.is_alive(client, now, listening_since),
            conditions=list(presence.shown_conditions(client, now, listening_since)),
            not_showing=SignModel.all_of(client),
            failed_services=[FailedServiceModel.model_validate(one) for one in client.failed_services],
            unread_fields=[UnreadField.of(key, said) for key, said in client.unread_fields.items()],
            refused=RefusedModel.of(client),
            duplicate=Duplicate.of(client),
            hours_warning=client.hours_fault,
            last_duplicate=PastDuplicateModel.of(client),
            **more,
        )


_DERIVED = {
    "status_reason",
    "is_alive",
    "conditions",
    "not_showing",
    "failed_services",
    "unread_fields",
    "refused",
    "duplicate",
    "hours_warning",
    "last_duplicate",
}
_COPIED = tuple(name for name in ClientModel.model_fields if name not in _DERIVED)


class ClientList(Listing[ClientModel]):
    """A page of clients."""


class CrashReason(StrEnum):
    """What is wrong with a crashed client."""

    PROCESS_CRASHED = "process_crashed"
    HEARTBEAT_STALE = "heartbeat_stale"


CRASH_REASONS = {
    Condition.CRASHED: CrashReason.PROCESS_CRASHED,
    Condition.HUNG: CrashReason.HEARTBEAT_STALE,
    Condition.UNREACHABLE: CrashReason.HEARTBEAT_STALE,
}


class CrashedClient(ClientModel):
    """A client whose application crashed, or that has fallen silent."""

    crash_reason: CrashReason
    seconds_since_heartbeat: float | None


class CrashedList(Listing[CrashedClient]):
    """A page of crashed clients."""


class CommandModel(Answer):
    """One command and how far it got. Every key is always there, null while it does not apply."""

    command_id: str
    client_uuid: str
    action: Action
    status: CommandStatus
    source: Source
    requested_by: int | None = Field(description="The user's id; null for the daemon itself.")
    reason: str | None
    created_at: datetime
    expires_at: datetime
    published_at: datetime | None
    accepted_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    waits_for: Waiting | None = Field(
        description="A queued command that is not sent yet waits for its turn in a bulk request, or for its "
        "client to come back."
    )
    wait_until: datetime | None = Field(description="How long it may wait for its client.")
    late: bool = Field(description="It ended after it was given up as expired.")
    error_code: str | None
    error_message: str | None
    refused: bool = Field(description="The device has refused it and tried nothing.")
    device_clock_off_seconds: float | None = Field(
        description="Refused as expired because the device's clock is off by so much."
    )
    verification: Verification | None
    verified_at: datetime | None
    verification_detail: str | None = Field(description="The evidence, said in the language asked for.")
    verification_code: str | None = Field(description="The evidence as a stable code.")
    verification_arguments: dict[str, Any] | None

    @classmethod
    def of(cls, command: commands.ClientCommand, **more: Any) -> Self:
        """Return the command with its reason and evidence as sentences; ``more`` is what a subclass adds."""
        said: dict[str, Any] = {
            "reason": telling.command_reason(command),
            "verification_detail": telling.evidence(command),
            "refused": is_refused(command),
            "device_clock_off_seconds": wrong_clock_seconds(command),
        }
        plain = {name: getattr(command, name) for name in CommandModel.model_fields if name not in said}
        return cls(**(plain | said | more))


class CommandList(Listing[CommandModel]):
    """A page of commands, newest first."""

    @classmethod
    def of(cls, page: Page[commands.ClientCommand]) -> Self:
        """Return the page as JSON has it."""
        items = [CommandModel.of(command) for command in page.items]
        return cls(items=items, next_cursor=page.next_cursor, total=page.total)


class CommandEventModel(Answer):
    """One line of a command's history. ``times`` counts equal lines that changed no status."""

    model_config = ConfigDict(serialize_by_alias=True)

    at: datetime
    from_status: CommandStatus | None = Field(serialization_alias="from")
    to_status: CommandStatus = Field(serialization_alias="to")
    by: str = Field(description="A user's name, or the part of the system that did it.")
    detail: str | None = Field(description="What else there is to say, in the language asked for.")
    code: str | None = Field(description="The same as a stable code.")
    arguments: dict[str, Any] | None
    times: int

    @classmethod
    def of(cls, event: commands.CommandEvent) -> Self:
        """Return the line with its sentence."""
        note = event.note
        return cls(
            at=event.at,
            from_status=event.from_status,
            to_status=event.to_status,
            by=event.by,
            detail=None if note is None else say(note),
            code=None if note is None else note.code,
            arguments=None if note is None else note.packed(),
            times=event.times,
        )


class CommandWithEvents(CommandModel):
    """One command with its history, oldest first."""

    model_config = ConfigDict(serialize_by_alias=True)

    events: list[CommandEventModel]

    @classmethod
    def told(cls, command: commands.ClientCommand, events: Iterable[commands.CommandEvent]) -> Self:
        """Return the command with its history."""
        return cls.of(command, events=[CommandEventModel.of(event) for event in events])


class QueuedCommand(Answer):
    """The command as it was stored; it is sent as soon as the broker takes it."""

    command: CommandModel


class Lockout(Answer):
    """Whether too many disruptive commands have locked the client, and until when."""

    locked: bool
    locked_until: datetime | None


class ClientWithCommand(ClientModel):
    """One client, with what stands in the way of the next command."""

    in_flight_command: CommandModel | None
    waiting_commands: list[CommandModel] = Field(
        description="Queued for it and not sent yet: they wait for it to come back, or for their turn."
    )
    lockout: Lockout


class LockedOutModel(Answer):
    """Members of the problem ``locked-out``; the command was stored as ``blocked_safety``."""

    locked_until: datetime | None
    command: CommandModel


class TimelineEntryModel(Answer):
    """One line of a client's timeline; ``level`` is set for log lines, ``data`` is for programs."""

    at: datetime
    kind: TimelineKind
    text: str = Field(
        description="The device's words of a log line; everything else is said in the language asked for."
    )
    code: str | None = Field(description="The same as a stable code; null for log lines.")
    arguments: dict[str, Any] | None
    level: str | None
    data: dict[str, Any] | None

    @classmethod
    def of(cls, entry: timeline.TimelineEntry) -> Self:
        """Return the line with its sentence."""
        fact = entry.fact
        return cls(
            at=entry.at,
            kind=entry.kind,
            text=telling.told(entry),
            code=None if fact is None else fact.code,
            arguments=None if fact is None else fact.packed(),
            level=entry.level,
            data=None if entry.data is None else dict(entry.data),
        )


class Timeline(Listing[TimelineEntryModel]):
    """A page of a client's timeline, newest first."""

    @classmethod
    def of(cls, page: Page[timeline.TimelineEntry]) -> Self:
        """Return the page as JSON has it."""
        items = [TimelineEntryModel.of(entry) for entry in page.items]
        return cls(items=items, next_cursor=page.next_cursor, total=page.total)


class Database(Answer):
    """Whether the database takes what is written; ``trouble`` is a code for the reason while it does not."""

    ok: bool
    trouble: StoreTrouble | None


class IncidentModel(Answer):
    """What several clients have in common, or a time at which the server itself could not see."""

    id: int
    kind: IncidentKind
    site: str | None
    network: str | None
    trouble: str | None = Field(description="What the clients of an incident of the kind alike have.")
    members: int = Field(description="Clients that have ever been part of it.")
    facts: dict[str, str | int] = Field(description="What speaks for a cause in common.")
    began_at: datetime
    calm_since: datetime | None = Field(description="Most members have been back since then.")
    stopped_at: datetime | None = Field(description="What was tried does not help: one try an hour.")
    ended_at: datetime | None
    closing: Closing | None
    acknowledged_at: datetime | None
    acknowledged_by: str | None
    comment: str | None


class Recovery(Answer):
    """How the recovery is, in short; ``GET /api/recovery`` tells all."""

    mode: RecoveryMode = Field(description="off: it has not looked at the fleet yet.")
    polled_at: datetime | None
    counts: dict[Reason, int] = Field(description="Clients by the reason of the decision for them.")
    incidents: list[IncidentModel] = Field(description="Those under way.")
    folded: int = Field(description="Unwell clients that are part of one of the incidents.")


class OverviewModel(Answer):
    """The whole at a glance: totals by status, the broker, and a page of clients."""

    generated_at: datetime
    totals: dict[Condition, int]
    problems: int = Field(description="Clients with a problem that nobody takes care of.")
    acknowledged: int = Field(description="Clients of any status that somebody takes care of.")
    broker: BrokerModel
    database: Database
    recovery: Recovery
    alerts: list[AlertModel] = Field(description="What is wrong with the installation, the gravest first.")
    clients: ClientList


class Hello(Answer):
    """What an event stream begins with."""

    generated_at: datetime
    version: str
    totals: dict[Condition, int]
    broker: BrokerModel


class UnderWay(Answer):
    """The incidents under way, as an event stream tells them when anything about the recovery changes."""

    incidents: list[IncidentModel]

    @classmethod
    def of(cls, under_way: Iterable[StoredIncident]) -> Self:
        """Return the incidents as they were stored."""
        return cls(incidents=[IncidentModel.model_validate(one) for one in under_way])


def client_list(page: Page[clients.Client], now: datetime, listening_since: datetime | None) -> ClientList:
    """Return a page of clients as they look at ``now``."""
    items = [ClientModel.of(client, now, listening_since) for client in page.items]
    return ClientList(items=items, next_cursor=page.next_cursor, total=page.total)


def crashed_list(page: Page[clients.Client], now: datetime, listening_since: datetime | None) -> CrashedList:
    """Return a page of crashed clients, each with what is wrong and for how long it has been silent."""
    items = [
        CrashedClient.of(
            client,
            now,
            listening_since,
            crash_reason=CRASH_REASONS[client.status],
            seconds_since_heartbeat=_seconds_since(client.last_alive, now),
        )
        for client in page.items
    ]
    return CrashedList(items=items, next_cursor=page.next_cursor, total=page.total)


def _seconds_since(at: datetime | None, now: datetime) -> float | None:
    return None if at is None else max(0.0, round((now - at).total_seconds(), 3))
