"""Links in messages, to acknowledge an incident, work once.

Revision ID: a0711f1ca702
Revises: a0711f1ca701
"""

import sqlalchemy as sa
from alembic import op

revision = "a0711f1ca702"
down_revision = "a0711f1ca701"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go forward."""
    with op.batch_alter_table("notifications") as table:
        table.add_column(sa.Column("link_used_at", sa.DateTime(timezone=True)))


def downgrade() -> None:
    """Go back; that links were used is forgotten."""
    with op.batch_alter_table("notifications") as table:
        table.drop_column("link_used_at")
