"""Two devices under one identity, clocks that make devices refuse, and retained topics to empty.

Revision ID: d5e1a0c70003
Revises: d5e1a0c70002
"""

import sqlalchemy as sa
from alembic import op

revision = "d5e1a0c70003"
down_revision = "d5e1a0c70002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go forward."""
    with op.batch_alter_table("clients") as batch:
        batch.add_column(sa.Column("best_skew_seconds", sa.Float()))
        batch.add_column(sa.Column("speakers", sa.JSON(), nullable=False, server_default="[]"))
        batch.add_column(sa.Column("duplicate_score", sa.Integer(), nullable=False, server_default="0"))
        batch.add_column(sa.Column("duplicate_since", sa.DateTime(timezone=True)))
        batch.add_column(sa.Column("duplicate_seen_at", sa.DateTime(timezone=True)))
    with op.batch_alter_table("client_commands") as batch:
        batch.add_column(sa.Column("before_clock_skew_seconds", sa.Float()))
        batch.add_column(sa.Column("refused_skew_seconds", sa.Float()))
    op.create_table(
        "retained_clears",
        sa.Column("topic", sa.String(200), nullable=False),
        sa.Column("requested_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("topic", name="pk_retained_clears"),
    )


def downgrade() -> None:
    """Go back, keeping every row; older code does not know the new words."""
    op.drop_table("retained_clears")
    with op.batch_alter_table("client_commands") as batch:
        batch.drop_column("refused_skew_seconds")
        batch.drop_column("before_clock_skew_seconds")
    op.execute(sa.text("UPDATE clients SET status = 'online' WHERE status = 'duplicate'"))
    with op.batch_alter_table("clients") as batch:
        batch.drop_column("duplicate_seen_at")
        batch.drop_column("duplicate_since")
        batch.drop_column("duplicate_score")
        batch.drop_column("speakers")
        batch.drop_column("best_skew_seconds")
