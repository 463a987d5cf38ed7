"""What stands around the daemon: the two connections to the broker, as lines say they are."""

from datetime import datetime

from infoscreen.clock import Clock, SteadySince
from infoscreen.domain.errors import BrokerUnavailable
from infoscreen.services.ports import LinkState, Outgoing, backlog_of


class VirtualLink:
    """The listening connection; a ``Link``."""

    def __init__(self, clock: Clock) -> None:
        self._listening = SteadySince(clock)
        self._reconnects = 0

    def connect(self) -> None:
        """Listen from now on."""
        self._listening.begin()

    def drop(self) -> None:
        """Lose the broker."""
        if self.connected:
            self._reconnects += 1
        self._listening.end()

    @property
    def connected(self) -> bool:
        """Tell whether the connection stands."""
        return self.listening_since is not None

    @property
    def listening_since(self) -> datetime | None:
        """Return since when the daemon listens."""
        return self._listening.since

    @property
    def state(self) -> LinkState:
        """Return the state as it is now."""
        return LinkState(
            self.connected, self.listening_since, self._reconnects, None, backlog=backlog_of(self._listening)
        )


class VirtualPublisher:
    """The publishing connection: keeps what it is given for the next answer."""

    def __init__(self) -> None:
        self.connected = True
        self.sent: list[Outgoing] = []

    async def publish(self, message: Outgoing) -> None:
        """Take a message; raise ``BrokerUnavailable`` while not connected."""
        if not self.connected:
            raise BrokerUnavailable("the publishing connection is down")
        self.sent.append(message)
