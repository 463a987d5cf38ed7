"""Who takes care of which client, pauses, polls. Imported by ``storage.tables``, which knows all tables."""

from sqlalchemy import JSON, Column, Float, ForeignKey, Index, Integer, String, Table, Text, text

from infoscreen.domain.recovery import Meanwhile
from infoscreen.storage.columns import UtcDateTime, Word
from infoscreen.storage.metadata import metadata

recovery_acknowledgements = Table(
    "recovery_acknowledgements",
    metadata,
    Column("client_uuid", String(36), ForeignKey("clients.uuid", ondelete="CASCADE"), primary_key=True),
    Column("recovery", Word(Meanwhile), nullable=False),
    Column("by", String(200), nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("until", UtcDateTime),
    Column("comment", Text),
)

recovery_days = Table(
    "recovery_days",
    metadata,
    Column("day", String(10), primary_key=True),
    Column("silences", Integer, nullable=False),
    Column("client_seconds", Float, nullable=False),
)

recovery_pauses = Table(
    "recovery_pauses",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("scope", String(20), nullable=False),
    Column("site", String(200)),
    Column("client_uuid", String(36), ForeignKey("clients.uuid", ondelete="CASCADE")),
    Column("reason", Text, nullable=False),
    Column("by", String(200), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("until", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime),
    Column("ended_by", String(200)),
)
_under_way = text("ended_at IS NULL")
Index(
    "ix_recovery_pauses_open",
    recovery_pauses.c.until,
    sqlite_where=_under_way,
    postgresql_where=_under_way,
)
Index("ix_recovery_pauses_client", recovery_pauses.c.client_uuid)

recovery_polls = Table(
    "recovery_polls",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("number", Integer, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("mode", String(20), nullable=False),
    Column("summary", JSON, nullable=False),
)
