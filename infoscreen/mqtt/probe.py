"""Asks the broker whether it accepts a connection, and what it dropped. Nothing is published."""

import asyncio
import contextlib
from dataclasses import replace

from infoscreen.domain.errors import BrokerUnavailable
from infoscreen.mqtt.client import MQTT_5, BrokerClient
from infoscreen.mqtt.connection import BrokerAddress, load_tls
from infoscreen.mqtt.dropped import TOPIC

ANSWER_SECONDS = 2.0


async def refusal(address: BrokerAddress) -> BrokerUnavailable | None:
    """Connect and leave again; return why that failed, None if the broker accepted us.

    Under a client id of its own, so that a running daemon keeps its connections.
    """
    stranger = replace(address, client_id=f"{address.client_id}-doctor")
    try:
        async with BrokerClient(stranger, await load_tls(stranger), clean_session=True):
            return None
    except BrokerUnavailable as error:
        return error


async def anonymous_refusal(address: BrokerAddress) -> BrokerUnavailable | None:
    """Do as ``refusal``, without an account."""
    return await refusal(replace(address, user=None, password=None))


async def dropped(address: BrokerAddress) -> int | None:
    """Return how many messages the broker has dropped since it started; None if it does not say."""
    stranger = replace(address, client_id=f"{address.client_id}-doctor")
    with contextlib.suppress(BrokerUnavailable, ValueError):
        async with BrokerClient(
            stranger, await load_tls(stranger), version=MQTT_5, clean_start=True
        ) as client:
            await client.watch([TOPIC])
            reading = asyncio.ensure_future(anext(client.received()))
            await asyncio.wait([reading], timeout=ANSWER_SECONDS)
            if reading.done():
                return int(reading.result().payload)
            reading.cancel()
            await asyncio.wait([reading])
    return None
