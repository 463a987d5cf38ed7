"""The newest batch that each writer has stored.

Revision ID: e5c0de000001
Revises: d5e1a0c70003
"""

import sqlalchemy as sa
from alembic import op

revision = "e5c0de000001"
down_revision = "d5e1a0c70003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "ingest_batches",
        sa.Column("writer", sa.Text(), nullable=False),
        sa.Column("batch", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("writer", name="pk_ingest_batches"),
    )


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("ingest_batches")
