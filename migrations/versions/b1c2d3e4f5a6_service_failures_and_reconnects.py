"""Failed services and reconnects of clients.

Revision ID: b1c2d3e4f5a6
Revises: a0b1c2d3e4f5
"""

import sqlalchemy as sa
from alembic import op

revision = "b1c2d3e4f5a6"
down_revision = "a0b1c2d3e4f5"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go forward."""
    with op.batch_alter_table("clients") as batch:
        batch.add_column(sa.Column("service_failed_at", sa.DateTime(timezone=True)))
        batch.add_column(sa.Column("service_failed_unit", sa.String(500)))
        batch.add_column(sa.Column("mqtt_reconnect_count", sa.Integer()))
        batch.add_column(sa.Column("mqtt_last_disconnect_at", sa.DateTime(timezone=True)))


def downgrade() -> None:
    """Go back, keeping every row."""
    with op.batch_alter_table("clients") as batch:
        batch.drop_column("mqtt_last_disconnect_at")
        batch.drop_column("mqtt_reconnect_count")
        batch.drop_column("service_failed_unit")
        batch.drop_column("service_failed_at")
