"""Stand-ins for what a test cannot have for real, or not when it wants: time, and trouble of the world."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from infoscreen.clock import ClockStep
from infoscreen.domain.errors import BrokerUnavailable, PublishRefused
from infoscreen.domain.presence import Backlog
from infoscreen.services.ports import LinkState, Outgoing
from tests.waiting import DEADLINE_SECONDS


class FakeClock:
    """A ``Clock`` that moves only when told to."""

    def __init__(self, now: datetime = datetime(2025, 3, 1, 12, tzinfo=UTC)) -> None:
        self._now = now
        self._monotonic = 1_000.0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []
        self._fell_asleep = asyncio.Event()
        self.last_step: ClockStep | None = None

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        sleeper = (self._monotonic + seconds, asyncio.get_running_loop().create_future())
        self._sleepers.append(sleeper)
        self._fell_asleep.set()
        try:
            await sleeper[1]
        finally:
            self._sleepers.remove(sleeper)

    def advance(self, seconds: float) -> None:
        """Move wall and monotonic time, and wake the sleepers that are due; they run at the next await."""
        self._now += timedelta(seconds=seconds)
        self._monotonic += seconds
        for wakes_at, future in self._sleepers:
            if wakes_at <= self._monotonic and not future.done():
                future.set_result(None)

    def set_wall_time(self, now: datetime) -> None:
        """Let the wall time jump; monotonic time and sleepers do not notice."""
        self.last_step = ClockStep(now, (now - self._now).total_seconds())
        self._now = now

    async def wait_for_sleepers(self, count: int = 1) -> None:
        """Return once ``count`` callers are asleep: a loop that has done its step and waits for its next."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while sum(not future.done() for _, future in self._sleepers) < count:
                self._fell_asleep.clear()
                await self._fell_asleep.wait()


class FakePublisher:
    """A way to the broker that keeps what it was given, and can be down or refuse."""

    def __init__(self) -> None:
        self.connected = True
        self.sent: list[Outgoing] = []
        self.fails = False
        self.refuses = False

    async def publish(self, message: Outgoing) -> None:
        if self.fails:
            raise BrokerUnavailable("no PUBACK within 10 s")
        if self.refuses:
            raise PublishRefused("not authorised")
        self.sent.append(message)


class FakeLink:
    """A listening connection in whatever state a test wants."""

    def __init__(self, clock: FakeClock, listening_since: datetime | None) -> None:
        self._clock = clock
        self.listening_since = listening_since

    @property
    def listening_since(self) -> datetime | None:
        step = self._clock.last_step
        return self._began if self._began is None or step is None or step is self._step_before else step.at

    @listening_since.setter
    def listening_since(self, at: datetime | None) -> None:
        self._began, self._step_before = at, self._clock.last_step
        self._age_then = timedelta() if at is None else self._clock.now() - at
        self._then = self._clock.monotonic()

    @property
    def state(self) -> LinkState:
        return LinkState(
            self.listening_since is not None, self.listening_since, 0, None, backlog=self._backlog
        )

    @property
    def _backlog(self) -> Backlog | None:
        if self._began is None:
            return None
        step = self._clock.last_step
        age = self._age_then + timedelta(seconds=self._clock.monotonic() - self._then)
        if step is None or step is self._step_before:
            return Backlog(self._began, age)
        in_all = self._clock.now() - self._began - age
        return Backlog(self._began, age, (timedelta(seconds=step.seconds), in_all))


class CountingMeasures:
    """Measures that a test can read."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, ...]] = Counter()

    def message(self, kind: str, outcome: str, count: int = 1) -> None:
        self.counts["message", kind, outcome] += count

    def rejected(self, reason: str, count: int = 1) -> None:
        self.counts["rejected", reason] += count

    def unread(self, field: str, count: int = 1) -> None:
        self.counts["unread", field] += count

    def command(self, action: str, status: str, count: int = 1) -> None:
        self.counts["command", action, status] += count

    def command_duration(self, action: str, seconds: float) -> None:
        self.counts["duration", action] += 1

    def recovery_decision(self, reason: str, count: int = 1) -> None:
        self.counts["decision", reason] += count

    def recovery_attempt(self, rung: str, outcome: str) -> None:
        self.counts["attempt", rung, outcome] += 1

    def recovered(self, seconds: float) -> None:
        self.counts["recovered",] += 1

    def incident(self, kind: str) -> None:
        self.counts["incident", kind] += 1

    def incidents_open(self, kinds: Mapping[str, int]) -> None:
        pass
