"""Who acknowledged a failed service, until the unit was seen running again.

Revision ID: ac4e00000001
Revises: b0e700000001
"""

import sqlalchemy as sa
from alembic import op

revision = "ac4e00000001"
down_revision = "b0e700000001"
branch_labels = None
depends_on = None

ACKNOWLEDGED = sa.text("acknowledged_by IS NOT NULL")


def upgrade() -> None:
    """Go forward; failures that were acknowledged before count as done with."""
    op.add_column("failed_services", sa.Column("acknowledged_by", sa.String(200)))
    op.create_index(
        "ix_failed_services_acknowledged",
        "failed_services",
        ["client_uuid"],
        sqlite_where=ACKNOWLEDGED,
        postgresql_where=ACKNOWLEDGED,
    )


def downgrade() -> None:
    """Go back; who acknowledged what is still in the timeline."""
    op.drop_index("ix_failed_services_acknowledged", "failed_services")
    op.drop_column("failed_services", "acknowledged_by")
