"""Indexes of the recovery's decisions that stand: by number, and by the incident that holds them.

Revision ID: 5beed0000002
Revises: ac4e00000001
"""

import sqlalchemy as sa
from alembic import op

revision = "5beed0000002"
down_revision = "ac4e00000001"
branch_labels = None
depends_on = None

INDEXES = (
    ("ix_recovery_decisions_newest_standing", ["id"], "last_at IS NULL"),
    (
        "ix_recovery_decisions_held",
        ["incident_id", "id"],
        "last_at IS NULL AND incident_id IS NOT NULL",
    ),
)


def upgrade() -> None:
    """Go forward."""
    for name, columns, condition in INDEXES:
        where = sa.text(condition)
        op.create_index(name, "recovery_decisions", columns, sqlite_where=where, postgresql_where=where)


def downgrade() -> None:
    """Go back."""
    for name, _, _ in reversed(INDEXES):
        op.drop_index(name, "recovery_decisions")
