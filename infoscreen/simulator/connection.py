"""The connection of one simulated device to the broker: MQTT 3.1.1, user name and client id its UUID.

It carries the device's packets at QoS 1, follows its ``link``, and reconnects with jittered backoff.
"""

import asyncio
import contextlib
import ssl
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random

from infoscreen.agent.protocol.packets import Packet
from infoscreen.clock import Clock
from infoscreen.domain.errors import BrokerUnavailable
from infoscreen.mqtt.connection import BrokerAddress, SharedTls, retry_delay
from infoscreen.mqtt.device import DeviceClient
from infoscreen.simulator.device import SimulatedDevice, WantedLink
from infoscreen.simulator.traffic import Traffic, Unanswered

FIRST_BACKOFF, LONGEST_BACKOFF = timedelta(seconds=1), timedelta(seconds=30)
STABLE_AFTER = timedelta(seconds=10)
"""A connection that held for so long ends the backoff."""

ANSWER_SECONDS = 10.0
GOODBYE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the broker is; ``tls`` None means plain TCP."""

    host: str
    port: int
    tls: SharedTls | None = None

    def address(self, user: str, password: str, client_id: str) -> BrokerAddress:
        """Return the address for an account and a client id."""
        return BrokerAddress(self.host, self.port, user, password, client_id)

    def context(self) -> ssl.SSLContext | None:
        """Return the TLS context for a new connection; raise ``BrokerUnavailable``."""
        return None if self.tls is None else self.tls.context()


class DeviceClock:
    """A device's own clock: right when it starts and never set after that, whatever the host's does.

    One may serve a whole fleet.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._started_at = clock.now()
        self._started = clock.monotonic()

    def now(self) -> datetime:
        """Return the device's time, aware, UTC."""
        return self._started_at + timedelta(seconds=self._clock.monotonic() - self._started)

    async def sleep(self, duration: timedelta) -> None:
        """Wait at least so long."""
        await self._clock.sleep(duration.total_seconds())


class Backoff:
    """How long to wait before the next attempt to connect: twice as long each time, with jitter."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._failures = 0

    def after(self, held: timedelta) -> timedelta:
        """Return the pause after an attempt that failed, or a connection that was lost, after ``held``."""
        self._failures = 1 if held > STABLE_AFTER else self._failures + 1
        return timedelta(
            seconds=retry_delay(
                self._failures,
                self._random.random(),
                first=1.5 * FIRST_BACKOFF.total_seconds(),
                longest=1.5 * LONGEST_BACKOFF.total_seconds(),
                spread=2 / 3,
            )
        )


class DeviceConnection:
    """Keeps one device connected while it wants to be, until ``stop``. To be made inside the event loop."""

    def __init__(
        self,
        device: SimulatedDevice,
        broker: Endpoint,
        password: str,
        *,
        clock: DeviceClock,
        random: Random,
        traffic: Traffic,
    ) -> None:
        self.device = device
        self._broker = broker
        self._password = password
        self._clock = clock
        self._backoff = Backoff(random)
        self._traffic = traffic
        self._unanswered = Unanswered()
        self._woken = asyncio.Event()
        self._stopping = False

    def stop(self) -> None:
        """Let ``run`` say goodbye and return."""
        self._stopping = True
        self._woken.set()

    def wake(self) -> None:
        """Look at the device again: something was done to it from outside."""
        self._woken.set()

    async def run(self) -> None:
        """Live the device's life until stopped. Trouble with the broker is waited out."""
        while not self._stopping:
            if self.device.link is not WantedLink.UP:
                await self._rest()
                continue
            began = self._clock.now()
            # A task of its own: when a child fails while a TaskGroup is being left, Python 3.11 leaves the
            # task marked as cancelled, and in such a task the asyncio.timeout of Debian 12 does not work.
            trouble = await asyncio.create_task(self._connection())
            if trouble is None or self.device.link is not WantedLink.UP or self._stopping:
                continue
            self._traffic.errors[trouble] += 1
            await self._wait_out(self._backoff.after(self._clock.now() - began))

    async def _connection(self) -> str | None:
        """Connect, and carry packets both ways until the device wants no connection or we stop.

        Return what ended it before that: it could not be made, or was lost.
        """
        client = None
        trouble = None
        try:
            client = self._client()
            async with client, asyncio.TaskGroup() as tasks:
                listening = tasks.create_task(self._listen(client))
                await client.subscribe_to(self.device.command_topics)
                await self._carry(client)
                if self._stopping or self.device.link is WantedLink.LEFT:
                    await self._publish(client, self.device.goodbye, within=GOODBYE_SECONDS)
                    listening.cancel()
                else:
                    client.drop()
        except* BrokerUnavailable as errors:
            trouble = _reason(errors)
        finally:
            if client is not None:
                client.drop()
        return trouble

    def _client(self) -> DeviceClient:
        uuid = self.device.identity.uuid
        return DeviceClient(
            self._broker.address(uuid, self._password, uuid),
            self._broker.context(),
            will=self.device.goodbye,
            clean_session=not self.device.persistent_session,
        )

    async def _listen(self, client: DeviceClient) -> None:
        """Hand on commands; end with ``BrokerUnavailable`` when the connection does."""
        async for message in client.received():
            now = self._clock.now()
            self._unanswered.heard(message.payload, now)
            self.device.receive(message.payload, now, retain=message.retain)
            self._woken.set()

    async def _carry(self, client: DeviceClient) -> None:
        """Send what the device has to say, while it wants to be connected and nobody stops us.

        One that leaves in order first says all it has to.
        """
        self._traffic.connections += 1
        self._traffic.connected += 1
        self.device.connected(self._clock.now())
        try:
            while self.device.link is not WantedLink.DROPPED and not self._stopping:
                packet = self.device.next_packet()
                if packet is None:
                    if self.device.link is WantedLink.LEFT:
                        break
                    await self._rest()
                    continue
                await self._publish(client, packet)
                self.device.sent(packet)
                self.device.advance(self._clock.now())
        finally:
            self._traffic.connected -= 1
            self.device.disconnected(self._clock.now())

    async def _publish(self, client: DeviceClient, packet: Packet, within: float = ANSWER_SECONDS) -> None:
        """Send a packet and wait for its PUBACK, for so many seconds."""
        began = self._clock.now()
        if (waited := self._unanswered.sending(self.device.identity.uuid, packet, began)) is not None:
            self._traffic.answers.add(waited)
        self._traffic.sent += 1
        await client.send(packet, within)
        self._traffic.acked += 1
        self._traffic.pubacks.add(self._clock.now() - began)

    async def _wait_out(self, pause: timedelta) -> None:
        """Let time pass on the device before the next attempt; shorter when stopped or not wanted."""
        until = self._clock.now() + pause
        while self._clock.now() < until and self.device.link is WantedLink.UP and not self._stopping:
            await self._rest(until)

    async def _rest(self, until: datetime | None = None) -> None:
        """Wait until woken, until the device has something to do, or until ``until``; then let it do so."""
        times = [time for time in (until, self.device.next_due) if time is not None]
        seconds = (min(times) - self._clock.now()).total_seconds() if times else None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        self._woken.clear()
        self.device.advance(self._clock.now())


def _reason(trouble: BaseExceptionGroup[BrokerUnavailable]) -> str:
    """Return the first error's text."""
    error: BaseException = trouble
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error)
