"""Devices on which somebody has signed in, and tokens that may manage accounts.

Tokens that exist already manage nothing from now on: that has to be asked for when one is made.

Revision ID: ac5e5501d001
Revises: f5a6b7c8d9e0
"""

import sqlalchemy as sa
from alembic import op

revision = "ac5e5501d001"
down_revision = "f5a6b7c8d9e0"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table and the column."""
    op.create_table(
        "login_devices",
        sa.Column("token_hash", sa.String(64), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name="fk_login_devices_user_id_users", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("token_hash", name="pk_login_devices"),
    )
    op.create_index("ix_login_devices_user_id", "login_devices", ["user_id"])
    op.add_column(
        "api_tokens",
        sa.Column("manages_accounts", sa.Boolean(), nullable=False, server_default=sa.text("false")),
    )


def downgrade() -> None:
    """Drop both."""
    op.drop_column("api_tokens", "manages_accounts")
    op.drop_index("ix_login_devices_user_id", table_name="login_devices")
    op.drop_table("login_devices")
