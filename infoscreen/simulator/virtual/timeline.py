"""The virtual clock: what is due next, and what time it is. Seconds since the scenario began."""

import heapq
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

START = datetime(2026, 1, 1, tzinfo=UTC)
"""The scenario's zero. Any other would do."""


def moment(seconds: float) -> datetime:
    """Return the time of day that the daemon's rules are told."""
    return START + timedelta(seconds=seconds)


class Timeline:
    """Runs what was planned, in order of time and then of planning."""

    def __init__(self) -> None:
        self.now = 0.0
        self._planned: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        self._count = 0

    def plan(self, at: float, what: Callable[..., None], *of: object) -> None:
        """Call ``what(*of)`` at that time, or at once if it has passed."""
        self._count += 1
        heapq.heappush(self._planned, (max(at, self.now), self._count, what, of))

    def run(self, until: float) -> None:
        """Let the time pass."""
        while self._planned and self._planned[0][0] <= until:
            self.now, _, what, of = heapq.heappop(self._planned)
            what(*of)
        self.now = until
