"""Many simulated devices over a few connections, under one account that may speak for all of them.

Each device behaves as with a connection of its own; what the broker does for such a connection is done here:
the last will, and the queue of commands for a device that is away. Commands come in on one connection that
listens for all devices, everything else goes out on the others. One agenda serves all devices.
"""

import asyncio
import contextlib
from collections import deque
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random

from infoscreen.agent.protocol.packets import Packet
from infoscreen.domain.errors import BadMessage, BrokerUnavailable, InvalidArguments
from infoscreen.simulator.agenda import Agenda
from infoscreen.simulator.connection import LONGEST_BACKOFF, DeviceClock, Endpoint
from infoscreen.simulator.device import SimulatedDevice, WantedLink
from infoscreen.simulator.line import Account, Line, TopicSubscription
from infoscreen.simulator.traffic import Traffic, Unanswered
from infoscreen.wire.messages import decode_command
from infoscreen.wire.topics import COMMAND_FILTERS

DEVICES_PER_LINE = 2_500
"""Unless told otherwise."""
MOST_DEVICES_PER_LINE = 20_000
"""A packet id has 16 bits, and a device may have three packets in flight, two of them goodbyes."""

JOINS_PER_SECOND = 1_000
"""How many devices come back per second when the broker does; all are back within ``LONGEST_BACKOFF``."""

MOST_KEPT = 100
"""Commands kept for a device that is away; the oldest goes first."""

AT_A_STRETCH = 100
"""Steps taken between two turns of the event loop, some 5 ms."""

TICK_SECONDS = 0.02
"""How late a step may be: looking 50 times a second costs less than a timer for each device."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """Under which account a fleet is multiplexed, and over how many lines; None for one per 2,500 devices."""

    account: Account
    lines: int | None = None

    def lines_for(self, devices: int) -> int:
        """Return over how many lines so many devices go; raise ``InvalidArguments`` if they are too few."""
        if self.lines is None:
            return -(-devices // DEVICES_PER_LINE)
        if self.lines < 1 or devices > self.lines * MOST_DEVICES_PER_LINE:
            raise InvalidArguments(
                f"{devices} devices do not fit {self.lines} connections: one takes {MOST_DEVICES_PER_LINE}"
            )
        return self.lines


class Seat:
    """One device at a line: joined while both want it. Made and driven by ``Multiplexer``."""

    __slots__ = (
        "_agenda",
        "_clock",
        "_goodbye",
        "_in_flight",
        "_joined",
        "_kept",
        "_leaving",
        "_line",
        "_not_before",
        "_planned",
        "_traffic",
        "_unanswered",
        "device",
    )

    def __init__(
        self, device: SimulatedDevice, line: Line, agenda: Agenda, clock: DeviceClock, traffic: Traffic
    ) -> None:
        self.device = device
        self._line = line
        self._agenda = agenda
        self._clock = clock
        self._traffic = traffic
        self._unanswered = Unanswered()
        self._joined = False
        self._leaving = False
        self._not_before: datetime | None = None
        self._planned: datetime | None = None
        self._in_flight: Packet | None = None
        self._goodbye: Packet | None = None
        """What the last will would have said; owed until the broker has it."""
        self._kept: deque[bytes] | None = None

    def wake(self) -> None:
        """Look at the device again: something was done to it from outside."""
        self.step(self._clock.now())

    def step(self, now: datetime) -> None:
        """Let the device do what is due, then follow it: join or leave, send, plan the next step."""
        if self._planned is not None and self._planned <= now:
            self._planned = None
        self.device.advance(now)
        wanted = self.device.link is WantedLink.UP and not self._leaving
        if self._joined and not wanted and not self._has_last_words():
            self._part(now)
        elif wanted and not self._joined and self._may_join(now):
            self._join(now)
        self._send()
        self._plan()

    def hear(self, payload: bytes, now: datetime, *, retain: bool) -> None:
        """Hand on a command; one for a device that is away waits, as it would in its session."""
        if self._joined:
            self._unanswered.heard(payload, now)
            self.device.receive(payload, now, retain=retain)
            self.step(now)
        elif self.device.persistent_session and not retain:
            if self._kept is None:
                self._kept = deque(maxlen=MOST_KEPT)
            self._kept.append(payload)

    def invite(self, at: datetime, now: datetime) -> None:
        """Take note that the line is up: say what is owed now, and join at ``at``."""
        self._say_goodbye()
        self._not_before = at
        self._agenda.add(max(at, now), self.step)

    def lost(self, now: datetime) -> None:
        """Take note that the line went down."""
        self._in_flight = None
        if self._joined:
            self._goodbye = self.device.goodbye
            self._disconnect(now)

    def leave(self, now: datetime) -> None:
        """Say goodbye for good."""
        self._leaving = True
        self.step(now)

    def _has_last_words(self) -> bool:
        """Tell whether the device leaves in order and has yet to say something before."""
        leaves = self.device.link is WantedLink.LEFT and not self._leaving
        return leaves and (self._in_flight is not None or self.device.next_packet() is not None)

    def _may_join(self, now: datetime) -> bool:
        return self._line.is_up and (self._not_before is None or self._not_before <= now)

    def _join(self, now: datetime) -> None:
        self._joined = True
        self._traffic.connected += 1
        self._traffic.connections += 1
        self.device.connected(now)
        kept, self._kept = self._kept, None
        for payload in kept or ():
            if not _is_expired(payload, now):
                self._unanswered.heard(payload, now)
                self.device.receive(payload, now)

    def _part(self, now: datetime) -> None:
        self._goodbye = self.device.goodbye
        self._say_goodbye()
        self._disconnect(now)

    def _disconnect(self, now: datetime) -> None:
        self._joined = False
        self._traffic.connected -= 1
        self.device.disconnected(now)

    def _say_goodbye(self) -> None:
        if self._goodbye is not None:
            self._line.send(self._goodbye, self._acknowledged)

    def _send(self) -> None:
        """Send one packet; the next one when the broker has it, so that they stay in order."""
        if not self._joined or self._in_flight is not None or (packet := self.device.next_packet()) is None:
            return
        if not self._line.send(packet, self._acknowledged):
            return
        self._in_flight = packet
        waited = self._unanswered.sending(self.device.identity.uuid, packet, self._clock.now())
        if waited is not None:
            self._traffic.answers.add(waited)

    def _acknowledged(self, packet: Packet, now: datetime) -> None:
        if packet is self._goodbye:
            self._goodbye = None
        elif packet is self._in_flight:
            self._in_flight = None
            self.device.sent(packet)
            self.step(now)

    def _plan(self) -> None:
        """See to it that there is a step at the device's next time; one too many does no harm."""
        due = self.device.next_due
        if due is not None and (self._planned is None or due < self._planned):
            self._planned = due
            self._agenda.add(due, self.step)


def _is_expired(payload: bytes, now: datetime) -> bool:
    """Tell whether the broker would have dropped the command by now."""
    try:
        return decode_command(payload).expires_at <= now
    except BadMessage:
        return False


class Multiplexer:
    """The lines and the seats. ``size`` is how many devices there will be."""

    def __init__(
        self,
        gateway: Gateway,
        broker: Endpoint,
        *,
        size: int,
        seed: str,
        clock: DeviceClock,
        traffic: Traffic,
        persistent_sessions: bool,
    ) -> None:
        self._clock = clock
        self._traffic = traffic
        self._random = Random(f"{seed}/lines")
        self._rejoin_within = min(timedelta(seconds=size / JOINS_PER_SECOND), LONGEST_BACKOFF)
        self._agenda = Agenda()
        self._by_topic: dict[str, Seat] = {}
        self._rows: list[tuple[Line, list[Seat]]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._seats = 0

        def line(name: str, subscription: TopicSubscription | None = None) -> Line:
            return Line(
                f"{gateway.account.user}-{name}",
                broker,
                gateway.account,
                clock=clock,
                random=self._random,
                traffic=traffic,
                subscription=subscription,
            )

        for number in range(gateway.lines_for(size)):
            self._add_row(line(str(number + 1)))
        self._ear = line("listener", TopicSubscription(COMMAND_FILTERS, self._hear, persistent_sessions))

    @property
    def connections(self) -> int:
        """Return how many connections all devices share."""
        return len(self._rows) + 1

    @property
    def is_listening(self) -> bool:
        """Tell whether commands come in."""
        return self._ear.is_up

    def start(self, tasks: asyncio.TaskGroup) -> None:
        """Begin to connect and to keep time."""
        lines = [self._ear, *(line for line, _ in self._rows)]
        self._tasks = [tasks.create_task(line.run()) for line in lines]
        self._tasks.append(tasks.create_task(self._keep_time()))

    def add(self, device: SimulatedDevice) -> Seat:
        """Let a device live."""
        line, seats = self._rows[self._seats % len(self._rows)]
        self._seats += 1
        seat = Seat(device, line, self._agenda, self._clock, self._traffic)
        seats.append(seat)
        for topic in device.command_topics:
            self._by_topic[topic] = seat
        seat.wake()
        return seat

    async def leave(self, within_seconds: float) -> None:
        """Let all devices say goodbye, wait for the broker's acknowledgements, and disconnect."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_seconds):
                await self._say_goodbyes()
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)

    async def _say_goodbyes(self) -> None:
        with contextlib.suppress(BrokerUnavailable):
            await self._ear.unsubscribe()
        for _, seats in self._rows:
            for seat in seats:
                seat.leave(self._clock.now())
            await asyncio.sleep(0)
        while any(line.in_flight for line, _ in self._rows):  # none on a line that is down
            await self._clock.sleep(timedelta(seconds=TICK_SECONDS))

    def _add_row(self, line: Line) -> None:
        seats: list[Seat] = []

        def up(now: datetime) -> None:
            for seat in seats:
                seat.invite(now + self._rejoin_within * self._random.random(), now)

        def down(now: datetime) -> None:
            for seat in seats:
                seat.lost(now)

        line.up, line.down = up, down
        self._rows.append((line, seats))

    def _hear(self, topic: str, payload: bytes, retain: bool) -> None:
        if (seat := self._by_topic.get(topic)) is not None:
            seat.hear(payload, self._clock.now(), retain=retain)

    async def _keep_time(self) -> None:
        """Take each step at its time."""
        while True:
            now = self._clock.now()
            for _ in range(AT_A_STRETCH):
                step = self._agenda.pop(now)
                if step is None:
                    await self._clock.sleep(timedelta(seconds=TICK_SECONDS))
                    break
                step(now)
            else:
                await asyncio.sleep(0)
