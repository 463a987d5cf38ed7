"""A client.

The device behind a screen, as the daemon knows it. Facts only; ``presence`` draws the conclusions.
"""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple, TypedDict

from infoscreen.domain.codes import Packed
from infoscreen.domain.hours import ALWAYS, HoursSource
from infoscreen.domain.letters import in_order


class Condition(StrEnum):
    """How a client is, worst of all that holds (see ``presence.condition_of``)."""

    NEVER_SEEN = "never_seen"
    ONLINE = "online"
    SERVICE_FAILED = "service_failed"
    CRASHED = "crashed"
    NOT_SHOWING = "not_showing"
    HUNG = "hung"
    UNREACHABLE = "unreachable"
    INCOMPREHENSIBLE = "incomprehensible"
    DUPLICATE = "duplicate"
    MAINTENANCE = "maintenance"
    SHUT_DOWN = "shut_down"
    OFF_HOURS = "off_hours"


STALE = frozenset({Condition.HUNG, Condition.UNREACHABLE})
"""The two ways of being stale: silent while the broker still says online, and silent altogether."""

UNCLEAR = frozenset({Condition.INCOMPREHENSIBLE, Condition.DUPLICATE})
"""Heard, but how they are cannot be told; nothing is done to them automatically."""

WELL = frozenset(
    {
        Condition.ONLINE,
        Condition.MAINTENANCE,
        Condition.SHUT_DOWN,
        Condition.OFF_HOURS,
        Condition.NEVER_SEEN,
    }
)
"""As monitoring counts: nobody needs to look at these clients."""

PROBLEMS = frozenset(Condition) - WELL
"""Somebody needs to look at these, unless somebody does already."""


class ProcessStatus(StrEnum):
    """How the signage application is, as the device says it; ``other`` is any word that we do not know.

    ``other`` is no evidence of anything: neither of a crash nor of a running application.
    """

    RUNNING = "running"
    STARTING = "starting"
    STOPPED = "stopped"
    CRASHED = "crashed"
    OTHER = "other"


class Presence(StrEnum):
    """What the broker knows of the connection: the device's own word, or its last will."""

    ONLINE = "online"
    OFFLINE = "offline"


@dataclass(frozen=True, slots=True)
class FailedUnit:
    """A unit that systemd gave up on; ``failed_at`` by the device's clock, ``raised_at`` by ours."""

    unit: str
    failed_at: datetime
    result: str | None
    raised_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Speaker:
    """A device as it speaks under a client's identity, by its newest heartbeat.

    ``booted_at`` and ``device_time`` are of its own clock, which was off by ``skew`` seconds; ``heard_at`` is
    the receipt.
    """

    boot_id: str | None
    booted_at: datetime | None
    hostname: str | None
    ip: str | None
    device_time: datetime
    skew: float | None
    heard_at: datetime


class SignKind(StrEnum):
    """What tells that a screen is dark or stuck, although its device is heard."""

    SCREEN_OFF = "screen_off"
    BLACK = "black"
    STUCK = "stuck"
    UNCHANGED = "unchanged"
    NOT_RUNNING = "not_running"


class Sign(NamedTuple):
    """A sign that nothing is shown, seen so many ``times`` in a row, but counted no further than needed.

    ``since`` and ``seen_at`` are receipts; ``told_at`` is of the device's clock: the last frame, the last
    change of the picture, or the capture that was counted last. Zero times: we switched it off ourselves by a
    command that was asked for at ``since``, and nothing counts (``showing.after_command``).
    """

    kind: SignKind
    times: int
    since: datetime
    seen_at: datetime
    told_at: datetime | None = None


class ClientEdit(TypedDict, total=False):
    """What people can change about a client; what is left out stays, None empties."""

    name: str | None
    site: str | None
    tags: list[str]
    description: str | None
    maintenance_until: datetime | None
    auto_recovery: bool
    own_hours: str | None
    own_time_zone: str | None
    own_country: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenMac:
    """A hardware address under which the client announced itself: since when, and when last."""

    mac: str
    hostname: str | None
    ip: str | None
    since: datetime
    heard_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityUser:
    """One of several devices that use the same identity, as far as it told about itself."""

    hostname: str | None
    ip: str | None
    boot_id: str | None
    mac: str | None
    heard_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class PastDuplicate:
    """A time in which several devices used the identity."""

    since: datetime
    until: datetime
    devices: list[IdentityUser]


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityEvidence:
    """Hardware addresses, the newest first, once there was more than one; and the last duplicate."""

    macs: list[SeenMac] = field(default_factory=list)
    last_duplicate: PastDuplicate | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """One client, named by its UUID as canonical text, which is how topics, rows and JSON spell it.

    ``booted_at``, ``app_started_at``, ``service_failed_at`` and ``mqtt_last_disconnect_at`` are of the
    device's own clock; all other times are the daemon's.

    ``heartbeat_interval_seconds`` and ``heartbeat_deviation_seconds`` are learned; ``stale_at`` is the last
    receipt plus ``stale_after_seconds``. ``last_heard_at`` is the receipt of anything at all, ``last_alive``
    of a heartbeat. ``well_until`` is when it last ceased to be online, ``heartbeats_at_change`` how many
    heartbeats had come when its status changed last. ``boot_seen_at`` is when it booted, as we saw it;
    ``boot_said_at`` and ``app_said_at`` are when the device told first of the present boot and of the present
    start of its application, ``*_heard_at`` when that was received, which is later if the message has waited.
    ``start_due_at`` is set while the application starts or is stopped, and says by when it must run.

    ``failed_services`` are all failures that nobody has acknowledged, the newest first; ``service_failed_*``
    repeat that one. ``unread_fields`` are the fields of its newest messages that could not be read, by kind
    and name, with the JSON that stood there. ``refused_*`` is about the last message that could not be read
    at all; ``refused_until`` is until when the client counts as speaking because of it,
    ``refused_defect`` the code of what was wrong and its arguments.
    ``interval_since`` is when its present interval began (``availability``), None if when it was created.
    ``signs`` tell of a dark or stuck screen; there are enough of them while ``not_showing_until`` lies ahead.
    ``keepalive_seconds`` is that of its broker connection, as it announced it. ``best_skew_seconds`` is the
    clock's offset by the promptest message of the present boot. ``speakers`` are the boots before it, or the
    other devices that use its identity; ``identity`` is None while nothing speaks for several of them; see
    ``duplicates``.

    ``own_hours``, ``own_time_zone`` and ``own_country`` are set at the client itself and win over its site's;
    ``hours`` are those that count, in ``time_zone`` (None: the server's). ``hours_fault`` says what is
    wrong with them, in which case they count as always. The last four are about the present span of the
    hours, see ``domain.hours.Timed``; ``services.schedules`` keeps them up to date.
    """

    uuid: str
    created_at: datetime
    status: Condition = Condition.NEVER_SEEN
    status_since: datetime
    well_until: datetime | None = None
    heartbeats_at_change: int = 0
    name: str | None = None
    hostname: str | None = None
    ip: str | None = None
    mac: str | None = None
    site: str | None = None
    tags: list[str] = field(default_factory=list)
    description: str | None = None
    hardware_model: str | None = None
    os_release: str | None = None
    software_version: str | None = None
    agent_version: str | None = None
    capabilities: list[str] = field(default_factory=list)
    persistent_session: bool | None = None
    last_heard_at: datetime | None = None
    last_alive: datetime | None = None
    last_device_time: datetime | None = None
    clock_skew_seconds: float | None = None
    heartbeats: int = 0
    heartbeats_since_boot: int = 0
    heartbeat_interval_seconds: float | None = None
    heartbeat_deviation_seconds: float | None = None
    stale_after_seconds: float | None = None
    stale_at: datetime | None = None
    process_status: ProcessStatus | None = None
    current_process: str | None = None
    process_pid: int | None = None
    app_started_at: datetime | None = None
    start_due_at: datetime | None = None
    boot_id: str | None = None
    booted_at: datetime | None = None
    boot_seen_at: datetime | None = None
    boot_said_at: datetime | None = None
    boot_heard_at: datetime | None = None
    app_said_at: datetime | None = None
    app_heard_at: datetime | None = None
    presence: Presence | None = None
    presence_at: datetime | None = None
    health: dict[str, Any] | None = None
    health_at: datetime | None = None
    signs: list[Sign] = field(default_factory=list)
    not_showing_until: datetime | None = None
    interval_since: datetime | None = None
    service_failed_at: datetime | None = None
    service_failed_unit: str | None = None
    service_failed_result: str | None = None
    service_failed_raised_at: datetime | None = None
    failed_services: list[FailedUnit] = field(default_factory=list)
    service_failed_acked_at: datetime | None = None
    service_failed_clear_requested_at: datetime | None = None
    service_failed_clear_pending: bool = False
    service_failed_echo_at: datetime | None = None
    mqtt_reconnect_count: int | None = None
    mqtt_last_disconnect_at: datetime | None = None
    maintenance_until: datetime | None = None
    auto_recovery: bool = True
    shut_down_at: datetime | None = None
    keepalive_seconds: int | None = None
    unread_fields: dict[str, str] = field(default_factory=dict)
    refused_at: datetime | None = None
    refused_until: datetime | None = None
    refused_reason: str | None = None
    refused_defect: Packed | None = None
    refused_count: int = 0
    best_skew_seconds: float | None = None
    speakers: list[Speaker] = field(default_factory=list)
    duplicate_score: int = 0
    duplicate_since: datetime | None = None
    duplicate_seen_at: datetime | None = None
    identity: IdentityEvidence | None = None
    own_hours: str | None = None
    own_time_zone: str | None = None
    own_country: str | None = None
    hours: str = ALWAYS
    hours_source: HoursSource = HoursSource.DEFAULT
    time_zone: str | None = None
    hours_fault: str | None = None
    within_hours: bool = True
    hours_since: datetime | None = None
    expected_by: datetime | None = None
    next_change_at: datetime | None = None

    @property
    def label(self) -> str:
        """Return what people call it: its name, else its host name, else the start of its UUID."""
        return self.name or self.hostname or str(self.uuid)[:8]


def sort_key(name: str | None, hostname: str | None, uuid: str) -> str:
    """Return what lists are sorted by: the label as people sort it, to be compared by characters."""
    return in_order(name or hostname or uuid)[:200]
