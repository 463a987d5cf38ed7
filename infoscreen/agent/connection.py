"""The agent's connection to the broker: MQTT 3.1.1, user name and client id are the device's UUID.

The session is persistent. A command is acknowledged to the broker only once the journal knows it. Errors of
the network are told, waited out and never leave this module.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from random import Random
from typing import Any

from infoscreen.agent.mail import Mail
from infoscreen.agent.protocol import packets
from infoscreen.agent.protocol.packets import Packet
from infoscreen.agent.settings import AgentSettings
from infoscreen.clock import Clock
from infoscreen.domain.broker import BrokerFault
from infoscreen.domain.clients import Presence
from infoscreen.domain.errors import BrokerUnavailable
from infoscreen.mqtt.connection import BrokerAddress, TlsSettings, load_tls, retry_delay
from infoscreen.mqtt.device import DeviceClient
from infoscreen.wire import topics

log = logging.getLogger(__name__)

LONGEST_BACKOFF_SECONDS = 60.0
STABLE_SECONDS = 60.0
"""A connection that held for so long ends the backoff."""
ANSWER_SECONDS = 10.0
SLOWEST_BYTES_PER_SECOND = 5_000
CANCEL_SECONDS = 1.0
PARTING_SECONDS = 2.0
"""How long a stop waits for what is still to be sent."""


class Connection:
    """Keeps the agent connected until ``stop``."""

    def __init__(
        self,
        settings: AgentSettings,
        mail: Mail,
        *,
        on_command: Callable[[bytes, bool], Awaitable[None]],
        on_connected: Callable[[], Coroutine[Any, Any, None]],
        clock: Clock,
        random: Random,
    ) -> None:
        """Prepare; ``on_command`` gets the payload and the retain flag."""
        self._settings = settings
        self._mail = mail
        self._on_command = on_command
        self._on_connected = on_connected
        self._clock = clock
        self._random = random
        self._stopping = asyncio.Event()
        self._told: str | None = None
        self._upcoming = False  # which password is used; the broker accepts one of both at any time
        self.is_up = self._has_been_up = False
        self.local_address: str | None = None
        """The device's own address towards the broker, while there is a connection."""

    def stop(self) -> None:
        """Let ``run`` send what is left, say goodbye and return."""
        self._stopping.set()
        self._mail.close()

    async def run(self) -> None:
        """Connect again and again."""
        failures = 0
        while not self._stopping.is_set():
            began = self._clock.monotonic()
            # A task of its own: when a child fails while a TaskGroup is being left, Python 3.11 leaves the
            # task marked as cancelled, and in such a task the asyncio.timeout of Debian 12 does not work.
            attempt = asyncio.create_task(self._once())
            await self._until_over(attempt)
            if attempt.cancelled() or (trouble := attempt.result()) is None:
                return
            failures = 0 if self._clock.monotonic() - began > STABLE_SECONDS else failures
            pause = backoff(self._settings.reconnect_seconds, failures, self._random)
            failures += 1
            self._tell(trouble, pause)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._stopping.wait()

    async def _until_over(self, attempt: "asyncio.Task[str | None]") -> None:
        """Wait for the end of a connection; after a stop not for long, it may be just in the making."""
        stop = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({attempt, stop}, return_when=asyncio.FIRST_COMPLETED)
            if not attempt.done():
                await asyncio.wait({attempt}, timeout=2 * PARTING_SECONDS)
        finally:
            stop.cancel()
            while not attempt.done():  # a library may swallow a cancellation
                attempt.cancel()
                await asyncio.wait({attempt}, timeout=CANCEL_SECONDS)

    async def _once(self) -> str | None:
        """Hold one connection; return what ended it, None if we did."""
        client = None
        trouble = None
        try:
            # Later on a second look at a broker that is overloaded would make it worse.
            client = await make_client(
                self._settings, will=True, explains=not self._has_been_up, upcoming=self._upcoming
            )
            async with client, asyncio.TaskGroup() as tasks:
                listening = tasks.create_task(self._listen(client))
                # Should a library swallow the cancellation that an error there causes, the loss of the
                # connection ends the rest.
                listening.add_done_callback(lambda task: None if task.cancelled() else client.drop())
                stopping = tasks.create_task(self._cut_short(client))
                await client.subscribe_to(command_topics(self._settings.name))
                self.local_address = client.local_address
                # Apart, because what it reads may take long, and acks must not wait for it.
                introducing = tasks.create_task(self._on_connected())
                await self._carry(client)
                goodbye = packets.presence(self._settings.name, Presence.OFFLINE)
                await publish(client, goodbye)
                for task in (listening, stopping, introducing):
                    task.cancel()
        except* BrokerUnavailable as errors:
            trouble = reason(errors)
            if _first(errors).fault is BrokerFault.REFUSED:
                self._upcoming = not self._upcoming
        finally:
            if client is not None:
                client.drop()
        return trouble

    async def _listen(self, client: DeviceClient) -> None:
        """Hand on commands; end with ``BrokerUnavailable`` when the connection does."""
        async for message in client.received():
            await self._on_command(message.payload, message.retain)

    async def _carry(self, client: DeviceClient) -> None:
        """Send what there is to say, until a stop and its last event."""
        self._mail.outbox.drop_state()  # what was read while there was no connection is old by now
        self._mail.journal.connected()
        self._mail.outbox.greet(packets.presence(self._settings.name, Presence.ONLINE))
        self.is_up = self._has_been_up = True
        self._told = None
        log.info("connected to the broker", extra={"event": "broker_connected"})
        try:
            while (packet := await self._mail.next()) is not None:
                await publish(client, packet)
                self._mail.sent(packet)
        finally:
            self.is_up = False
            self._mail.outbox.drop_state()
            self._mail.journal.disconnected(self._clock.now())
            await self._mail.save()

    async def _cut_short(self, client: DeviceClient) -> None:
        """After a stop, wait for the rest for a while, then let go."""
        await self._stopping.wait()
        await self._clock.sleep(PARTING_SECONDS)
        client.drop()

    def _tell(self, trouble: str, pause: float) -> None:
        """Log an outage once, not each attempt."""
        level = logging.DEBUG if trouble == self._told else logging.WARNING
        self._told = trouble
        log.log(
            level,
            "no connection to the broker, trying again",
            extra={"event": "broker_unavailable", "error": trouble, "retry_seconds": round(pause, 1)},
        )


def backoff(within: float, failures: int, random: Random) -> float:
    """Return the seconds to wait: anything up to ``within``, which doubles with each failure before.

    The whole range is used, so that a fleet that lost its broker comes back evenly and not as one.
    """
    return retry_delay(failures + 1, random.random(), first=within, longest=LONGEST_BACKOFF_SECONDS, spread=1)


def command_topics(uuid: str) -> tuple[str, str]:
    """Return both names of the topic on which the device takes commands."""
    return topics.commands(uuid), topics.command_alias(uuid)


async def make_client(
    settings: AgentSettings, *, will: bool, explains: bool = False, upcoming: bool = False
) -> DeviceClient:
    """Prepare a connection as this device; renewed TLS files count at once.

    Never with a clean session: it would throw away the commands that wait for the device. ``upcoming`` takes
    the password that will replace the current one, if there is one.

    Raises:
        BrokerUnavailable: a TLS file cannot be read.
    """
    address = broker_address(settings)
    new = settings.mqtt_password_next
    if upcoming and new is not None and new.get_secret_value():
        address = replace(address, password=new.get_secret_value())
    offline = packets.presence(settings.name, Presence.OFFLINE)
    return DeviceClient(address, await load_tls(address), will=offline if will else None, explains=explains)


def broker_address(settings: AgentSettings) -> BrokerAddress:
    """Return where the broker is, and who the device is there."""
    tls = None
    if settings.mqtt_tls_enabled:
        tls = TlsSettings(
            settings.mqtt_tls_ca_cert,
            settings.mqtt_tls_certfile,
            settings.mqtt_tls_keyfile,
            settings.mqtt_tls_insecure,
        )
    password = settings.mqtt_password.get_secret_value()
    return BrokerAddress(
        settings.mqtt_host, settings.port, settings.name, password, client_id=settings.name, tls=tls
    )


async def publish(client: DeviceClient, packet: Packet) -> None:
    """Publish at QoS 1 and wait for the broker's PUBACK; raise ``BrokerUnavailable``.

    A picture on a slow line may take its time: else it would be begun again and again, before all others.
    """
    seconds = ANSWER_SECONDS + len(packet.payload) / SLOWEST_BYTES_PER_SECOND
    await client.send(packet, within=seconds)


def reason(trouble: BaseExceptionGroup[BrokerUnavailable]) -> str:
    """Return the first error's text."""
    first = _first(trouble)
    return str(first) or type(first).__name__


def _first(trouble: BaseExceptionGroup[BrokerUnavailable]) -> BrokerUnavailable:
    first: BaseException = trouble
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    assert isinstance(first, BrokerUnavailable)  # noqa: S101 - the group was made of them
    return first
