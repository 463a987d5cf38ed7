"""What came of a world, for people and for programs."""

import statistics
from collections import Counter
from collections.abc import Sequence

from infoscreen.simulator.worlds.world import World


def figures_of(world: World) -> dict[str, object]:
    """Return the figures as JSON has them; seconds, None where there was nothing to measure."""
    score = world.score
    curable = [fault for _, fault in score.recoverable()]
    cured = [fault for fault in curable if fault.healed is not None]
    times = [fault.healed - fault.began for fault in cured if fault.healed is not None]
    late = [fault.late for fault in cured if fault.acted]
    needless = Counter(act.needless for act in score.acts if act.needless)
    return {
        "clients": len(world.devices),
        "faults": len(score.faults),
        "recoverable": len(curable),
        "recovered": len(cured),
        "recovered_share": len(cured) / len(curable) if curable else None,
        "time_to_recovery_median": percentile(times, 50),
        "time_to_recovery_p99": percentile(times, 99),
        "later_than_best_p99": percentile(late, 99),
        "later_than_best_most": max(late, default=None),
        "disruptive_actions": len(score.acts),
        "actions": dict(sorted(Counter(act.action for act in score.acts).items())),
        "needless_actions": sum(needless.values()),
        "actions_on_healthy": needless["healthy"],
        "actions_during_outages": needless["cut off"],
        "calls_for_help": len(score.human_calls),
        "decisions": sum(score.reasons.values()),
        "decisions_without_reason": score.without_reason,
        "reasons": dict(sorted(score.reasons.items())),
        "incidents": dict(sorted(Counter(str(one["kind"]) for one in score.incidents.values()).items())),
    }


TITLES = {
    "faults": "faults",
    "recovered": "recovered",
    "recoverable": "of those that a command can cure",
    "time_to_recovery_median": "time to recovery, median",
    "time_to_recovery_p99": "time to recovery, 99 %",
    "later_than_best_p99": "later than the configured waits demand, 99 %",
    "disruptive_actions": "disruptive actions",
    "needless_actions": "needless ones",
    "actions_on_healthy": "on healthy clients",
    "actions_during_outages": "on clients that were cut off",
    "calls_for_help": "calls for help",
    "decisions": "decisions",
    "decisions_without_reason": "decisions without a reason",
}


def lines_of(figures: dict[str, object]) -> list[tuple[str, str]]:
    """Return the figures for people, in the order of their weight."""
    return [(title, _said(figures[name])) for name, title in TITLES.items()]


def _said(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.0f} s" if isinstance(value, float) else str(value)


def percentile(values: Sequence[float], percent: int) -> float | None:
    """Return the percentile of the values, by the nearest one; None of none."""
    if not values:
        return None
    if percent == 50:
        return float(statistics.median(values))
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]
