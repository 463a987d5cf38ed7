"""Power cycles, and their place among the commands of which a client has one at a time.

Revision ID: b0e700000002
Revises: 5ea2c4000001
"""

import sqlalchemy as sa
from alembic import op

revision = "b0e700000002"
down_revision = "5ea2c4000001"
branch_labels = None
depends_on = None

OPEN = "'accepted', 'execution_started', 'publish_in_progress', 'published', 'queued'"
BEFORE = "'reboot_host', 'restart_app', 'shutdown_host'"
IN_FLIGHT = "uq_client_commands_in_flight"


def _count_in_flight(actions: str) -> None:
    where = sa.text(f"status IN ({OPEN}) AND action IN ({actions}) AND waits_for IS NULL")
    op.drop_index(IN_FLIGHT, table_name="client_commands")
    op.create_index(
        IN_FLIGHT,
        "client_commands",
        ["client_uuid"],
        unique=True,
        sqlite_where=where,
        postgresql_where=where,
    )


def upgrade() -> None:
    """Go forward."""
    op.create_table(
        "power_cycles",
        sa.Column("command_id", sa.String(36), nullable=False),
        sa.Column("client_uuid", sa.String(36), nullable=False),
        sa.Column("outlet_key", sa.String(800), nullable=False),
        sa.Column("outlet", sa.JSON(), nullable=False),
        sa.Column("cycle", sa.JSON(), nullable=False),
        sa.Column("began_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("switched_at", sa.DateTime(timezone=True)),
        sa.Column("ended_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("command_id", name="pk_power_cycles"),
    )
    under_way = sa.text("ended_at IS NULL")
    op.create_index(
        "ix_power_cycles_open",
        "power_cycles",
        ["began_at"],
        sqlite_where=under_way,
        postgresql_where=under_way,
    )
    op.create_index("ix_power_cycles_outlet", "power_cycles", ["outlet_key", "switched_at"])
    op.create_index("ix_power_cycles_client", "power_cycles", ["client_uuid", "switched_at"])
    _count_in_flight(f"'power_cycle', {BEFORE}")


def downgrade() -> None:
    """Go back; commands of an action that is not known there are deleted with their histories."""
    gone = "SELECT command_id FROM client_commands WHERE action = 'power_cycle'"
    op.execute(f"DELETE FROM command_events WHERE command_id IN ({gone})")
    op.execute("DELETE FROM client_commands WHERE action = 'power_cycle'")
    _count_in_flight(BEFORE)
    op.drop_table("power_cycles")
