"""A scenario as values. All times are seconds of the virtual clock."""

from dataclasses import dataclass
from enum import StrEnum

from infoscreen.domain.recovery import Rung


class Kind(StrEnum):
    """What can befall a fleet."""

    CRASH = "crash"
    """The application dies; the agent goes on reporting it."""
    SERVICE_FAILED = "service_failed"
    """systemd has given up on the application and says so."""
    HANG = "hang"
    """No more reports, but the connection stays; a reboot is still heard."""
    DEAF = "deaf"
    """As ``hang``, and no command is heard either."""
    DEAD = "dead"
    """The host is gone for good: power supply, storage."""
    SELF_REBOOT = "self_reboot"
    """The host reboots of its own accord, for updates."""
    NETWORK = "network"
    """Single clients lose their network; they live on behind it."""
    SITE_OUTAGE = "site_outage"
    """Whole sites lose their network."""
    BROKER_OUTAGE = "broker_outage"
    """The broker is gone, for clients and daemon alike."""
    DAEMON_OUTAGE = "daemon_outage"
    """The daemon is stopped and started again; the broker keeps its messages."""
    CLOCK_STEP = "clock_step"
    """The clients' own clocks jump."""


FOR_EVERYBODY = frozenset({Kind.BROKER_OUTAGE, Kind.DAEMON_OUTAGE})
PASSES = frozenset({Kind.SELF_REBOOT, Kind.NETWORK, Kind.SITE_OUTAGE, Kind.BROKER_OUTAGE, Kind.DAEMON_OUTAGE})
"""What always passes by itself, and needs a time for it."""

CURES = {
    Kind.CRASH: Rung.RESTART_APP,
    Kind.SERVICE_FAILED: Rung.RESTART_APP,
    Kind.HANG: Rung.REBOOT_HOST,
    Kind.DEAF: Rung.POWER_CYCLE,
    Kind.DEAD: Rung.HUMAN,
}
"""The mildest action that helps, unless the scenario says otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that befalls clients at ``at``, ``times`` times ``every`` so many seconds.

    How many are befallen: ``clients`` of them, or a ``share`` of the fleet, or ``sites`` whole ones, or each
    client so and so often (``per_year``) at random during the whole scenario. ``within`` spreads the
    beginnings; ``same`` befalls the same clients each time.

    ``lasts`` is how long it takes to pass by itself, None for never. ``cured_by`` is the mildest action that
    ends it; a milder one helps for ``again_after`` seconds. ``seconds`` is how far a clock jumps.
    """

    what: Kind
    at: float = 0
    clients: int | None = None
    share: float | None = None
    sites: int | None = None
    per_year: float | None = None
    within: float = 0
    times: int = 1
    every: float = 0
    same: bool = True
    lasts: tuple[float, float] | None = None
    cured_by: Rung | None = None
    again_after: float = 0
    seconds: float = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rhythm:
    """A share of the fleet beats every ``seconds``."""

    seconds: float
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """What the clients are like.

    ``jitter`` is the share by which single heartbeats come early or late, ``lost`` the share of them that
    never arrives, ``skew`` how far clocks are off at most. ``keepalive`` is MQTT's: after one and a half of
    it the broker notices a dead connection. Ranges are drawn from evenly.
    """

    rhythms: tuple[Rhythm, ...] = (Rhythm(seconds=30, share=1.0),)
    jitter: float = 0.02
    lost: float = 0.0
    skew: float = 0.0
    sites: int = 0
    persistent_sessions: float = 1.0
    keepalive: float = 60.0
    reconnects_within: float = 20.0
    app_start: tuple[float, float] = (4.0, 12.0)
    boot: tuple[float, float] = (30.0, 60.0)

    @property
    def is_steady(self) -> bool:
        """Tell whether no healthy client can ever be missed, so that its heartbeats need not be played."""
        longest = max(rhythm.seconds for rhythm in self.rhythms) * (1 + 2 * self.jitter)
        return self.lost == 0 and self.jitter <= 0.1 and longest < 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A fleet and what befalls it. ``outage`` marks those in which every action is one too many."""

    name: str
    description: str
    lasts: float
    clients: int
    fleet: Fleet
    events: tuple[Event, ...]
    outage: bool = False
