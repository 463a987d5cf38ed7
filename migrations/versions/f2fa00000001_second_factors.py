"""Second factors of users, their recovery codes, and how a session was begun.

Revision ID: f2fa00000001
Revises: f19a5ea7c003
"""

import sqlalchemy as sa
from alembic import op

revision = "f2fa00000001"
down_revision = "f19a5ea7c003"
branch_labels = None
depends_on = None


def _of_a_user(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["user_id"], ["users.id"], name=f"fk_{table}_user_id_users", ondelete="CASCADE"
    )


def upgrade() -> None:
    """Go forward; open sessions were begun with a password."""
    op.create_table(
        "second_factors",
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("sealed", sa.Text()),
        sa.Column("since", sa.DateTime(timezone=True)),
        sa.Column("last_step", sa.BigInteger()),
        sa.Column("offered", sa.Text()),
        sa.Column("offered_at", sa.DateTime(timezone=True)),
        _of_a_user("second_factors"),
        sa.PrimaryKeyConstraint("user_id", name="pk_second_factors"),
    )
    op.create_table(
        "recovery_codes",
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("code_hash", sa.String(64), nullable=False),
        _of_a_user("recovery_codes"),
        sa.PrimaryKeyConstraint("user_id", "code_hash", name="pk_recovery_codes"),
    )
    op.create_table(
        "pending_logins",
        sa.Column("token_hash", sa.String(64), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        _of_a_user("pending_logins"),
        sa.PrimaryKeyConstraint("token_hash", name="pk_pending_logins"),
    )
    op.create_index("ix_pending_logins_user_id", "pending_logins", ["user_id"])
    op.add_column(
        "sessions", sa.Column("way", sa.String(40), nullable=False, server_default=sa.text("'password'"))
    )


def downgrade() -> None:
    """Go back; without their second factor, people sign in with the password alone."""
    op.drop_column("sessions", "way")
    op.drop_index("ix_pending_logins_user_id", table_name="pending_logins")
    op.drop_table("pending_logins")
    op.drop_table("recovery_codes")
    op.drop_table("second_factors")
