"""Counters of clients by site and condition.

The triggers that keep them, and the first count, come from ``storage.counting`` at the end of every migration
that finds them missing; see ``migrations/env.py``.

Revision ID: a6b7c8d9e0f1
Revises: f6a7b8c9d0e1
"""

import sqlalchemy as sa
from alembic import op

revision = "a6b7c8d9e0f1"
down_revision = "f6a7b8c9d0e1"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go forward."""
    op.create_table(
        "client_totals",
        sa.Column("site", sa.String(200), nullable=False),
        sa.Column("status", sa.String(40), nullable=False),
        sa.Column("clients", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("site", "status", name="pk_client_totals"),
    )
    op.create_table(
        "client_total_changes",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("site", sa.String(200), nullable=False),
        sa.Column("status", sa.String(40), nullable=False),
        sa.Column("change", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_client_total_changes"),
    )


def downgrade() -> None:
    """Go back. Triggers go first: what they write to is dropped."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP TRIGGER IF EXISTS count_client ON clients")
        op.execute("DROP FUNCTION IF EXISTS count_client")
    else:
        for done in ("created", "deleted", "changed"):
            op.execute(f"DROP TRIGGER IF EXISTS count_client_{done}")
    op.drop_table("client_total_changes")
    op.drop_table("client_totals")
