"""Messages of a connection that may be quiet for hours; the broker's answers to pings are signs of life."""

import asyncio
from collections.abc import AsyncIterator

from infoscreen.mqtt.client import KEEPALIVE_SECONDS, BrokerClient
from infoscreen.progress import SLACK_SECONDS, expect_within
from infoscreen.services.ports import Incoming


async def received(client: BrokerClient) -> AsyncIterator[Incoming]:
    """Yield messages as ``client.received()`` does, and promise progress only while the broker is heard."""
    messages = client.received()
    while True:
        heard_at = None
        reading = asyncio.ensure_future(anext(messages))
        try:
            while not reading.done():
                if heard_at != client.heard_at:
                    heard_at = client.heard_at
                    expect_within(2 * KEEPALIVE_SECONDS + SLACK_SECONDS)
                await asyncio.wait([reading], timeout=KEEPALIVE_SECONDS / 2)
            message = reading.result()
        finally:
            reading.cancel()
        yield message
