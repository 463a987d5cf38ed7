"""Intervals of clients, and when the daemon listened.

Revision ID: 54013a000002
Revises: b01c00000001
"""

import sqlalchemy as sa
from alembic import op

revision = "54013a000002"
down_revision = "b01c00000001"
branch_labels = None
depends_on = None


def _at(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=False)


def _key() -> sa.Column[object]:
    return sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True)


def upgrade() -> None:
    """Create the tables. How clients were before their present status is not known."""
    op.add_column("clients", sa.Column("interval_since", sa.DateTime(timezone=True)))
    op.create_table(
        "client_intervals",
        _key(),
        sa.Column(
            "client_uuid", sa.String(36), sa.ForeignKey("clients.uuid", ondelete="CASCADE"), nullable=False
        ),
        sa.Column("condition", sa.String(40), nullable=False),
        sa.Column("cause", sa.String(40)),
        sa.Column("cure", sa.String(40)),
        sa.Column("repaired_seconds", sa.BigInteger().with_variant(sa.Integer(), "sqlite")),
        _at("began_at"),
        _at("ended_at"),
    )
    op.create_index("ix_client_intervals_client", "client_intervals", ["client_uuid", "ended_at"])
    op.create_index("ix_client_intervals_ended_at", "client_intervals", ["ended_at"])
    where = sa.text("cause IS NULL AND condition <> 'online'")
    op.create_index(
        "ix_client_intervals_unexplained",
        "client_intervals",
        ["ended_at"],
        sqlite_where=where,
        postgresql_where=where,
    )
    op.create_table(
        "observed_times",
        _key(),
        _at("began_at"),
        _at("ended_at"),
        sa.Column("gap_cause", sa.String(40), nullable=False),
    )
    op.create_index("ix_observed_times_ended_at", "observed_times", ["ended_at"])
    op.execute(
        "INSERT INTO client_intervals (client_uuid, condition, cause, began_at, ended_at)"
        " SELECT uuid, 'never_seen', 'unknown', created_at, status_since FROM clients"
        " WHERE status_since > created_at"
    )
    op.execute("UPDATE clients SET interval_since = status_since WHERE status_since > created_at")


def downgrade() -> None:
    """Drop them."""
    op.drop_table("observed_times")
    op.drop_table("client_intervals")
    op.drop_column("clients", "interval_since")
