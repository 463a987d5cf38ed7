"""The broker's numbers of rejected messages, by which repeated ones are recognised.

Revision ID: f19a5ea7c003
Revises: 517e00000001
"""

import sqlalchemy as sa
from alembic import op

revision = "f19a5ea7c003"
down_revision = "517e00000001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go forward."""
    op.add_column("rejected_messages", sa.Column("packet_id", sa.Integer()))


def downgrade() -> None:
    """Go back."""
    op.drop_column("rejected_messages", "packet_id")
