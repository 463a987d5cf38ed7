"""Who takes care of which client, and what the recovery counts. Known to ``storage.tables`` as well."""

from sqlalchemy import JSON, Column, Float, ForeignKey, Integer, String, Table, Text

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

recovery_polls = Table(
    "recovery_polls",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("number", Integer, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("mode", String(20), nullable=False),
    Column("summary", JSON, nullable=False),
)
