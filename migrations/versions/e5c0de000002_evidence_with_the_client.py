"""Evidence with the client: of several devices in one, and since when it tells of its boot and application.

Revision ID: e5c0de000002
Revises: f19d5ea7c001
"""

import sqlalchemy as sa
from alembic import op

revision = "e5c0de000002"
down_revision = "f19d5ea7c001"
branch_labels = None
depends_on = None

TIMES = ("boot_said_at", "boot_heard_at", "app_said_at", "app_heard_at")


def upgrade() -> None:
    """Add the columns; no copy of the table is needed."""
    op.add_column("clients", sa.Column("identity", sa.JSON()))
    for name in TIMES:
        op.add_column("clients", sa.Column(name, sa.DateTime(timezone=True)))


def downgrade() -> None:
    """Drop them."""
    for name in reversed(TIMES):
        op.drop_column("clients", name)
    op.drop_column("clients", "identity")
