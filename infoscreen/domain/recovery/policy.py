"""What the operator can set of the automatic recovery, and the numbers that are fixed. No rules in here."""

from dataclasses import dataclass, field
from datetime import timedelta
from enum import IntEnum

from infoscreen.domain.hours import HoursPolicy

MOST_INGEST_LAG = timedelta(seconds=10)
MOST_LOOP_LAG = timedelta(seconds=5)

MOST_PATIENCE = timedelta(hours=1)
"""A client that keeps coming back by itself is waited for longer each time, but not longer than this."""

UNKNOWN_KEEPALIVE_SECONDS = 300.0
"""The MQTT keepalive of a device that has announced none."""

KEEPALIVES = 1.5
"""After so many keepalives without a packet the broker drops a connection (MQTT 3.1.1, 3.1.2.10)."""

KEEPALIVE_SLACK = timedelta(seconds=5)
"""How late the broker may be in doing so, and its word in reaching us."""

UNKNOWN_RHYTHM = timedelta(minutes=30)
"""A client of which one heartbeat is known may beat as rarely as any."""

UNANSWERED_TRIES = 2
"""So many commands of one rung without any answer, and the next rung comes."""

REFUSED_AGAIN = timedelta(hours=1)
"""After a refusal the device is asked again: its clock may be right by then. The same after no answer."""

BUSY_TRIES = 2
"""So many times a device that says ``busy`` is asked again after minutes; from then on like any other."""

RELAPSED_WITHIN = timedelta(minutes=15)
"""In trouble again so soon, the attempt has not helped."""

CAREFUL_AFTER = timedelta(hours=20)
"""Once the day's actions are used up, one more at night, but not sooner than this after the last."""


class Rung(IntEnum):
    """A step of the ladder; the higher, the harsher."""

    RESTART_APP = 1
    REBOOT_HOST = 2
    POWER_CYCLE = 3
    HUMAN = 4

    @property
    def action(self) -> str:
        """Return the action's name as commands have it; nothing but a call for help for the last rung."""
        return self.name.lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryPolicy:
    """The settings of the recovery; ``enabled`` false is a dry run: everything is decided, nothing is done.

    The waits run from the publication of an attempt. ``observer_grace`` None means twice the thresholds of
    the scope. ``stale_unlearned`` is the threshold of a client whose rhythm is not known, ``command_expiry``
    the time after which an unsent command is given up, ``max_share`` the part of the fleet (0 to 1) that one
    group may have under way.
    """

    enabled: bool = False
    poll: timedelta = timedelta(seconds=15)
    grace: timedelta = timedelta(seconds=60)
    boot_grace: timedelta = timedelta(seconds=300)
    start_timeout: timedelta = timedelta(seconds=600)
    credible_absence: timedelta = timedelta(seconds=900)
    observer_grace: timedelta | None = None
    max_share: float = 0.1
    recovered_heartbeats: int = 3
    recovered_after: timedelta = timedelta(seconds=60)
    relapse: timedelta = timedelta(hours=6)
    restart_attempts: int = 2
    reboot_attempts: int = 1
    power_cycle_attempts: int = 1
    actions_per_day: int = 6
    restart_wait: timedelta = timedelta(seconds=120)
    reboot_wait: timedelta = timedelta(seconds=900)
    power_cycle_wait: timedelta = timedelta(seconds=900)
    stale_unlearned: timedelta = timedelta(seconds=180)
    command_expiry: timedelta = timedelta(seconds=240)
    hours: HoursPolicy = field(default_factory=HoursPolicy)

    def attempts(self, rung: Rung) -> int:
        """Return how often ``rung`` is tried; 0 removes it."""
        match rung:
            case Rung.RESTART_APP:
                return self.restart_attempts
            case Rung.REBOOT_HOST:
                return self.reboot_attempts
            case Rung.POWER_CYCLE:
                return self.power_cycle_attempts
            case Rung.HUMAN:
                return 0

    def wait(self, rung: Rung) -> timedelta:
        """Return how long an attempt's effect is awaited, from its publication."""
        match rung:
            case Rung.RESTART_APP:
                return self.restart_wait
            case Rung.REBOOT_HOST:
                return self.reboot_wait
            case Rung.POWER_CYCLE:
                return self.power_cycle_wait
            case Rung.HUMAN:
                return timedelta(0)
