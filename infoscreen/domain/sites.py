"""A site: where clients are, when they are meant to show something, and who helps there."""

from dataclasses import dataclass
from datetime import datetime
from typing import TypedDict

from infoscreen.domain.hours import Enforce

LONGEST_NAME = 200
MOST_CHARACTERS = 500
"""Of hours."""

LONGEST_CONTACT = 500
LONGEST_PHONE = 100
LONGEST_RUNBOOK = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One site. Clients refer to it by its name.

    ``hours`` None means always, ``time_zone`` None the server's; ``runbook`` is Markdown.
    """

    id: int
    name: str
    time_zone: str | None = None
    country: str | None = None
    hours: str | None = None
    contact: str | None = None
    phone: str | None = None
    runbook: str | None = None
    enforce: Enforce = Enforce.NONE
    created_at: datetime


class SiteEdit(TypedDict, total=False):
    """What people can change about a site; what is left out stays, None empties."""

    name: str
    time_zone: str | None
    country: str | None
    hours: str | None
    contact: str | None
    phone: str | None
    runbook: str | None
    enforce: Enforce
