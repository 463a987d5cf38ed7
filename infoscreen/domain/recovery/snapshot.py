"""What goes in: the world as the recovery sees it at one moment. Facts only."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from infoscreen.domain.clients import Client
from infoscreen.domain.commands import ClientCommand
from infoscreen.domain.recovery.ladder import Attempt, Ladder
from infoscreen.domain.recovery.outage import Census, Incident, Observer


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """Recovery is paused by hand: for a client, its site or the fleet."""

    until: datetime
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Patient:
    """A client that is not well, or whose ladder is not at rest, and all that matters about it.

    ``heartbeats_in_a_row`` are those since its last change of status, the first of them included.
    ``well_until`` is when it was last seen to be no longer online, None if it never was. ``attempts`` are
    those of the last day and all since its ladder began. ``command`` is its unfinished disruptive command,
    whoever asked for it; ``locked_until`` the end of its lockout; ``outlet`` whether its power can be
    switched.
    """

    client: Client
    heartbeats_in_a_row: int = 0
    well_until: datetime | None = None
    ladder: Ladder | None = None
    attempts: tuple[Attempt, ...] = ()
    command: ClientCommand | None = None
    locked_until: datetime | None = None
    pause: Pause | None = None
    outlet: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The world at one moment.

    ``patients`` are all of them: outages are recognised by their number. ``fleet`` and ``sites`` count the
    others; of the sites, those are needed that have a silent patient or an open incident. ``fleet_size`` is
    the number of all clients; counting up to ``100 * policy.max_concurrent`` is enough. ``incidents`` are
    the open ones.
    """

    observer: Observer
    fleet: Census
    fleet_size: int
    patients: tuple[Patient, ...]
    sites: Mapping[str, Census] = field(default_factory=dict)
    incidents: tuple[Incident, ...] = ()
