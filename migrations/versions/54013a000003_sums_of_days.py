"""Sums of days: of clients, as running totals, and of sites.

Revision ID: 54013a000003
Revises: 54013a000002
"""

import sqlalchemy as sa
from alembic import op

revision = "54013a000003"
down_revision = "54013a000002"
branch_labels = None
depends_on = None

SUMS = (
    "shown",
    "dark_app",
    "dark_host",
    "dark_power",
    "dark_network_or_site",
    "dark_broker_or_server",
    "dark_unknown",
    "maintenance",
    "off_hours",
    "unobserved",
    "itself_repairs",
    "itself_seconds",
    "recovery_repairs",
    "recovery_seconds",
    "person_repairs",
    "person_seconds",
)


def _sums() -> list[sa.Column[object]]:
    kind = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    return [sa.Column(name, kind, nullable=False) for name in SUMS]


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "availability_days",
        sa.Column(
            "client_uuid", sa.String(36), sa.ForeignKey("clients.uuid", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column("day", sa.String(10), primary_key=True),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        *_sums(),
    )
    op.create_index("ix_availability_days_day", "availability_days", ["day", "client_uuid"])
    op.create_table(
        "site_days",
        sa.Column("day", sa.String(10), primary_key=True),
        sa.Column("site", sa.String(200), primary_key=True),
        *_sums(),
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_table("site_days")
    op.drop_table("availability_days")
