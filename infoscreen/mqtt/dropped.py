"""The broker's own count of messages it dropped because a queue was full: mosquitto's ``$SYS`` tells it."""

import logging
from datetime import datetime, timedelta

from infoscreen.clock import Clock

log = logging.getLogger(__name__)

TOPIC = "$SYS/broker/publish/messages/dropped"

ALARM_FOR = timedelta(hours=24)
"""How long a loss is shown."""
LOG_SECONDS = 3_600.0
"""A loss that goes on is logged again after so long."""


class Dropped:
    """The number of messages the broker dropped since it started, and when that number last grew."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._at: datetime | None = None
        self._logged: float | None = None
        self.total = 0

    @property
    def at(self) -> datetime | None:
        """Return when the broker last dropped messages; None once that is ``ALARM_FOR`` ago."""
        if self._at is None or self._clock.now() - self._at > ALARM_FOR:
            return None
        return self._at

    def note(self, payload: bytes) -> None:
        """Take a reading. The first one tells what happened while the daemon was away."""
        try:
            total = int(payload)
        except ValueError:
            return  # another broker may say something else under this name
        before, self.total = self.total, total
        more = total - before if total >= before else total  # a broker that was restarted counts from 0
        if more <= 0:
            return
        self._at, now = self._clock.now(), self._clock.monotonic()
        if self._logged is not None and now - self._logged < LOG_SECONDS:
            return
        self._logged = now
        log.error(
            "the broker dropped messages because a queue was full; see its max_queued_messages and _bytes",
            extra={"event": "broker_dropped", "messages": more, "since_broker_start": total},
        )
