"""When a client is meant to show something, as far as its condition and the recovery go by it.

Pure rules: the present span of the hours is a given. Only ``services.hours`` knows how hours are written.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple, Protocol

ALWAYS = "24/7"
"""The hours of a client for which nobody has set any."""


class HoursSource(StrEnum):
    """Where a client's hours come from."""

    CLIENT = "client"
    SITE = "site"
    DEFAULT = "default"


class Enforce(StrEnum):
    """Whether a site's hours are also carried out, and how."""

    NONE = "none"
    DISPLAY = "display"
    POWER = "power"


@dataclass(frozen=True, slots=True)
class Schedule:
    """Hours as they are written: the expression, its time zone and whose public holidays count.

    ``time_zone`` None is the server's; ``country`` is an ISO code.
    """

    hours: str = ALWAYS
    time_zone: str | None = None
    country: str | None = None


class Span(NamedTuple):
    """The time around now in which nothing changes: open or not, since when and until when.

    An end that is None lies too far away to matter.
    """

    within: bool = True
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HoursPolicy:
    """How exactly devices keep their hours.

    A client must be heard within ``opening_grace`` after an opening; one that falls silent within
    ``closing_grace`` before a closing is taken to be off. Outside its hours the recovery leaves a client
    alone until ``opening_lead`` before the next opening.
    """

    opening_grace: timedelta = timedelta(seconds=900)
    closing_grace: timedelta = timedelta(seconds=900)
    opening_lead: timedelta = timedelta(seconds=1_800)


class Timed(Protocol):
    """As much of a client as its hours are about.

    ``hours_since`` and ``next_change_at`` are the ends of the present span, ``expected_by`` is the end of the
    grace after the opening that began it.
    """

    @property
    def within_hours(self) -> bool:
        """Whether it was open when this was looked up."""

    @property
    def hours_since(self) -> datetime | None:
        """When the span began."""

    @property
    def expected_by(self) -> datetime | None:
        """By when it must have been heard since the opening."""

    @property
    def next_change_at(self) -> datetime | None:
        """When the span ends."""

    @property
    def last_alive(self) -> datetime | None:
        """When it was last heard."""


def is_expected(client: Timed, now: datetime) -> bool:
    """Tell whether the silence of a client counts: it is open, and has been for long enough or it was heard.

    In the moment between a change and its being looked up nobody is expected.
    """
    if not client.within_hours or (client.next_change_at is not None and client.next_change_at <= now):
        return False
    return client.expected_by is None or now >= client.expected_by or not missed_opening(client)


def missed_opening(client: Timed) -> bool:
    """Tell whether a client has not been heard since it opened."""
    since = client.hours_since
    return (
        client.within_hours and since is not None and (client.last_alive is None or client.last_alive < since)
    )


def missed_from(client: Timed, stale_at: datetime) -> datetime:
    """Return since when a silent client is missed: since its threshold, or since the grace of its opening."""
    if client.expected_by is None or not missed_opening(client):
        return stale_at
    return max(stale_at, client.expected_by)
