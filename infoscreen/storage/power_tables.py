"""The tables of outlets and of their cycles. Imported by ``storage.tables``, which knows all tables."""

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

# Without foreign keys: an outlet that is off must be switched on also when its client is removed meanwhile.
power_cycles = Table(
    "power_cycles",
    metadata,
    Column("command_id", String(36), primary_key=True),
    Column("client_uuid", String(36), nullable=False),
    Column("outlet_key", String(800), nullable=False),
    Column("outlet", JSON, nullable=False),
    Column("cycle", JSON, nullable=False),
    Column("began_at", UtcDateTime, nullable=False),
    Column("switched_at", UtcDateTime),
    Column("ended_at", UtcDateTime),
)
_under_way = text("ended_at IS NULL")
Index(
    "ix_power_cycles_open",
    power_cycles.c.began_at,
    sqlite_where=_under_way,
    postgresql_where=_under_way,
)
Index("ix_power_cycles_outlet", power_cycles.c.outlet_key, power_cycles.c.switched_at)
Index("ix_power_cycles_client", power_cycles.c.client_uuid, power_cycles.c.switched_at)
