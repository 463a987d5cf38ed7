"""Asks the broker whether it accepts a connection. Nothing is published or subscribed."""

from dataclasses import replace

from infoscreen.domain.errors import BrokerUnavailable
from infoscreen.mqtt.client import BrokerClient
from infoscreen.mqtt.connection import BrokerAddress, load_tls


async def refusal(address: BrokerAddress) -> str | None:
    """Connect and leave again; return why that failed, None if the broker accepted us.

    Under a client id of its own, so that a running daemon keeps its connections.
    """
    stranger = replace(address, client_id=f"{address.client_id}-doctor")
    try:
        async with BrokerClient(stranger, await load_tls(stranger), clean_session=True):
            return None
    except BrokerUnavailable as error:
        return str(error)


async def anonymous_refusal(address: BrokerAddress) -> str | None:
    """Do as ``refusal``, without an account."""
    return await refusal(replace(address, user=None, password=None))
