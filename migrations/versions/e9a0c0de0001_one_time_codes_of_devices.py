"""One-time codes with which new devices get their account at the broker.

Revision ID: e9a0c0de0001
Revises: 5beed0000001
"""

import sqlalchemy as sa
from alembic import op

revision = "e9a0c0de0001"
down_revision = "5beed0000001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "enrolment_codes",
        sa.Column("code_hash", sa.String(64), primary_key=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("uuid", sa.String(36)),
        sa.Column("replaces", sa.Boolean(), nullable=False, server_default=sa.text("false")),
        sa.Column("used_by", sa.String(64)),
        sa.Column("used_uuid", sa.String(36)),
    )
    op.create_index("ix_enrolment_codes_expires_at", "enrolment_codes", ["expires_at"])


def downgrade() -> None:
    """Remove the table: codes last for minutes."""
    op.drop_table("enrolment_codes")
