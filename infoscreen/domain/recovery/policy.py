"""What the operator can set of the automatic recovery, and the numbers that are fixed. No rules in here."""

from dataclasses import dataclass
from datetime import timedelta
from enum import IntEnum

OUTAGE_BEGINS, OUTAGE_ENDS = 55, 40
"""Percent of silent clients between which an outage neither begins nor ends (recovery design)."""

OUTAGE_LEAST = 3
"""Fewer silent clients are never an outage: two screens may well hang on the same day."""

WELL_RECENTLY = timedelta(minutes=10)
"""Only clients that were well so lately say something about the network; the long dead do not."""

STORM = 10
"""When so many percent fall silent within the storm cooldown, they have a cause in common, found or not."""

MOST_SETTLING = 6
"""An outage settles for so many cooldowns at most, however long clients keep coming back."""

MOST_INGEST_LAG = timedelta(seconds=10)
MOST_LOOP_LAG = timedelta(seconds=5)

MOST_PATIENCE = timedelta(minutes=15)
"""A client that keeps coming back by itself is waited for ever longer, but not longer than this."""


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

    The waits run from the publication of an attempt. ``stale_maximum`` is the longest threshold of silence
    that any client can have, ``command_expiry`` the time after which an unsent command is given up.
    """

    enabled: bool = False
    poll: timedelta = timedelta(seconds=15)
    grace: timedelta = timedelta(seconds=60)
    observer_grace: timedelta = timedelta(seconds=360)
    max_concurrent: int = 5
    storm_cooldown: timedelta = timedelta(seconds=300)
    recovered_heartbeats: int = 3
    recovered_after: timedelta = timedelta(seconds=60)
    relapse: timedelta = timedelta(seconds=900)
    restart_attempts: int = 2
    reboot_attempts: int = 1
    power_cycle_attempts: int = 1
    reboots_per_hour: int = 2
    power_cycles_per_day: int = 3
    restart_wait: timedelta = timedelta(seconds=120)
    reboot_wait: timedelta = timedelta(seconds=600)
    power_cycle_wait: timedelta = timedelta(seconds=900)
    stale_minimum: timedelta = timedelta(seconds=45)
    stale_maximum: timedelta = timedelta(seconds=180)
    command_expiry: timedelta = timedelta(seconds=240)

    @property
    def witness_within(self) -> timedelta:
        """Return how lately a client must have been heard to speak against an outage.

        Whoever is acted on for its silence has been silent for at least its threshold and the grace, and its
        first missing heartbeat was due a third into the threshold. What is heard after that was heard after
        any outage that could explain the silence had begun.
        """
        return self.grace + self.stale_minimum * 2 / 3

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

    def limit(self, rung: Rung) -> tuple[int, timedelta] | None:
        """Return how many attempts one client may have in what time; None for no limit of its own."""
        match rung:
            case Rung.REBOOT_HOST:
                return self.reboots_per_hour, timedelta(hours=1)
            case Rung.POWER_CYCLE:
                return self.power_cycles_per_day, timedelta(days=1)
            case Rung.RESTART_APP | Rung.HUMAN:
                return None
