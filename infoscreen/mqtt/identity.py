"""Finds out whether a listener lets us choose client ids, before anything is connected that could be harmed.

A listener with mosquitto's ``use_username_as_clientid``, as devices need it, gives all connections of an
account the same client id. The daemon's own would end each other there, and the one without a session would
delete the queue of the one that has it. The question is asked without changing a session: over MQTT 5 the
broker tells the id it has given.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import replace

from infoscreen.domain.errors import BrokerUnavailable, WrongListener
from infoscreen.mqtt.client import MQTT_5, BrokerClient
from infoscreen.mqtt.connection import BrokerAddress, load_tls
from infoscreen.mqtt.properties import lasting_session

Admission = Callable[[], Awaitable[None]]
"""Awaited before a connection is made; raises ``BrokerUnavailable``."""


class AskingClient(BrokerClient):
    """A connection that only learns its client id. It leaves a session that it was given as it found it."""

    def __init__(self, address: BrokerAddress, tls: ssl.SSLContext | None) -> None:
        """Prepare the connection."""
        super().__init__(
            replace(address, client_id=""),
            tls,
            version=MQTT_5,
            clean_start=False,
            properties=lasting_session(),
        )
        self._user = address.user
        self.acknowledge_by_hand()  # and never: what a session holds stays in it

    @property
    def replaced(self) -> bool:
        """Tell whether the broker took the user name for the client id."""
        return self.assigned_client_id is None or self.assigned_client_id == self._user

    async def _leave(self) -> None:
        if not self.replaced:
            self.end_session()
        await super()._leave()


async def replaces_ids(address: BrokerAddress) -> bool:
    """Tell whether the listener replaces client ids by user names; raise ``BrokerUnavailable``."""
    async with AskingClient(address, await load_tls(address)) as client:
        return client.replaced


class OwnIds:
    """Lets the daemon's connections through once it is known that their client ids are their own."""

    def __init__(self, address: BrokerAddress, stranger: BrokerAddress | None = None) -> None:
        """Keep the addresses.

        Args:
            address: Where the daemon connects.
            stranger: The same listener with the account of the probe, whose sessions nobody needs.
        """
        self._address = address
        self._stranger = stranger
        self._known_good = False
        self._asking = asyncio.Lock()

    async def admit(self) -> None:
        """Return if connections may be made; raise ``WrongListener`` or ``BrokerUnavailable``."""
        async with self._asking:
            if not self._known_good:
                await require_own_ids(self._address, self._stranger)
                self._known_good = True


async def require_own_ids(address: BrokerAddress, stranger: BrokerAddress | None = None) -> None:
    """Raise ``WrongListener`` if the listener replaces client ids, ``BrokerUnavailable`` if none answers.

    Asks with the account of the ``stranger`` if the broker knows it: then no connection of the daemon ends.
    """
    if await _replaces_ids(address, stranger):
        raise WrongListener(
            f"the listener at {address.host}:{address.port} is for devices: it takes the user name for the "
            "client id, so the server's connections would end each other and lose messages. Use the listener "
            "for the server: port 1883 on the broker's own host, else 8884 with TLS"
        )


async def _replaces_ids(address: BrokerAddress, stranger: BrokerAddress | None) -> bool:
    if stranger is not None:
        with contextlib.suppress(BrokerUnavailable):
            return await replaces_ids(stranger)
    return await replaces_ids(address)
