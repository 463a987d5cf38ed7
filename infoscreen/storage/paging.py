"""Keyset pagination.

A page goes on after a row, not after a number of rows, so it stays cheap and never skips.
"""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, Protocol, TypeVar

from sqlalchemy import ColumnElement, Table, func, literal_column, select

from infoscreen.domain.errors import InvalidInput
from infoscreen.domain.faults import FieldFault
from infoscreen.storage.engine import Connection

T = TypeVar("T")

MOST_COUNTED = 10_000
"""A filtered list is counted so far and no further."""


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a list; ``next_cursor`` is None on the last page.

    ``total`` counts the whole list. It is None for histories, where counting would cost more with every day,
    and for a filtered list of more than ``MOST_COUNTED``.
    """

    items: list[T]
    next_cursor: str | None
    total: int | None = None


class Numbered(Protocol):
    """What has a number of its own."""

    @property
    def id(self) -> int:
        """Return it."""
        ...


N = TypeVar("N", bound=Numbered)


def numbered_page(found: list[N], limit: int, total: int) -> Page[N]:
    """Return the page of rows in the order of their numbers; one more than ``limit`` was asked for."""
    shown = found[:limit]
    return Page(shown, encode_cursor(shown[-1].id) if len(found) > limit else None, total)


async def count_some(
    connection: Connection, table: Table, where: Sequence[ColumnElement[bool]]
) -> int | None:
    """Return how many rows match, None when they are more than ``MOST_COUNTED``."""
    first = select(literal_column("1")).select_from(table).where(*where).limit(MOST_COUNTED + 1).subquery()
    counted = await connection.scalar(select(func.count()).select_from(first)) or 0
    return counted if counted <= MOST_COUNTED else None


def encode_cursor(*key: str | int | float | datetime | None) -> str:
    """Return an opaque cursor for the sort key of a page's last row."""
    plain = [part.isoformat() if isinstance(part, datetime) else part for part in key]
    return base64.urlsafe_b64encode(json.dumps(plain, separators=(",", ":")).encode()).decode().rstrip("=")


def decode_cursor(cursor: str, length: int) -> list[Any]:
    """Return the sort key of ``length`` parts; raise ``InvalidInput`` when it is not one of ours."""
    try:
        key = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, RecursionError):
        key = None
    if not isinstance(key, list) or len(key) != length or not all(_can_be_stored(part) for part in key):
        raise _foreign()
    return key


def _can_be_stored(part: Any) -> bool:
    """Tell whether a database can be asked about it; what cannot would be an error of the driver."""
    if isinstance(part, str):
        return "\0" not in part and not any("\ud800" <= char <= "\udfff" for char in part)
    return isinstance(part, int) and -(2**63) <= part < 2**63


def cursor_time(text: Any) -> datetime:
    """Return the time in a cursor's part; raise ``InvalidInput`` when it is none."""
    try:
        at = datetime.fromisoformat(text)
        if at.tzinfo is not None:
            return at.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        pass
    raise _foreign()


def _foreign() -> InvalidInput:
    return InvalidInput.of("cursor", FieldFault.FOREIGN_CURSOR)


def cursor_number(part: Any) -> int:
    """Return the whole number in a cursor's part; raise ``InvalidInput`` when it is none."""
    if not isinstance(part, int) or isinstance(part, bool) or part < 0:
        raise _foreign()
    return part


def cursor_id(cursor: str | None) -> int:
    """Return after which row a page begins, 0 without a cursor.

    For keys of 32 bits: PostgreSQL refuses to compare them with more.
    """
    return 0 if cursor is None else min(cursor_number(decode_cursor(cursor, 1)[0]), 2**31 - 1)


def cursor_text(part: Any) -> str:
    """Return the text in a cursor's part; raise ``InvalidInput`` when it is none."""
    if not isinstance(part, str):
        raise _foreign()
    return part
