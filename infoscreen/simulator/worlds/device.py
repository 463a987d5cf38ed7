"""One imagined device: what it is like, how it is, and what it does. The world around it is ``World``."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from infoscreen.simulator.worlds.world import World

RUNNING, STARTING, STOPPED, CRASHED = "running", "starting", "stopped", "crashed"
CURES = ("restart_app", "reboot_host", "power_cycle", "human")
"""What ends a fault, mildest first."""

GOING_DOWN = 2.0
"""Seconds from a reboot's start until the connection ends."""


class Host(StrEnum):
    """How the host is."""

    UP = "up"
    HUNG = "hung"
    """Says nothing; the connection stands, and a reboot is heard."""
    DEAF = "deaf"
    """As hung, and nothing is heard."""
    DOWN = "down"


@dataclass(slots=True, eq=False)
class Fault:
    """What is wrong with one device.

    ``cured_by`` is the mildest action that ends it, ``heals_at`` when it is over by itself (None: never).
    A milder action than the cure helps for ``again_after`` seconds. ``cause`` names what it has in common
    with others, None for a fault of its own. ``unknowable`` marks one that passes by itself, but so late that
    nobody can be blamed for acting.
    """

    kind: str
    began: float
    cured_by: str = "restart_app"
    heals_at: float | None = None
    again_after: float = 30.0
    cause: str | None = None
    unknowable: bool = False
    healed: float | None = None
    acted: list[float] = field(default_factory=list)
    late: float = 0.0
    """Seconds by which actions came later than the configured waits demand, all together."""
    best: float | None = None
    """When the first action was possible at the earliest."""


@dataclass(slots=True, eq=False)
class Device:
    """A device; times in seconds of the world's clock.

    ``announces`` tells whether discovery names the keepalive. ``power`` is what the judge is told of its
    outlet. ``refuses`` is an error code with which every
    command is refused.
    """

    number: int
    uuid: str
    interval: float
    site: str | None = None
    ip: str | None = None
    jitter: float = 0.02
    lost: float = 0.0
    keepalive: float = 60.0
    announces: bool = True
    persistent: bool = True
    skew: float = 0.0
    boot_seconds: float = 45.0
    start_seconds: float = 8.0
    says_crashed_at_boot: float = 0.0
    refuses: str | None = None
    power: bool | dict[str, Any] = False

    host: Host = Host.UP
    app: str = RUNNING
    connected: bool = False
    cut: int = 0
    removed: bool = False
    boots: int = 0
    booted: float = 0.0
    pid: int = 1_000
    app_started: float = 0.0
    fault: Fault | None = None
    link: int = 0
    life: int = 0
    beats_planned: int = 0
    said: str | None = None
    last_packet: float = 0.0

    # What the daemon has been told, for the score.
    last_beat: float | None = None
    heard_beats: int = 0
    sick: list[float] = field(default_factory=list)
    boot_seen: float = 0.0
    boot_told: int = -1

    @property
    def is_well(self) -> bool:
        """Tell whether nothing is wrong with it."""
        return self.fault is None and self.host is Host.UP and self.app == RUNNING

    @property
    def has_outlet(self) -> bool:
        """Tell whether its power can be switched."""
        if isinstance(self.power, bool):
            return self.power
        return self.power.get("answers", "yes") == "yes" and not self.power.get("protected", False)

    @property
    def hears(self) -> bool:
        """Tell whether a command reaches it."""
        return self.connected and self.host in (Host.UP, Host.HUNG)

    def beat_body(self, world: World) -> str:
        """Return a heartbeat's payload; all but its time is made once for each state."""
        if self.said is None:
            told: dict[str, Any] = {
                "process_status": self.app,
                "process_pid": self.pid if self.app in (RUNNING, STARTING) else None,
                "app_started_at": world.stamp(self.app_started + self.skew) if self.app == RUNNING else None,
                "boot_id": f"{self.uuid[:8]}-boot-{self.boots}",
                "booted_at": world.stamp(self.booted + self.skew),
                "ip": self.ip,
                "hostname": f"screen-{self.number}",
                "persistent_session": self.persistent,
            }
            kept = {name: value for name, value in told.items() if value is not None}
            self.said = json.dumps(kept, separators=(",", ":"))[1:]
        return f'{{"timestamp":"{world.stamp(world.now + self.skew)}",{self.said}'

    def becomes(self, app: str) -> None:
        """Change the state of the application."""
        self.app = app
        self.said = None


Step = Callable[..., None]
