"""The tables of what was taken from the broker, and of what is to be emptied there."""

from sqlalchemy import Column, String, Table, Text

from infoscreen.storage.columns import UtcDateTime
from infoscreen.storage.metadata import metadata

ingest_batches = Table(
    "ingest_batches",
    metadata,
    Column("writer", Text, primary_key=True),
    Column("batch", String(32), nullable=False),
)

retained_clears = Table(
    "retained_clears",
    metadata,
    Column("topic", String(200), primary_key=True),
    Column("requested_at", UtcDateTime, nullable=False),
)
