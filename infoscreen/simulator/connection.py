"""The connection of one simulated device to the broker: MQTT 3.1.1, user name and client id its UUID.

It carries the device's packets at QoS 1, follows its ``link``, and reconnects with jittered backoff.
"""

import asyncio
import contextlib
import socket
import ssl
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random

import aiomqtt

from infoscreen.clock import Clock
from infoscreen.simulator.device import Link, SimulatedDevice

FIRST_BACKOFF, LONGEST_BACKOFF = timedelta(seconds=1), timedelta(seconds=30)
STABLE_AFTER = timedelta(seconds=10)
"""A connection that held for so long ends the backoff."""

KEEPALIVE_SECONDS = 30
GOODBYE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Broker:
    """Where the broker is; ``tls`` None means plain TCP."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None


@dataclass(slots=True)
class Traffic:
    """What went over the connections; one may serve a whole fleet.

    ``acked`` counts the broker's acknowledgements (PUBACK), ``errors`` the reasons why a connection could not
    be made or was lost.
    """

    connected: int = 0
    connections: int = 0
    sent: int = 0
    acked: int = 0
    errors: Counter[str] = field(default_factory=Counter)


class DeviceClock:
    """A device's own clock: right when it starts and never set after that, whatever the host's does."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._started_at = clock.now()
        self._started = clock.monotonic()

    def now(self) -> datetime:
        """Return the device's time, aware, UTC."""
        return self._started_at + timedelta(seconds=self._clock.monotonic() - self._started)


class DeviceConnection:
    """Keeps one device connected while it wants to be, until ``stop``. To be made inside the event loop."""

    def __init__(
        self,
        device: SimulatedDevice,
        broker: Broker,
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
        self._random = random
        self._traffic = traffic
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
        backoff = FIRST_BACKOFF
        while not self._stopping:
            if self.device.link is not Link.UP:
                await self._rest()
                continue
            began = self._clock.now()
            # A task of its own: when a child fails while a TaskGroup is being left, Python 3.11 leaves the
            # task marked as cancelled, and in such a task the asyncio.timeout of Debian 12 does not work.
            trouble = await asyncio.create_task(self._connection())
            if trouble is None or self.device.link is not Link.UP or self._stopping:
                continue
            self._traffic.errors[trouble] += 1
            if self._clock.now() - began > STABLE_AFTER:
                backoff = FIRST_BACKOFF
            await self._wait_out(backoff * self._random.uniform(0.5, 1.5))
            backoff = min(backoff * 2, LONGEST_BACKOFF)

    async def _connection(self) -> str | None:
        """Connect, and carry packets both ways until the device wants no connection or we stop.

        Return what ended it before that: it could not be made, or was lost.
        """
        client = self._client()
        trouble = None
        try:
            async with client, asyncio.TaskGroup() as tasks:
                listening = tasks.create_task(self._listen(client))
                await client.subscribe([(topic, 1) for topic in self.device.command_topics])
                await self._carry(client)
                if self._stopping or self.device.link is Link.LEFT:
                    goodbye = self.device.goodbye
                    await client.publish(
                        goodbye.topic, goodbye.payload, qos=1, retain=True, timeout=GOODBYE_SECONDS
                    )
                    listening.cancel()
                else:
                    _drop(client)
        except* aiomqtt.MqttError as errors:
            trouble = _reason(errors)
        finally:
            _drop(client)
        return trouble

    def _client(self) -> aiomqtt.Client:
        will = self.device.goodbye
        return aiomqtt.Client(
            self._broker.host,
            self._broker.port,
            username=self.device.identity.uuid,
            password=self._password,
            identifier=self.device.identity.uuid,
            protocol=aiomqtt.ProtocolVersion.V311,
            will=aiomqtt.Will(will.topic, will.payload, qos=1, retain=True),
            clean_session=not self.device.persistent_session,
            keepalive=KEEPALIVE_SECONDS,
            tls_context=self._broker.tls,
        )

    async def _listen(self, client: aiomqtt.Client) -> None:
        """Hand on commands; end with ``MqttError`` when the connection does."""
        async for message in client.messages:
            if isinstance(message.payload, bytes):
                self.device.receive(message.payload, self._clock.now(), retain=message.retain)
                self._woken.set()

    async def _carry(self, client: aiomqtt.Client) -> None:
        """Send what the device has to say, while it wants to be connected and nobody stops us."""
        self._traffic.connections += 1
        self._traffic.connected += 1
        self.device.connected(self._clock.now())
        try:
            while self.device.link is Link.UP and not self._stopping:
                packet = self.device.next_packet()
                if packet is None:
                    await self._rest()
                    continue
                self._traffic.sent += 1
                await client.publish(packet.topic, packet.payload, qos=1, retain=packet.retain)
                self._traffic.acked += 1
                self.device.sent(packet)
                self.device.advance(self._clock.now())
        finally:
            self._traffic.connected -= 1
            self.device.disconnected(self._clock.now())

    async def _wait_out(self, pause: timedelta) -> None:
        """Let time pass on the device before the next attempt; shorter when stopped or not wanted."""
        until = self._clock.now() + pause
        while self._clock.now() < until and self.device.link is Link.UP and not self._stopping:
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


def _drop(client: aiomqtt.Client) -> None:
    """Cut the connection without a DISCONNECT, so that the broker sends the last will; harmless twice."""
    # aiomqtt only knows how to leave politely; the socket is the paho client's.
    connection = client._client.socket()  # noqa: SLF001
    if isinstance(connection, socket.socket):
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)


def _reason(trouble: BaseExceptionGroup[aiomqtt.MqttError]) -> str:
    """Return the first error's text."""
    error: BaseException = trouble
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error)
