"""What columns are made of: times and words, and conditions that a planner recognises."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, TypeVar

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    ColumnElement,
    DateTime,
    Integer,
    String,
    Table,
    literal_column,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator

from infoscreen.domain.clients import (
    FailedUnit,
    IdentityEvidence,
    IdentityUser,
    PastDuplicate,
    SeenMac,
    Sign,
    SignKind,
    Speaker,
)

T = TypeVar("T")


def utc_text(value: datetime) -> str:
    """Return an aware time as SQLite keeps it: UTC, ``2026-03-01 07:00:00.000000``."""
    in_utc = value if value.tzinfo is UTC else value.astimezone(UTC)
    return in_utc.isoformat(" ", "microseconds")[:26]


def utc_time(text: str | None) -> datetime | None:
    """Return the time in a text of ``utc_text``."""
    return None if text is None else datetime.fromisoformat(text).replace(tzinfo=UTC)


class _SqliteUtc(sqlite.DATETIME):
    """UTC in SQLAlchemy's own text format, formatted in C: this is on the path of every heartbeat."""

    def bind_processor(self, dialect: Dialect) -> Callable[[datetime | None], str | None]:
        """Return what turns an aware time into text, refusing one without a zone instead of guessing it."""

        def bind(value: datetime | None) -> str | None:
            if value is None:
                return None
            if value.tzinfo is None:
                raise ValueError("a time without a zone must not be stored")
            return utc_text(value)

        return bind

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[str | None], datetime | None]:
        """Return what turns text into an aware time."""
        return utc_time


# SQLAlchemy leaves the __init__ of its dialects' types untyped.
UtcDateTime = DateTime(timezone=True).with_variant(_SqliteUtc(), "sqlite")  # type: ignore[no-untyped-call]
"""The type of every time: aware UTC in Python. SQLite keeps no zone, so it is taken off and put back."""


class Word(TypeDecorator[StrEnum]):
    """A ``StrEnum`` stored as its text; a plain string column to the database."""

    impl = String(40)
    cache_ok = True

    def __init__(self, enum: type[StrEnum]) -> None:
        super().__init__()
        self.enum = enum

    def process_bind_param(self, value: StrEnum | str | None, dialect: Dialect) -> str | None:
        """Return the text, refusing words that the enum does not know."""
        return None if value is None else self.enum(value).value

    def process_result_value(self, value: str | None, dialect: Dialect) -> StrEnum | None:
        """Return the member."""
        return None if value is None else self.enum(value)


class FailedUnits(TypeDecorator[list[FailedUnit]]):
    """Failed units as JSON, with their times as text."""

    impl = JSON
    cache_ok = True

    def process_bind_param(self, value: list[FailedUnit] | None, dialect: Dialect) -> list[list[Any]]:
        """Return plain values."""
        return [
            [one.unit, one.failed_at.isoformat(), one.result, one.raised_at.isoformat()]
            for one in value or ()
        ]

    def process_result_value(self, value: list[list[Any]] | None, dialect: Dialect) -> list[FailedUnit]:
        """Return the units."""
        return [
            FailedUnit(unit, datetime.fromisoformat(failed_at), result, datetime.fromisoformat(raised_at))
            for unit, failed_at, result, raised_at in value or ()
        ]


class Speakers(TypeDecorator[list[Speaker]]):
    """Speakers as JSON, with their times as text."""

    impl = JSON
    cache_ok = True

    def process_bind_param(self, value: list[Speaker] | None, dialect: Dialect) -> list[dict[str, Any]]:
        """Return plain values."""
        return [
            {name: at.isoformat() if isinstance(at, datetime) else at for name, at in asdict(one).items()}
            for one in value or ()
        ]

    def process_result_value(self, value: list[dict[str, Any]] | None, dialect: Dialect) -> list[Speaker]:
        """Return the speakers."""
        return [_speaker(one) for one in value or ()]


class SignsJson(TypeDecorator[list[Sign]]):
    """Signs of a dark or stuck screen as JSON, with their times as text; NULL while there is none."""

    impl = JSON(none_as_null=True)
    cache_ok = True

    def process_bind_param(self, value: list[Sign] | None, dialect: Dialect) -> list[list[Any]] | None:
        """Return plain values."""
        return [[_plain(part) for part in one] for one in value] if value else None

    def process_result_value(self, value: list[list[Any]] | None, dialect: Dialect) -> list[Sign]:
        """Return the signs."""
        return signs_of(value or [])


def signs_of(value: list[list[Any]]) -> list[Sign]:
    """Return the signs that a column's JSON holds."""
    read = datetime.fromisoformat
    return [
        Sign(SignKind(kind), times, read(since), read(seen_at), None if told_at is None else read(told_at))
        for kind, times, since, seen_at, told_at in value
    ]


class IdentityJson(TypeDecorator[IdentityEvidence]):
    """What speaks for several devices under one identity, as JSON; NULL while nothing does."""

    impl = JSON(none_as_null=True)
    cache_ok = True

    def process_bind_param(self, value: IdentityEvidence | None, dialect: Dialect) -> Any:
        """Return plain values."""
        return None if value is None else _plain(asdict(value))

    def process_result_value(self, value: Any, dialect: Dialect) -> IdentityEvidence | None:
        """Return the evidence."""
        if value is None:
            return None
        past = value["last_duplicate"]
        if past is not None:
            devices = [IdentityUser(**_with_times(one, "heard_at")) for one in past["devices"]]
            past = PastDuplicate(**{**_with_times(past, "since", "until"), "devices": devices})
        macs = [SeenMac(**_with_times(one, "since", "heard_at")) for one in value["macs"]]
        return IdentityEvidence(macs=macs, last_duplicate=past)


def _plain(value: Any) -> Any:
    """Return nested values with their times as text."""
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return value.isoformat() if isinstance(value, datetime) else value


def _with_times(told: dict[str, Any], *names: str) -> dict[str, Any]:
    """Return a dictionary whose times of these names are no longer text."""
    return told | {name: datetime.fromisoformat(told[name]) for name in names}


def _speaker(told: dict[str, Any]) -> Speaker:
    times = {name: told[name] and datetime.fromisoformat(told[name]) for name in _TIMES}
    return Speaker(**{**told, **times})


_TIMES = ("booted_at", "device_time", "heard_at")


def one_of(column: ColumnElement[Any], words: Iterable[StrEnum]) -> ColumnElement[bool]:
    """Return the condition that the column holds one of the words, with the words in the SQL itself.

    A planner uses a partial index only where it can see that the query's condition is the index's own; it
    does not look into bound values.
    """
    return column.in_([literal_column(f"'{word}'") for word in sorted(words)])


class Common(FunctionElement[bool]):
    """A condition that most rows may meet, in the words of a partial index.

    SQLite knows nothing of the numbers of rows and would look for all of them by an index of this column.
    """

    inherit_cache = True


@compiles(Common)
def _plainly(element: Common, compiler: SQLCompiler, **more: Any) -> str:
    return compiler.process(element.clauses, **more)


@compiles(Common, "sqlite")
def _with_its_likelihood(element: Common, compiler: SQLCompiler, **more: Any) -> str:
    return f"likelihood({compiler.process(element.clauses, **more)}, 0.999)"


CHUNK = 500
"""So many values go into one ``IN``, far below SQLite's limit on bound values."""


def chunks(values: Collection[T]) -> list[list[T]]:
    """Cut values into pieces that fit into one ``IN``."""
    ordered = list(values)
    return [ordered[start : start + CHUNK] for start in range(0, len(ordered), CHUNK)]


def without_nulls(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return rows for one insert without the columns that are None in all of them.

    Each value passes through its column's type, and most columns of a command's row are empty at first.
    """
    names = [name for name in rows[0] if any(row[name] is not None for row in rows)]
    return [{name: row[name] for name in names} for row in rows]


def insert_or(connection: AsyncConnection, table: Table) -> postgresql.Insert | sqlite.Insert:
    """Return an insert that knows what to do about rows that exist already."""
    return postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)


SortKey = String(200).with_variant(String(200, collation="C"), "postgresql")
"""Text that is compared by its characters on both databases, whatever the locale of the server is."""

BigKey = BigInteger().with_variant(Integer(), "sqlite")
"""64 bits. On SQLite a column of exactly ``INTEGER`` is the row's number itself, which has 64 bits anyway."""


def row_number() -> Column[Any]:
    """Return the key of a table whose rows are numbered."""
    return Column("id", BigKey, primary_key=True)
