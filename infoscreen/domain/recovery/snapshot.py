"""What goes in: the world as the recovery sees it at one moment. Facts only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from ipaddress import IPv6Address, ip_address
from typing import NamedTuple

from infoscreen.domain.clients import Condition, Presence, ProcessStatus
from infoscreen.domain.power.outlet import OutletObstacle
from infoscreen.domain.recovery.coincidence import RATE_UNLEARNED
from infoscreen.domain.recovery.incidents import Incident, Observer, Sent
from infoscreen.domain.recovery.ladder import Attempt, Ladder


class Pause(NamedTuple):
    """Recovery is paused by hand, for the client, its site or the fleet."""

    until: datetime
    why: str


class Meanwhile(StrEnum):
    """What the recovery does while somebody takes care of a client."""

    HOLD = "hold"
    GO_ON = "go_on"


class Hold(NamedTuple):
    """Somebody takes care of the client, and the recovery keeps out of it until a time, or until told."""

    by: str
    until: datetime | None = None


class InFlight(NamedTuple):
    """An unfinished disruptive command, from any source."""

    command_id: str
    action: str
    deadline_at: datetime


class Patient(NamedTuple):
    """A client that is not well, or whose ladder is not at rest, and all that matters about it.

    A tuple, since there may be tens of thousands of them on every poll. All times are the daemon's own.
    ``reports`` counts the heartbeats since its last change of status, the first of them included; ``beats``
    all of them. ``stale_after`` and ``interval`` are its learned threshold and rhythm in seconds,
    ``keepalive`` what it announced. ``booted_at`` is when it booted, as we saw it; ``start_due_at`` by when
    its application must run, ``refused_until`` until when a message that cannot be read shows that it is
    there. ``can`` are the actions it announced, ``locked_until`` the end of the lockout for the recovery,
    ``outlet`` whether its power may be switched, ``outlet_obstacle`` why not if it has one. ``attempts`` are
    those of the last day and all since its ladder began, oldest first. The last four are its hours, see
    ``domain.hours.Timed``.
    """

    uuid: str
    status: Condition
    status_since: datetime
    site: str | None = None
    network: str | None = None
    software_version: str | None = None
    last_alive: datetime | None = None
    last_heard_at: datetime | None = None
    stale_at: datetime | None = None
    stale_after: float | None = None
    interval: float | None = None
    keepalive: float | None = None
    beats: int = 0
    reports: int = 0
    presence: Presence | None = None
    process_status: ProcessStatus | None = None
    start_due_at: datetime | None = None
    booted_at: datetime | None = None
    failed_at: datetime | None = None
    refused_until: datetime | None = None
    maintenance_until: datetime | None = None
    auto_recovery: bool = True
    can: Sequence[str] = ()
    outlet: bool = False
    ladder: Ladder | None = None
    attempts: Sequence[Attempt] = ()
    command: InFlight | None = None
    locked_until: datetime | None = None
    pause: Pause | None = None
    hold: Hold | None = None
    outlet_obstacle: OutletObstacle | None = None
    within_hours: bool = True
    hours_since: datetime | None = None
    expected_by: datetime | None = None
    next_change_at: datetime | None = None


class ScopeKind(StrEnum):
    """Within what coincidences are looked for."""

    FLEET = "fleet"
    SITE = "site"
    NETWORK = "network"


class Scope(NamedTuple):
    """The fleet, a site or a network."""

    kind: ScopeKind
    name: str = ""


FLEET = Scope(ScopeKind.FLEET)


class Population(NamedTuple):
    """How many clients of a scope have been heard within a day, and the threshold that 95 % of them keep."""

    clients: int
    threshold: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The world at one moment.

    ``patients`` are all of them. ``populations`` count all clients, the patients included; a scope that is
    missing has nobody besides its patients. ``silences`` is the usual number of silences per client and day.
    ``incidents`` are the open ones, ``waves`` the attempts made for them. ``sent`` are commands of the last
    hour to clients that have been heard since. ``night``: it is the time for careful tries.
    """

    observer: Observer
    patients: Sequence[Patient]
    populations: Mapping[Scope, Population] = field(default_factory=dict)
    silences: float = RATE_UNLEARNED
    incidents: Sequence[Incident] = ()
    waves: Mapping[str, Sequence[Attempt]] = field(default_factory=dict)
    sent: Sequence[Sent] = ()
    night: bool = False


def network_of(address: str | None) -> str | None:
    """Return the /24 or /64 network of an address as text, None if it is no address of one host's network."""
    if not address:
        return None
    if ":" not in address:
        head, _, tail = address.rpartition(".")
        return f"{head}.0/24" if head.count(".") == 2 and tail.isdigit() else None
    try:
        parsed = ip_address(address)
    except ValueError:
        return None
    if not isinstance(parsed, IPv6Address) or parsed.is_link_local:
        return None
    return f"{IPv6Address(int(parsed) >> 64 << 64)}/64"
