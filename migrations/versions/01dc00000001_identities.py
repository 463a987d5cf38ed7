"""Which user belongs to whom at an OpenID Connect provider.

Revision ID: 01dc00000001
Revises: 54013a000003
"""

import sqlalchemy as sa
from alembic import op

revision = "01dc00000001"
down_revision = "54013a000003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go forward."""
    op.create_table(
        "identities",
        sa.Column("issuer", sa.String(300), nullable=False),
        sa.Column("subject", sa.String(255), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name="fk_identities_user_id_users", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("issuer", "subject", name="pk_identities"),
    )
    op.create_index("ix_identities_user_id", "identities", ["user_id"])


def downgrade() -> None:
    """Go back; users who signed in at a provider stay, without a password."""
    op.drop_index("ix_identities_user_id", table_name="identities")
    op.drop_table("identities")
