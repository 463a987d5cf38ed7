"""An index of warnings and errors among the log lines, which a client's history shows without the others.

Revision ID: 109e00000001
Revises: 01dc00000001
"""

import sqlalchemy as sa
from alembic import op

revision = "109e00000001"
down_revision = "01dc00000001"
branch_labels = None
depends_on = None

GRAVE = sa.text("kind = 'log' AND level IN ('warn', 'error')")


def upgrade() -> None:
    """Go forward."""
    op.create_index(
        "ix_timeline_grave",
        "timeline",
        ["client_uuid", "at", "id"],
        sqlite_where=GRAVE,
        postgresql_where=GRAVE,
    )


def downgrade() -> None:
    """Go back."""
    op.drop_index("ix_timeline_grave", "timeline")
