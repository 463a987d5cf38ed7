"""What came of a scenario, counted by the truth and not by what the daemon believes."""

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from infoscreen.domain.recovery import Rung
from infoscreen.simulator.virtual.screen import Fault


@dataclass(slots=True)
class Figures:
    """Counts of one run.

    ``recoverable`` are faults that would not pass by themselves and that a command can cure; of them,
    ``recovered`` were over at the end. ``needless`` are actions on clients that would have come back alone or
    had nothing at all (``healthy``), ``in_outages`` those sent while the client was cut off for a reason that
    it shares with others. ``late`` is how much longer each recovery took than the configured waits demand,
    which ``best`` is.
    """

    scenario: str
    policy: str
    clients: int
    lasts: float
    faults: int = 0
    recoverable: int = 0
    recovered: int = 0
    times: list[float] = field(default_factory=list)
    best: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    actions: Counter[str] = field(default_factory=Counter)
    needless: int = 0
    healthy: int = 0
    in_outages: int = 0
    alarms: int = 0
    decisions: int = 0
    without_reason: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    incidents: Counter[str] = field(default_factory=Counter)

    @property
    def disruptive(self) -> int:
        """Return the number of commands that interrupted a screen, or would have."""
        return sum(self.actions.values())

    def add(self, fault: Fault, blind: float = 0.0) -> None:
        """Count a fault, at its end or at the end of the scenario.

        ``blind`` are the seconds for which the daemon could not see while the fault lasted; they are a
        configured wait as well.
        """
        self.faults += 1
        if fault.heals_at is not None or fault.cured_by > Rung.REBOOT_HOST:
            return
        self.recoverable += 1
        if fault.healed is None:
            return
        self.recovered += 1
        self.times.append(fault.healed - fault.began)
        if fault.best is not None:
            best = fault.best + blind
            self.best.append(best - fault.began)
            self.late.append(fault.healed - best)

    def lines(self) -> list[tuple[str, str]]:
        """Return the figures for people, in the order of their weight."""
        recovered = f"{self.recovered} of {self.recoverable}" if self.recoverable else "-"
        return [
            ("faults", str(self.faults)),
            ("recovered, of those that a command can cure", recovered),
            ("time to recovery, median", in_seconds(percentile(self.times, 50))),
            ("time to recovery, 99 %", in_seconds(percentile(self.times, 99))),
            ("best possible for the configured waits, median", in_seconds(percentile(self.best, 50))),
            ("later than that, 99 %", in_seconds(percentile(self.late, 99))),
            ("disruptive actions", str(self.disruptive)),
            ("needless ones", str(self.needless)),
            ("on healthy clients", str(self.healthy)),
            ("during outages", str(self.in_outages)),
            ("calls for help", str(self.alarms)),
            ("decisions", str(self.decisions)),
            ("decisions without a reason", str(self.without_reason)),
        ]

    def as_dict(self) -> dict[str, object]:
        """Return the figures as JSON has them; seconds, None where there was nothing to measure."""
        return {
            "scenario": self.scenario,
            "policy": self.policy,
            "clients": self.clients,
            "lasts_seconds": self.lasts,
            "faults": self.faults,
            "recoverable": self.recoverable,
            "recovered": self.recovered,
            "recovered_share": self.recovered / self.recoverable if self.recoverable else None,
            "time_to_recovery_median": percentile(self.times, 50),
            "time_to_recovery_p99": percentile(self.times, 99),
            "best_possible_median": percentile(self.best, 50),
            "later_than_best_p99": percentile(self.late, 99),
            "later_than_best_most": max(self.late, default=None),
            "disruptive_actions": self.disruptive,
            "actions": dict(sorted(self.actions.items())),
            "needless_actions": self.needless,
            "actions_on_healthy": self.healthy,
            "actions_during_outages": self.in_outages,
            "calls_for_help": self.alarms,
            "decisions": self.decisions,
            "decisions_without_reason": self.without_reason,
            "reasons": dict(sorted(self.reasons.items())),
            "incidents": dict(sorted(self.incidents.items())),
        }


def in_seconds(seconds: float | None) -> str:
    """Return a length of time for people."""
    return "-" if seconds is None else f"{seconds:.0f} s"


def percentile(values: Sequence[float], percent: int) -> float | None:
    """Return the percentile of the values, by the nearest one; None of none."""
    if not values:
        return None
    if percent == 50:
        return statistics.median(values)
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]
