"""Where clients' power is switched.

Revision ID: b0e700000001
Revises: e9a0c0de0001
"""

import sqlalchemy as sa
from alembic import op

revision = "b0e700000001"
down_revision = "e9a0c0de0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go forward."""
    op.create_table(
        "client_power",
        sa.Column("client_uuid", sa.String(36), nullable=False),
        sa.Column("driver", sa.String(40), nullable=False),
        sa.Column("address", sa.String(500), nullable=False),
        sa.Column("outlet", sa.String(200), nullable=False),
        sa.Column("outlet_key", sa.String(800), nullable=False),
        sa.Column("username", sa.String(200)),
        sa.Column("sealed", sa.Text()),
        sa.Column("identity", sa.String(200)),
        sa.Column("options", sa.JSON(), nullable=False),
        sa.Column("min_off_seconds", sa.Float(), nullable=False),
        sa.Column("protected", sa.Boolean(), nullable=False, server_default=sa.text("false")),
        sa.Column("also_feeds", sa.JSON(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("client_uuid", name="pk_client_power"),
        sa.ForeignKeyConstraint(
            ["client_uuid"],
            ["clients.uuid"],
            name="fk_client_power_client_uuid_clients",
            ondelete="CASCADE",
        ),
    )
    op.create_index("ix_client_power_outlet_key", "client_power", ["outlet_key"])


def downgrade() -> None:
    """Go back; outlets are forgotten."""
    op.drop_table("client_power")
