"""Takes lines in order of time, lets the daemon do what is due, and answers each poll.

Messages are taken in as the listener does, in batches of what came within two seconds; between two lines the
watch looks at the clients every few seconds, as it would.
"""

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

from infoscreen.judge import outlets
from infoscreen.judge.acts import Acts
from infoscreen.judge.answers import Answers
from infoscreen.judge.daemon import Daemon, build, settings_of
from infoscreen.judge.lines import BadLine, Line, flag_of, payload_of, seconds_of
from infoscreen.judge.surroundings import VirtualLink, VirtualPublisher
from infoscreen.judge.time import TimeScale, VirtualClock
from infoscreen.services.ports import Incoming
from infoscreen.settings import Settings
from infoscreen.storage.engine import Store
from infoscreen.storage.memory import in_memory

BATCH_SECONDS = 2.0
WATCH = timedelta(seconds=7.5)
MOST_LOOKS = 24
"""So often at most the watch looks between two lines that are far apart."""

MOST_WAITING = 1_000_000
"""Messages that may wait for the broker's return."""

Answer = dict[str, Any]


class Judge:
    """One world's judge. Lines are mappings as in ``docs/judge.md``; ``warn`` is told what has no effect."""

    def __init__(self, warn: Callable[[str], object] = lambda _: None) -> None:
        self._warn = warn
        self._scale = TimeScale()
        self._settings: Settings | None = None
        self._store: Store | None = None
        self._running = True
        self._batch: list[Incoming] = []
        self._batch_second = 0
        self._waiting: list[Incoming] = []
        self._said: set[str] = set()
        self._random = Random(1)
        self._kinds: Mapping[str, Callable[[Line], Awaitable[object]]] = {
            "message": self._message,
            "broker": self._broker,
            "publisher": self._publisher_line,
            "clock": self._clock_step,
            "daemon": self._daemon_line,
        }

    async def take(self, line: Line) -> Answer | None:
        """Take one line; return the answer if it is a poll.

        Raises ``BadLine``: it cannot be meant, or is older than the one before.
        """
        kind = line.get("kind")
        if self._store is None:
            await self._begin(line)
            if kind == "settings":
                return None
        at = self._at(line)
        if kind == "message":
            await self._message_at(line, at)
            return None
        await self._until(at)
        if kind == "poll":
            return await self._poll(line.get("at"))
        if kind == "settings":
            raise BadLine("settings: only the first line may set them")
        act = self._kinds.get(str(kind))
        if act is not None:
            await act(line)
            return None
        if not await self._operator.act(str(kind), line):
            known = ", ".join(["settings", "client", *self._kinds, *self._operator.kinds, "poll"])
            raise BadLine(f"kind is {kind!r}, known are {known}")
        return None

    async def close(self) -> None:
        """Let the database go."""
        if self._store is not None:
            await self._store.close()

    async def _begin(self, line: Line) -> None:
        values: object = {}
        if line.get("kind") == "settings":
            values = line.get("values", line.get("settings", {}))
            if not isinstance(values, dict):
                raise BadLine("settings: values is no object")
        assert isinstance(values, dict)  # noqa: S101 - tells mypy
        settings, unknown = settings_of(values)
        if unknown:
            self._warn(f"settings: {', '.join(sorted(map(str, unknown)))}: no such setting, left out")
        at = self._scale.read(line.get("at", 0))
        self.clock = VirtualClock(at)
        self.link, self.publisher = VirtualLink(self.clock), VirtualPublisher()
        self.link.connect()
        self._settings, self._store = settings, await in_memory()
        self._next_look = at + WATCH
        self._start()
        self._answers = Answers(
            self._store, self.clock, self._scale, would=not settings.crash_recovery_enabled
        )
        self._operator = Acts(
            self._store, self.clock, self._scale, lambda: self.daemon, self._answers.entered, self._note
        )

    def _start(self) -> None:
        assert self._settings is not None  # noqa: S101 - set just before; tells mypy
        assert self._store is not None  # noqa: S101
        self.daemon: Daemon = build(
            self._settings, self._store, self.clock, self.link, self.publisher, self._new_id
        )

    def _new_id(self) -> str:
        """Name a command; the same names in every run."""
        return str(UUID(int=self._random.getrandbits(128), version=4))

    def _note(self, text: str) -> None:
        """Warn, once for each text."""
        if text not in self._said:
            self._said.add(text)
            self._warn(text)

    def _at(self, line: Line) -> datetime:
        value = line.get("at")
        if value is None:
            return self._newest
        at = self._scale.read(value)
        if at < self._newest:
            raise BadLine(f"at is {value!r}, which is before the line above: lines must be in order of time")
        return at

    # --- time

    @property
    def _newest(self) -> datetime:
        return self._batch_at if self._batch else self.clock.at

    async def _until(self, at: datetime) -> None:
        """Let everything happen that is due before ``at``, and let it be ``at``."""
        await self._take_in()
        if at > self._next_look:
            step = max(WATCH, (at - self._next_look) / MOST_LOOKS)
            while self._next_look < at:
                self.clock.at = self._next_look
                if self._running:
                    await self.daemon.watch.look()
                self._next_look += step
        self.clock.at = at

    async def _take_in(self) -> None:
        if not self._batch:
            return
        batch, self._batch = self._batch, []
        self.clock.at = self._batch_at
        await self.daemon.ingest.handle(batch, self.clock.now())

    # --- what lines say

    async def _message_at(self, line: Line, at: datetime) -> None:
        topic = line.get("topic")
        if not isinstance(topic, str) or not topic:
            raise BadLine("message: topic is missing")
        message = Incoming(topic, payload_of(line), bool(line.get("retain", False)))
        self._answers.heard(topic)
        if not self.link.connected or not self._running:
            # As in the persistent session at the broker.
            if len(self._waiting) >= MOST_WAITING:
                raise BadLine("message: too many wait for the broker's return")
            self._waiting.append(message)
            await self._until(at)
            return
        second = int(at.timestamp() / BATCH_SECONDS)
        if second != self._batch_second or at > self._next_look:
            await self._until(at)
            self._batch_second = second
        self._batch.append(message)
        self._batch_at = at

    async def _message(self, line: Line) -> None:
        await self._message_at(line, self._at(line))

    async def _broker(self, line: Line) -> None:
        if not flag_of(line, "connected", True):
            self.link.drop()
        elif not self.link.connected:
            self.link.connect()
            await self._deliver()

    async def _deliver(self) -> None:
        """Take in what has waited at the broker."""
        if self._waiting and self.link.connected and self._running:
            waiting, self._waiting = self._waiting, []
            await self.daemon.ingest.handle(waiting, self.clock.now())

    async def _publisher_line(self, line: Line) -> None:
        self.publisher.connected = flag_of(line, "connected", True)

    async def _clock_step(self, line: Line) -> None:
        by = seconds_of(line, "step_seconds", "seconds")
        if by is None:
            raise BadLine("clock: step_seconds is missing")
        if not 1971 <= (self.clock.now() + by).year <= 2998:
            raise BadLine("clock: the step leads out of the years 1971 to 2998")
        self.clock.step(by)

    async def _daemon_line(self, line: Line) -> None:
        running = flag_of(line, "running", True)
        if self._running and not running:
            self._running = False
            self.link.drop()
            self.publisher.connected = False
        elif running and not self._running:
            self._running = True
            self.link.connect()
            self.publisher.connected = True
            self._start()
            await self._deliver()

    async def _poll(self, like: object) -> Answer:
        self.publisher.sent.clear()
        if not self._running:
            return await self._answers.answer(like, None, [])
        await self.daemon.watch.look()
        self._next_look = self.clock.at + WATCH
        await self.daemon.watch.sweep()
        await self._send()
        plan = await self.daemon.recovering.poll()
        if self.daemon.wake.is_set():
            await self._send()
        assert self._store is not None  # noqa: S101 - it runs; tells mypy
        cycled = await outlets.carry_out(self.daemon.cycles, self._store)
        return await self._answers.answer(like, plan, self.publisher.sent, cycled)

    async def _send(self) -> None:
        self.daemon.wake.clear()
        while await self.daemon.outbox.step():
            pass
