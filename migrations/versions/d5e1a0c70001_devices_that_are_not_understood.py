"""What devices say that cannot be read, remembered at the client.

Revision ID: d5e1a0c70001
Revises: e4f5a6b7c8d9
"""

import sqlalchemy as sa
from alembic import op

revision = "d5e1a0c70001"
down_revision = "e4f5a6b7c8d9"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go forward."""
    with op.batch_alter_table("clients") as batch:
        batch.add_column(sa.Column("keepalive_seconds", sa.Integer()))
        batch.add_column(sa.Column("unread_fields", sa.JSON(), nullable=False, server_default="{}"))
        batch.add_column(sa.Column("refused_at", sa.DateTime(timezone=True)))
        batch.add_column(sa.Column("refused_until", sa.DateTime(timezone=True)))
        batch.add_column(sa.Column("refused_reason", sa.String(40)))
        batch.add_column(sa.Column("refused_detail", sa.String(500)))
        batch.add_column(sa.Column("refused_count", sa.BigInteger(), nullable=False, server_default="0"))
    where = sa.text("status = 'incomprehensible'")
    op.create_index(
        "ix_clients_incomprehensible",
        "clients",
        ["refused_until"],
        sqlite_where=where,
        postgresql_where=where,
    )


def downgrade() -> None:
    """Go back, keeping every row; older code does not know the new words."""
    op.drop_index("ix_clients_incomprehensible", "clients")
    op.execute(sa.text("UPDATE clients SET status = 'unreachable' WHERE status = 'incomprehensible'"))
    op.execute(sa.text("UPDATE clients SET process_status = NULL WHERE process_status = 'other'"))
    with op.batch_alter_table("clients") as batch:
        batch.drop_column("refused_count")
        batch.drop_column("refused_detail")
        batch.drop_column("refused_reason")
        batch.drop_column("refused_until")
        batch.drop_column("refused_at")
        batch.drop_column("unread_fields")
        batch.drop_column("keepalive_seconds")
