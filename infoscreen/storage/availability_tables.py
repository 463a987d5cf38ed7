"""Intervals of clients, when the daemon listened, and daily sums. Known to ``storage.tables`` as well."""

from typing import Any

from sqlalchemy import Column, ForeignKey, Index, String, Table, text

from infoscreen.domain.availability import FIELDS, Cure, IntervalCause
from infoscreen.domain.clients import Condition
from infoscreen.storage.columns import BigKey, UtcDateTime, Word, row_number
from infoscreen.storage.metadata import metadata

UNEXPLAINED = "cause IS NULL AND condition <> 'online'"

client_intervals = Table(
    "client_intervals",
    metadata,
    row_number(),
    Column("client_uuid", String(36), ForeignKey("clients.uuid", ondelete="CASCADE"), nullable=False),
    Column("condition", Word(Condition), nullable=False),
    Column("cause", Word(IntervalCause)),
    Column("cure", Word(Cure)),
    Column("repaired_seconds", BigKey),
    Column("began_at", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime, nullable=False),
)
_unexplained = text(UNEXPLAINED)
Index("ix_client_intervals_client", client_intervals.c.client_uuid, client_intervals.c.ended_at)
Index("ix_client_intervals_ended_at", client_intervals.c.ended_at)
Index(
    "ix_client_intervals_unexplained",
    client_intervals.c.ended_at,
    sqlite_where=_unexplained,
    postgresql_where=_unexplained,
)

observed_times = Table(
    "observed_times",
    metadata,
    row_number(),
    Column("began_at", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime, nullable=False),
    Column("gap_cause", Word(IntervalCause), nullable=False),
)
Index("ix_observed_times_ended_at", observed_times.c.ended_at)


def _sums() -> list[Column[Any]]:
    return [Column(name, BigKey, nullable=False) for name in FIELDS]


availability_days = Table(
    "availability_days",
    metadata,
    Column("client_uuid", String(36), ForeignKey("clients.uuid", ondelete="CASCADE"), primary_key=True),
    Column("day", String(10), primary_key=True),
    Column("until", UtcDateTime, nullable=False),
    *_sums(),
)
Index("ix_availability_days_day", availability_days.c.day, availability_days.c.client_uuid)

site_days = Table(
    "site_days",
    metadata,
    Column("day", String(10), primary_key=True),
    Column("site", String(200), primary_key=True),
    *_sums(),
)
