"""Steps that a simulated device takes at their times; ``now`` is an argument."""

import heapq
from collections.abc import Callable
from datetime import datetime
from itertools import count

Step = Callable[[datetime], None]
"""What is to be done, told the time at which it is really done."""


class Agenda:
    """Steps in the order of their times, and of their adding where those are equal."""

    def __init__(self) -> None:
        self._steps: list[tuple[datetime, int, Step]] = []
        self._order = count()

    @property
    def due(self) -> datetime | None:
        """Return the time of the next step, None when there is none."""
        return self._steps[0][0] if self._steps else None

    def add(self, at: datetime, step: Step) -> None:
        """Let ``step`` be taken at ``at``."""
        heapq.heappush(self._steps, (at, next(self._order), step))

    def pop(self, now: datetime) -> Step | None:
        """Take out the next step that is due, None when none is."""
        if not self._steps or self._steps[0][0] > now:
            return None
        return heapq.heappop(self._steps)[2]

    def clear(self) -> None:
        """Forget all steps."""
        self._steps.clear()
