"""What several clients have in common: outages, troubles alike, and times at which we cannot judge at all."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

from infoscreen.domain.recovery.policy import MOST_INGEST_LAG, MOST_LOOP_LAG, RecoveryPolicy
from infoscreen.domain.recovery.reasons import Arguments, Reason


class IncidentKind(StrEnum):
    """What an incident is about. Stored and documented: never rename one."""

    FLEET_OUTAGE = "fleet_outage"
    """Clients of several sites fell silent together."""
    SITE_OUTAGE = "site_outage"
    NETWORK_OUTAGE = "network_outage"
    """The same within one /24 or /64 network."""
    LEFT_BEHIND = "left_behind"
    """An outage is over, and these are still dark; only a person can help them."""
    ALIKE = "alike"
    """The same trouble at the same time: recovered in waves. ``stopped_at``: nothing that was tried helps."""
    OBSERVER = "observer"
    """The server itself could not see."""
    COMMANDS_UNANSWERED = "commands_unanswered"
    """Clients are heard and answer no command."""

    # Not of the recovery: people are told of them, and no decision depends on them.
    CLIENT = "client"
    """One client needs a person."""
    BROKER = "broker"
    """Something is wrong with the broker that is no lost connection."""
    CERTIFICATE = "certificate"
    AUTHENTICATION = "authentication"
    """Many logins fail."""
    DATABASE = "database"
    """Nothing could be stored."""
    BACKUP = "backup"
    """The newest backup is too old."""
    POWER = "power"
    """An outlet does not come on again after a power cycle."""


OF_RECOVERY = frozenset(
    {
        IncidentKind.FLEET_OUTAGE,
        IncidentKind.SITE_OUTAGE,
        IncidentKind.NETWORK_OUTAGE,
        IncidentKind.LEFT_BEHIND,
        IncidentKind.ALIKE,
        IncidentKind.OBSERVER,
        IncidentKind.COMMANDS_UNANSWERED,
    }
)
"""Those that decisions depend on."""


OUTAGES = frozenset({IncidentKind.FLEET_OUTAGE, IncidentKind.SITE_OUTAGE, IncidentKind.NETWORK_OUTAGE})


class Closing(StrEnum):
    """How an incident ended."""

    OVER = "over"
    DISMISSED = "dismissed"
    """A person said so; what is left is treated singly."""
    GONE = "gone"
    """A day has passed; its members that are still dark count nowhere."""


SETTLED_AFTER = timedelta(minutes=10)
"""So long its members must be back for an outage to be over."""

GONE_AFTER = timedelta(days=1)

LEFT_LEAST = 2
"""So many that only a person can help, left by the same outage, are one alarm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """One incident, named by ``key``. Plain values, as they are stored.

    ``members`` is how many clients have ever been part of it. ``calm_since`` is since when enough of them are
    back. ``trouble`` is what troubles alike have in common, ``stopped_at`` since when only one canary an hour
    is tried. ``facts`` say what they have in common besides.
    """

    key: str
    kind: IncidentKind
    began_at: datetime
    site: str | None = None
    network: str | None = None
    trouble: str | None = None
    members: int = 0
    calm_since: datetime | None = None
    stopped_at: datetime | None = None
    ended_at: datetime | None = None
    closing: Closing | None = None
    facts: Arguments = field(default_factory=lambda: MappingProxyType({}))


FEW_MEMBERS = 5
FEW_SHARE = 0.2


def is_small(incident: Incident) -> bool:
    """Tell whether an outage is of a few clients of many: then chance remains conceivable."""
    well = incident.facts.get("well", 0)
    return incident.members <= FEW_MEMBERS and incident.members <= FEW_SHARE * int(well)


def followed(incident: Incident, dark: int, now: datetime, asleep: int = 0) -> Incident:
    """Return an outage after its members were counted: gone on, calm, over or gone.

    ``asleep`` are those of the dark that are outside their hours by now: neither back nor lost.
    """
    if now >= incident.began_at + GONE_AFTER and dark > asleep:
        return replace(incident, ended_at=now, closing=Closing.GONE)
    # Four of five, and two of three.
    if incident.members - dark < 4 * incident.members // 5 or incident.members == 0:
        return replace(incident, calm_since=None) if incident.calm_since is not None else incident
    if incident.calm_since is None:
        return replace(incident, calm_since=now)
    if now >= incident.calm_since + SETTLED_AFTER:
        return replace(incident, ended_at=now, closing=Closing.OVER)
    return incident


@dataclass(frozen=True, slots=True, kw_only=True)
class Observer:
    """How well the daemon itself sees. ``listening_since`` is None while it is not connected."""

    listening_since: datetime | None
    started_at: datetime
    ingest_lag: timedelta = timedelta(0)
    loop_lag: timedelta = timedelta(0)


class Blindness(NamedTuple):
    """Why nothing can be said of any client; ``starting``: the daemon was just started, no incident."""

    reason: Reason
    arguments: Mapping[str, str | int]
    starting: bool = False


START_MAY_TAKE = timedelta(minutes=5)


def blindness(observer: Observer, now: datetime) -> Blindness | None:
    """Return why nothing can be said of any client just now, or None."""
    if observer.listening_since is None:
        return Blindness(Reason.BROKER_DISCONNECTED, {}, now < observer.started_at + START_MAY_TAKE)
    if observer.ingest_lag > MOST_INGEST_LAG or observer.loop_lag > MOST_LOOP_LAG:
        ingest, loop = observer.ingest_lag.total_seconds(), observer.loop_lag.total_seconds()
        return Blindness(Reason.INGEST_LAG, {"ingest": round(ingest), "loop": round(loop)})
    return None


class Sent(NamedTuple):
    """A command that left lately, and whether its device, which is heard, has answered in any way."""

    client_uuid: str
    published_at: datetime
    answered: bool


def observing_from(observer: Observer, thresholds: timedelta, policy: RecoveryPolicy) -> datetime | None:
    """Return from when silence says something: we have listened for twice the thresholds of the scope."""
    if observer.listening_since is None:
        return None
    grace = policy.observer_grace if policy.observer_grace is not None else 2 * thresholds
    return max(observer.listening_since, observer.started_at) + grace
