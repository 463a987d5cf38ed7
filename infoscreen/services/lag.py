"""How late things were lately: the worst of the last minute, for rules that must not trust a slow daemon.

Nothing here measures; the callers note what they measured.
"""

from infoscreen.clock import Clock

REMEMBERED_SECONDS = 60.0


class Lag:
    """The worst delay noted within the last minute."""

    def __init__(self, clock: Clock) -> None:
        """Begin without any."""
        self._clock = clock
        self._worst = 0.0
        self._noted_at = 0.0

    def note(self, seconds: float) -> None:
        """Remember a delay if it is worse than what is remembered, or that is too old to count."""
        if seconds >= self.seconds:
            self._worst = seconds
            self._noted_at = self._clock.monotonic()

    @property
    def seconds(self) -> float:
        """Return the worst delay of the last minute."""
        if self._clock.monotonic() - self._noted_at > REMEMBERED_SECONDS:
            return 0.0
        return self._worst
