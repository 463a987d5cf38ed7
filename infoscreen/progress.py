"""Deadlines of the daemon's loops: the evidence behind the answers to systemd's watchdog.

Each loop announces, before each step and before each wait, by when it will report again. A loop that misses
its deadline hangs, although the event loop may still run.
Outside of ``Progress.watching`` promises have no effect, so that loops can be used anywhere.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from infoscreen.clock import Clock

STEP_SECONDS = 120.0
"""How long a step of a part may take, by default; single transactions have shorter limits."""

FOR_EVER = float("inf")
"""For waiting until something happens that may never happen."""

SLACK_SECONDS = 30.0
"""How much later than planned a part may go on after a wait: the host may be busy."""


@dataclass(slots=True)
class _Promise:
    clock: Clock
    step_seconds: float
    until: float


_current: ContextVar[_Promise | None] = ContextVar("promise", default=None)


def expect_within(seconds: float | None = None) -> None:
    """Promise that the part which runs here is heard of again within ``seconds``, or the time of a step."""
    promise = _current.get()
    if promise is not None:
        promise.until = promise.clock.monotonic() + (promise.step_seconds if seconds is None else seconds)


def step_seconds(watchdog_seconds: float | None) -> float:
    """Return how long a step may take under a watchdog: twice its time, as ``WatchdogSec=`` gives it."""
    return STEP_SECONDS if watchdog_seconds is None else 2 * watchdog_seconds


class Progress:
    """The promises of all parts."""

    def __init__(self, clock: Clock, step_seconds: float = STEP_SECONDS) -> None:
        self._clock = clock
        self._step_seconds = step_seconds
        self._promises: dict[str, _Promise] = {}

    @contextmanager
    def watching(self, part: str) -> Iterator[None]:
        """Take what runs inside, and the tasks it starts, for this part."""
        self._promises[part] = _Promise(self._clock, self._step_seconds, FOR_EVER)
        token = _current.set(self._promises[part])
        try:
            yield
        finally:
            _current.reset(token)
            del self._promises[part]

    def hanging(self) -> list[str]:
        """Return the parts that have not kept their promise."""
        now = self._clock.monotonic()
        return [part for part, promise in self._promises.items() if promise.until < now]
