"""Who decides in a scenario, by which settings, and what is counted of the decisions."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum

from infoscreen.domain.commands import Timeouts
from infoscreen.domain.lockout import LockoutPolicy
from infoscreen.domain.presence import StalePolicy
from infoscreen.domain.recovery import RecoveryPolicy


class Mode(StrEnum):
    """Who decides."""

    RECOVERY = "recovery"
    NAIVE = "naive"
    """Whatever is stale or crashed is rebooted on every poll, as far as the lockout lets it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policies:
    """Every setting that the virtual daemon needs; the defaults are the daemon's."""

    recovery: RecoveryPolicy = field(default_factory=lambda: RecoveryPolicy(enabled=True))
    lockout: LockoutPolicy = field(default_factory=lambda: LockoutPolicy(3, timedelta(seconds=900)))

    @property
    def stale(self) -> StalePolicy:
        """Return the bounds of staleness."""
        return StalePolicy(
            self.recovery.stale_minimum.total_seconds(), self.recovery.stale_maximum.total_seconds()
        )

    @property
    def timeouts(self) -> Timeouts:
        """Return how long actions may take."""
        return Timeouts(
            restart_app=self.recovery.restart_wait,
            reboot_host=self.recovery.reboot_wait,
            shutdown_host=timedelta(seconds=120),
        )


@dataclass(slots=True)
class Tally:
    """What the daemon decided."""

    decisions: int = 0
    without_reason: int = 0
    alarms: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
