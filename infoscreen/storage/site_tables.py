"""The table of sites. Imported by ``storage.tables``, which knows all tables."""

from sqlalchemy import Column, Index, String, Table, Text

from infoscreen.domain.hours import Enforce
from infoscreen.storage.columns import UtcDateTime, Word, row_number
from infoscreen.storage.metadata import metadata

sites = Table(
    "sites",
    metadata,
    row_number(),
    Column("name", String(200), nullable=False),
    Column("time_zone", String(64)),
    Column("country", String(2)),
    Column("hours", String(500)),
    Column("contact", Text),
    Column("phone", String(100)),
    Column("runbook", Text),
    Column("enforce", Word(Enforce), nullable=False, server_default=Enforce.NONE.value),
    Column("created_at", UtcDateTime, nullable=False),
)
Index("ix_sites_name", sites.c.name, unique=True)
