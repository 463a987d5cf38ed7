"""Asks the broker whether it accepts a connection, and what it dropped. Nothing is published.

Never appears under a client id that anybody else uses, nor with the daemon's account on a listener that
replaces client ids: that would end the daemon's connection and delete its queue.
"""

import asyncio
import contextlib
import secrets
from dataclasses import replace

from infoscreen.clock import SystemClock
from infoscreen.domain.errors import BrokerUnavailable
from infoscreen.mqtt import canary
from infoscreen.mqtt.canary import AclState, Canary
from infoscreen.mqtt.client import MQTT_5, BrokerClient
from infoscreen.mqtt.connection import BrokerAddress, load_tls
from infoscreen.mqtt.dropped import TOPIC
from infoscreen.mqtt.identity import require_own_ids
from infoscreen.tasks import beside

ANSWER_SECONDS = 2.0


async def admit(address: BrokerAddress, stranger: BrokerAddress | None = None) -> BrokerAddress:
    """Return the address with a client id of our own, once the broker has let us in under it.

    Args:
        address: where the daemon connects, and as whom.
        stranger: the same listener with the account of the probe.

    Raises:
        WrongListener: the listener replaces client ids.
        BrokerUnavailable: we were not let in.
    """
    await require_own_ids(address, stranger)
    ours = _unique(address)
    async with BrokerClient(ours, await load_tls(ours), clean_session=True):
        return ours


async def anonymous_refusal(address: BrokerAddress) -> str | None:
    """Connect without an account and leave again; return why that failed, None if the broker accepted us."""
    stranger = replace(_unique(address), user=None, password=None)
    try:
        async with BrokerClient(stranger, await load_tls(stranger), clean_session=True):
            return None
    except BrokerUnavailable as error:
        return str(error)


async def acl_state(ours: BrokerAddress, stranger: BrokerAddress) -> AclState:
    """Return whether the ACL is in force, as the daemon's canary finds out; raise ``BrokerUnavailable``."""
    watched = Canary(SystemClock(), replace(stranger, client_id=_unique(stranger).client_id), lambda: None)
    async with BrokerClient(ours, await load_tls(ours), version=MQTT_5, clean_start=True) as client:
        await client.ask(client.subscribe([(canary.TOPIC, 0)]))

        async def listen() -> None:
            async for message in client.received():
                watched.hear(message.payload)

        async with beside(listen()):
            return await watched.check(client)


async def dropped(ours: BrokerAddress) -> int | None:
    """Return how many messages the broker has dropped since it started; None if it does not say.

    ``ours`` is what ``admit`` returned.
    """
    with contextlib.suppress(BrokerUnavailable, ValueError):
        async with BrokerClient(ours, await load_tls(ours), version=MQTT_5, clean_start=True) as client:
            await client.watch([TOPIC])
            reading = asyncio.ensure_future(anext(client.received()))
            await asyncio.wait([reading], timeout=ANSWER_SECONDS)
            if reading.done():
                return int(reading.result().payload)
            reading.cancel()
            await asyncio.wait([reading])
    return None


def _unique(address: BrokerAddress) -> BrokerAddress:
    return replace(address, client_id=f"{address.client_id}-doctor-{secrets.token_hex(4)}")
