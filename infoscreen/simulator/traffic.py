"""What went over the simulated devices' connections, counted and timed. Sends nothing and asks no time."""

import math
import re
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from infoscreen.simulator.outbox import Packet
from infoscreen.wire import topics

PRECISION = 0.05
"""How far a percentile may lie above the true one, as a share of it."""

MOST_UNANSWERED = 100
"""Commands of one device whose first ack is awaited; those that break the contract never get one."""

_SHORTEST_SECONDS = 1e-6
_STEP = math.log1p(PRECISION)
_COMMAND_ID = re.compile(rb'"command_id"\s*:\s*"([0-9A-Fa-f-]{36})"')


class Latencies:
    """Durations, kept as counts per size: any number of them takes the memory of some hundred."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()

    @property
    def count(self) -> int:
        """Return how many there are."""
        return self._counts.total()

    def add(self, duration: timedelta) -> None:
        """Count one more."""
        seconds = max(duration.total_seconds(), _SHORTEST_SECONDS)
        self._counts[math.ceil(math.log(seconds / _SHORTEST_SECONDS) / _STEP)] += 1

    def percentile(self, percent: float) -> float | None:
        """Return the seconds that ``percent`` of them did not exceed, rounded up; None without any."""
        wanted = self.count * percent / 100
        seen = 0
        for size, times in sorted(self._counts.items()):
            seen += times
            if seen >= wanted:
                return _SHORTEST_SECONDS * math.exp(size * _STEP)
        return None


class Unanswered:
    """When one device heard the commands whose first ack is still to be sent."""

    __slots__ = ("_heard",)

    def __init__(self) -> None:
        self._heard: dict[bytes, datetime] | None = None

    def heard(self, payload: bytes, now: datetime) -> None:
        """Note a command, be it new or a repetition."""
        if (found := _COMMAND_ID.search(payload)) is None:
            return
        if self._heard is None:  # most devices of a large fleet never hear any
            self._heard = {}
        elif len(self._heard) >= MOST_UNANSWERED:
            del self._heard[next(iter(self._heard))]
        self._heard[found[1].lower()] = now

    def sending(self, uuid: str, packet: Packet, now: datetime) -> timedelta | None:
        """Return how long the command waited if ``packet`` is the first ack to it."""
        if not self._heard or packet.topic != topics.acks(uuid)[0]:
            return None
        found = _COMMAND_ID.search(packet.payload)
        since = None if found is None else self._heard.pop(found[1], None)
        return None if since is None else now - since


@dataclass(slots=True)
class Traffic:
    """What went over the connections; one may serve a whole fleet.

    ``connections`` counts how often a device came online. ``sent`` counts what was given to a connection,
    ``acked`` the broker's acknowledgements of it (PUBACK); they differ by what was lost with a connection.
    ``errors`` are the reasons why a connection could not be made or was lost.
    """

    connected: int = 0
    connections: int = 0
    sent: int = 0
    acked: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    pubacks: Latencies = field(default_factory=Latencies)
    answers: Latencies = field(default_factory=Latencies)
    """From a command's arrival to its first ack being sent."""
