"""What can be sent to the broker, and how the broker answers."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

_FIRST_FAILURE = 0x80


class Sendable(Protocol):
    """What can be sent."""

    @property
    def topic(self) -> str:
        """The topic's name."""

    @property
    def payload(self) -> bytes:
        """What is sent."""

    @property
    def retain(self) -> bool:
        """Whether the broker keeps it."""


class Puback(NamedTuple):
    """The broker's answer to a message; ``code`` is MQTT 5's reason, 0 over older versions."""

    code: int
    words: str

    @property
    def is_failure(self) -> bool:
        """Tell whether the broker did not take the message."""
        return self.code >= _FIRST_FAILURE


TAKEN = Puback(0, "success")

Answered = Callable[[Puback | None], None]
"""Told the answer, or None if the connection ended before there was one."""
