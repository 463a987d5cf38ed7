"""Signs of dark or stuck screens at the client, and such clients among those that may fall silent.

Revision ID: 54013a000001
Revises: f19a5ea7c002
"""

import sqlalchemy as sa
from alembic import op

revision = "54013a000001"
down_revision = "f19a5ea7c002"
branch_labels = None
depends_on = None

WATCHED = "ix_clients_watched"


def _watch(*conditions: str) -> None:
    listed = ", ".join(f"'{one}'" for one in conditions)
    where = sa.text(f"status IN ({listed})")
    op.drop_index(WATCHED, "clients")
    op.create_index(WATCHED, "clients", ["stale_at"], sqlite_where=where, postgresql_where=where)


def upgrade() -> None:
    """Add the columns; no copy of the table is needed."""
    op.add_column("clients", sa.Column("signs", sa.JSON()))
    op.add_column("clients", sa.Column("not_showing_until", sa.DateTime(timezone=True)))
    _watch("crashed", "not_showing", "online")
    where = sa.text("status = 'not_showing'")
    op.create_index(
        "ix_clients_not_showing", "clients", ["not_showing_until"], sqlite_where=where, postgresql_where=where
    )


def downgrade() -> None:
    """Drop them; the next health message tells again how such a client is."""
    op.execute("UPDATE clients SET status = 'online' WHERE status = 'not_showing'")
    op.drop_index("ix_clients_not_showing", "clients")
    _watch("crashed", "online")
    op.drop_column("clients", "not_showing_until")
    op.drop_column("clients", "signs")
