"""Who takes care of which client, and an index by when commands were published.

Revision ID: 5beed0000001
Revises: e5c0de000002
"""

import sqlalchemy as sa
from alembic import op

revision = "5beed0000001"
down_revision = "e5c0de000002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go forward."""
    op.create_table(
        "recovery_acknowledgements",
        sa.Column("client_uuid", sa.String(36), nullable=False),
        sa.Column("recovery", sa.String(40), nullable=False),
        sa.Column("by", sa.String(200), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True)),
        sa.Column("comment", sa.Text()),
        sa.PrimaryKeyConstraint("client_uuid", name="pk_recovery_acknowledgements"),
        sa.ForeignKeyConstraint(
            ["client_uuid"],
            ["clients.uuid"],
            name="fk_recovery_acknowledgements_client_uuid_clients",
            ondelete="CASCADE",
        ),
    )
    published = sa.text("published_at IS NOT NULL")
    op.create_index(
        "ix_client_commands_published_at",
        "client_commands",
        ["published_at"],
        sqlite_where=published,
        postgresql_where=published,
    )


def downgrade() -> None:
    """Go back; who took care of what is forgotten."""
    op.drop_index("ix_client_commands_published_at", "client_commands")
    op.drop_table("recovery_acknowledgements")
