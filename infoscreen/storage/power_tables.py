"""The table of clients' outlets. Imported by ``storage.tables``, which knows all tables."""

from sqlalchemy import JSON, Boolean, Column, Float, ForeignKey, Index, String, Table, Text, text

from infoscreen.storage.columns import UtcDateTime
from infoscreen.storage.metadata import metadata

client_power = Table(
    "client_power",
    metadata,
    Column("client_uuid", String(36), ForeignKey("clients.uuid", ondelete="CASCADE"), primary_key=True),
    Column("driver", String(40), nullable=False),
    Column("address", String(500), nullable=False),
    Column("outlet", String(200), nullable=False),
    Column("outlet_key", String(800), nullable=False),
    Column("username", String(200)),
    Column("sealed", Text),
    Column("identity", String(200)),
    Column("options", JSON, nullable=False),
    Column("min_off_seconds", Float, nullable=False),
    Column("protected", Boolean, nullable=False, server_default=text("false")),
    Column("also_feeds", JSON, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
)
Index("ix_client_power_outlet_key", client_power.c.outlet_key)
