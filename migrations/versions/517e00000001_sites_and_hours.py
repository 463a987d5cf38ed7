"""Sites as rows, made of the names that clients have, and the hours of clients.

Revision ID: 517e00000001
Revises: 54013a000001
"""

import sqlalchemy as sa
from alembic import op

revision = "517e00000001"
down_revision = "54013a000001"
branch_labels = None
depends_on = None

UNWELL = sa.text("status NOT IN ('online', 'never_seen', 'off_hours')")
UNWELL_BEFORE = sa.text("status NOT IN ('online', 'never_seen')")
CHANGES = sa.text("next_change_at IS NOT NULL")
CLOSED_SILENT = sa.text("status IN ('hung', 'unreachable') AND NOT within_hours")
OPENED_SILENT = sa.text("status = 'off_hours' AND within_hours")


def upgrade() -> None:
    """Go forward."""
    op.create_table(
        "sites",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("time_zone", sa.String(64)),
        sa.Column("country", sa.String(2)),
        sa.Column("hours", sa.String(500)),
        sa.Column("contact", sa.Text()),
        sa.Column("phone", sa.String(100)),
        sa.Column("runbook", sa.Text()),
        sa.Column("enforce", sa.String(40), nullable=False, server_default="none"),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_sites"),
    )
    op.create_index("ix_sites_name", "sites", ["name"], unique=True)
    op.drop_index("ix_clients_unwell", "clients")
    with op.batch_alter_table("clients") as batch:
        batch.add_column(sa.Column("own_hours", sa.String(500)))
        batch.add_column(sa.Column("own_time_zone", sa.String(64)))
        batch.add_column(sa.Column("own_country", sa.String(2)))
        batch.add_column(sa.Column("hours", sa.String(500), nullable=False, server_default="24/7"))
        batch.add_column(sa.Column("hours_source", sa.String(40), nullable=False, server_default="default"))
        batch.add_column(sa.Column("time_zone", sa.String(64)))
        batch.add_column(sa.Column("hours_fault", sa.String(40)))
        batch.add_column(
            sa.Column("within_hours", sa.Boolean(), nullable=False, server_default=sa.text("true"))
        )
        batch.add_column(sa.Column("hours_since", sa.DateTime(timezone=True)))
        batch.add_column(sa.Column("expected_by", sa.DateTime(timezone=True)))
        batch.add_column(sa.Column("next_change_at", sa.DateTime(timezone=True)))
    _index("ix_clients_unwell", ["status_since"], UNWELL)
    _index("ix_clients_next_change", ["next_change_at"], CHANGES)
    _index("ix_clients_closed_silent", ["uuid"], CLOSED_SILENT)
    _index("ix_clients_opened_silent", ["expected_by"], OPENED_SILENT)
    # Of all clients the earliest, as a time that the database already has in its own notation.
    op.execute(
        sa.text(
            "INSERT INTO sites (name, created_at)"
            " SELECT site, min(created_at) FROM clients WHERE site <> '' GROUP BY site ORDER BY site"
        )
    )


def downgrade() -> None:
    """Go back: clients keep the names of their sites, everything else about sites is forgotten."""
    for name in ("opened_silent", "closed_silent", "next_change", "unwell"):
        op.drop_index(f"ix_clients_{name}", "clients")
    op.execute(sa.text("UPDATE clients SET status = 'unreachable' WHERE status = 'off_hours'"))
    with op.batch_alter_table("clients") as batch:
        for name in (
            "next_change_at",
            "expected_by",
            "hours_since",
            "within_hours",
            "hours_fault",
            "time_zone",
            "hours_source",
            "hours",
            "own_country",
            "own_time_zone",
            "own_hours",
        ):
            batch.drop_column(name)
    _index("ix_clients_unwell", ["status_since"], UNWELL_BEFORE)
    op.drop_table("sites")


def _index(name: str, columns: list[str], where: sa.TextClause) -> None:
    op.create_index(name, "clients", columns, sqlite_where=where, postgresql_where=where)
