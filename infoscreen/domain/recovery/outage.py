"""When silence is not the clients' fault: outages of the fleet or a site, storms, and outages in the making.

An outage is an incident with a begin and an end, kept by the caller. Whether one is in the making is judged
anew each time, from witnesses and from how many fell silent together.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from infoscreen.domain.clients import Client
from infoscreen.domain.recovery.policy import (
    MOST_INGEST_LAG,
    MOST_LOOP_LAG,
    MOST_SETTLING,
    OUTAGE_BEGINS,
    OUTAGE_ENDS,
    OUTAGE_LEAST,
    STORM,
    WELL_RECENTLY,
    RecoveryPolicy,
)
from infoscreen.domain.recovery.reasons import Reason

WITNESSES = 40
"""So many clients are asked. That an outage of half the fleet spares them all is one chance in 10^12."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observer:
    """How well the daemon itself sees. ``listening_since`` is None while it is not connected."""

    listening_since: datetime | None
    started_at: datetime
    ingest_lag: timedelta = timedelta(0)
    loop_lag: timedelta = timedelta(0)


class Census(NamedTuple):
    """The well clients of the fleet or of one site, counted by the caller.

    ``online`` are shown so now; whoever counts may stop at ``count_up_to``, more change no decision. Of the
    ``asked``, online clients that beat often enough to be witnesses (``can_witness``), at most ``WITNESSES``
    and taken in an order that has nothing to do with the network, ``heard`` were heard within
    ``policy.witness_within``.
    """

    online: int
    asked: int = 0
    heard: int = 0


class Counts(NamedTuple):
    """Of the fleet or of one site: ``silent`` of the clients that were well recently are silent now.

    Silence that a command explains is left out of both. ``unheard`` is the share of the witnesses that were
    not heard, 0 to 1, or None when there are none.
    """

    well_recently: int
    silent: int
    unheard: float | None = None


class IncidentKind(StrEnum):
    """What an incident is about."""

    FLEET_OUTAGE = "fleet_outage"
    SITE_OUTAGE = "site_outage"
    OBSERVER = "observer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """One outage, named by kind, site and ``began_at``; since ``calm_since`` it is over and settling.

    ``silent`` is how many clients were silent when it was last looked at, ``returned_at`` when that number
    last went down. Both are to be stored with it; without them it only settles sooner.
    """

    kind: IncidentKind
    began_at: datetime
    site: str | None = None
    calm_since: datetime | None = None
    ended_at: datetime | None = None
    silent: int = 0
    returned_at: datetime | None = None


class Blindness(NamedTuple):
    """Why the observer cannot be trusted, and until when if that is known.

    ``starting``: the daemon has only just been started, which is no incident.
    """

    reason: Reason
    until: datetime | None
    starting: bool = False


def blindness(observer: Observer, policy: RecoveryPolicy, now: datetime) -> Blindness | None:
    """Return why nothing can be said of any client just now, or None."""
    if observer.listening_since is None:
        starting = now < observer.started_at + policy.observer_grace
        return Blindness(Reason.BROKER_DISCONNECTED, None, starting)
    seeing_from = max(observer.listening_since, observer.started_at) + policy.observer_grace
    if now < seeing_from:
        return Blindness(Reason.OBSERVER_GRACE, seeing_from)
    if observer.ingest_lag > MOST_INGEST_LAG or observer.loop_lag > MOST_LOOP_LAG:
        return Blindness(Reason.INGEST_LAG, None)
    return None


def count_up_to(silent: int) -> int:
    """Return the number of online clients beyond which counting changes no decision.

    ``silent`` is the number of silent patients of the fleet or site.
    """
    return 100 * silent // STORM + OUTAGE_LEAST


def counted_since(incidents: Collection[Incident], site: str | None, now: datetime) -> datetime:
    """Return since when a client must have been well to count as well recently; ``site`` None: in the fleet.

    Within an outage that is its begin, less the usual time: else after ten minutes nobody would be left to
    be counted, and it would seem to end.
    """
    began = [
        one.began_at
        for one in incidents
        if one.ended_at is None
        and (
            one.kind is IncidentKind.FLEET_OUTAGE
            or (one.kind is IncidentKind.SITE_OUTAGE and site is not None and one.site == site)
        )
    ]
    return min([now, *began]) - WELL_RECENTLY


def can_witness(client: Client, policy: RecoveryPolicy) -> bool:
    """Tell whether the client beats so often that not hearing it for ``witness_within`` means something."""
    interval, deviation = client.heartbeat_interval_seconds, client.heartbeat_deviation_seconds
    if interval is None or deviation is None:
        return False
    return interval + 2 * deviation <= policy.witness_within.total_seconds()


def is_dark(counts: Counts) -> bool:
    """Tell whether so many are silent that it is an outage."""
    return counts.silent >= OUTAGE_LEAST and 100 * counts.silent >= OUTAGE_BEGINS * counts.well_recently


def is_calm(counts: Counts) -> bool:
    """Tell whether few enough are silent for an outage to be over."""
    return counts.silent == 0 or 100 * counts.silent < OUTAGE_ENDS * counts.well_recently


def is_suspected(counts: Counts) -> bool:
    """Tell whether those who are silent but not yet stale could make it an outage.

    Clients have thresholds of their own, so an outage shows slowly: those that beat fast are missed first.
    Until the slow ones are missed as well, their last heartbeats tell. The border lies below that of an
    outage, because witnesses are a sample.
    """
    if counts.unheard is None:
        return False
    unheard = counts.unheard * (counts.well_recently - counts.silent)
    silent = counts.silent + unheard
    return unheard >= 1 and silent >= OUTAGE_LEAST and 100 * silent >= OUTAGE_ENDS * counts.well_recently


def storm_until(
    silent_since: Sequence[datetime], counts: Counts, policy: RecoveryPolicy, now: datetime
) -> datetime | None:
    """Return when the storm will have passed if nobody else falls silent, or None if there is none.

    ``silent_since`` are the times at which the clients that are silent now fell so, in any order.
    """
    least = max(OUTAGE_LEAST, -(-STORM * counts.well_recently // 100))
    lately = sorted((at for at in silent_since if at > now - policy.storm_cooldown), reverse=True)
    if len(lately) < least:
        return None
    # It passes when one fewer than ``least`` are left in the window.
    return lately[least - 1] + policy.storm_cooldown


def followed(
    incidents: Sequence[Incident],
    blind: Blindness | None,
    fleet: Counts,
    sites: Mapping[str, Counts],
    policy: RecoveryPolicy,
    now: datetime,
) -> tuple[Incident, ...]:
    """Return the incidents after what is seen now: old ones gone on or ended, new ones begun.

    While the observer is blind only its own incident moves. Within an outage of the fleet no site's begins:
    it is one incident. When the fleet's is settling, the sites that are still dark get one of their own, so
    that the return of the others is not held against them.
    """
    is_open = [one for one in incidents if one.ended_at is None]
    observed = [one for one in is_open if one.kind is IncidentKind.OBSERVER]
    others = [one for one in is_open if one.kind is not IncidentKind.OBSERVER]
    if blind is not None:
        return tuple(others + (observed or _begun_blind(blind, now)))
    ended = [replace(one, ended_at=now) for one in observed]
    fleet_open = [one for one in others if one.kind is IncidentKind.FLEET_OUTAGE]
    followed_fleet = [_moved(one, fleet, policy, now) for one in fleet_open]
    if not fleet_open and is_dark(fleet):
        followed_fleet = [Incident(kind=IncidentKind.FLEET_OUTAGE, began_at=now, silent=fleet.silent)]
    followed_sites = [
        _moved(one, sites.get(one.site or "", Counts(0, 0)), policy, now)
        for one in others
        if one.kind is IncidentKind.SITE_OUTAGE
    ]
    if not any(one.calm_since is None for one in followed_fleet):
        known = {one.site for one in followed_sites}
        followed_sites += [
            Incident(kind=IncidentKind.SITE_OUTAGE, site=site, began_at=now, silent=counts.silent)
            for site, counts in sites.items()
            if site not in known and is_dark(counts)
        ]
    return (*ended, *followed_fleet, *followed_sites)


def _begun_blind(blind: Blindness, now: datetime) -> list[Incident]:
    """Begin an incident of the observer's own; neither a start of the daemon is one nor what follows one."""
    if blind.starting or blind.reason is Reason.OBSERVER_GRACE:
        return []
    return [Incident(kind=IncidentKind.OBSERVER, began_at=now)]


def _moved(incident: Incident, counts: Counts, policy: RecoveryPolicy, now: datetime) -> Incident:
    returned_at = now if counts.silent < incident.silent else incident.returned_at
    seen = replace(incident, silent=counts.silent, returned_at=returned_at)
    if not is_calm(counts):
        return replace(seen, calm_since=None)
    settling = replace(seen, calm_since=incident.calm_since or now)
    return replace(settling, ended_at=now) if now >= settled_at(settling, policy) else settling


def settled_at(incident: Incident, policy: RecoveryPolicy) -> datetime:
    """Return when an outage that is over will have settled, unless somebody else returns before.

    As long as clients keep coming back, the others may as well; but not for ever, since one that comes and
    goes would hold up all the rest.
    """
    calm_since = incident.calm_since or incident.began_at
    quiet_since = max(calm_since, incident.returned_at or calm_since)
    return min(quiet_since + policy.storm_cooldown, calm_since + MOST_SETTLING * policy.storm_cooldown)
