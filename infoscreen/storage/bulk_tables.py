"""The tables of bulk actions. Imported by ``storage.tables``, which knows all tables."""

from sqlalchemy import JSON, Column, Float, ForeignKey, Index, Integer, String, Table, Text, text

from infoscreen.domain.bulk import BulkOutcome
from infoscreen.domain.commands import Action, Source
from infoscreen.storage.columns import UtcDateTime, Word
from infoscreen.storage.metadata import metadata

bulk_actions = Table(
    "bulk_actions",
    metadata,
    Column("batch_id", String(36), primary_key=True),
    Column("action", Word(Action), nullable=False),
    Column("source", Word(Source), nullable=False),
    Column("reason", Text),
    Column("query", JSON(none_as_null=True)),
    Column("expires_in", Float),
    Column("actor_id", Integer),
    Column("actor", String(200), nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("clients", Integer, nullable=False),
    Column("stopped_at", UtcDateTime),
    Column("stopped_by", String(200)),
)
Index("ix_bulk_actions_at", bulk_actions.c.at, bulk_actions.c.batch_id)

bulk_results = Table(
    "bulk_results",
    metadata,
    Column("batch_id", String(36), ForeignKey("bulk_actions.batch_id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    # No foreign key: what became of a client that is removed later, or was never there, stays told.
    Column("client_uuid", String(36), nullable=False),
    Column("outcome", Word(BulkOutcome), nullable=False),
    Column("command_id", String(36)),
)
_pending = text("outcome = 'pending'")
Index(
    "ix_bulk_results_pending",
    bulk_results.c.batch_id,
    sqlite_where=_pending,
    postgresql_where=_pending,
)
