"""The table of who takes care of which client. Imported by ``storage.tables``, which knows all tables."""

from sqlalchemy import Column, ForeignKey, String, Table, Text

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
