"""Intervals of clients, when the daemon listened, and daily sums. Known to ``storage.tables`` as well."""

from sqlalchemy import Column, ForeignKey, Index, String, Table, text

from infoscreen.domain.availability import Cure, IntervalCause
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
