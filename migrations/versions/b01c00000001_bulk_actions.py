"""Bulk actions, and commands that wait for their turn or for their client.

Revision ID: b01c00000001
Revises: f2fa00000001
"""

import sqlalchemy as sa
from alembic import op

revision = "b01c00000001"
down_revision = "f2fa00000001"
branch_labels = None
depends_on = None

BEFORE = (
    "status IN ('accepted', 'execution_started', 'publish_in_progress', 'published', 'queued')"
    " AND action IN ('reboot_host', 'restart_app', 'shutdown_host')"
)
AFTER = f"{BEFORE} AND waits_for IS NULL"


def _in_flight(where: str) -> None:
    op.drop_index("uq_client_commands_in_flight", "client_commands")
    op.create_index(
        "uq_client_commands_in_flight",
        "client_commands",
        ["client_uuid"],
        unique=True,
        sqlite_where=sa.text(where),
        postgresql_where=sa.text(where),
    )


def upgrade() -> None:
    """Go forward."""
    op.add_column("client_commands", sa.Column("waits_for", sa.String(40)))
    op.add_column("client_commands", sa.Column("wait_until", sa.DateTime(timezone=True)))
    _in_flight(AFTER)
    waiting = sa.text("waits_for IS NOT NULL")
    op.create_index(
        "ix_client_commands_waiting",
        "client_commands",
        ["waits_for", "created_at"],
        sqlite_where=waiting,
        postgresql_where=waiting,
    )
    op.create_table(
        "bulk_actions",
        sa.Column("batch_id", sa.String(36), nullable=False),
        sa.Column("action", sa.String(40), nullable=False),
        sa.Column("source", sa.String(40), nullable=False),
        sa.Column("reason", sa.Text()),
        sa.Column("query", sa.JSON()),
        sa.Column("expires_in", sa.Float()),
        sa.Column("actor_id", sa.Integer()),
        sa.Column("actor", sa.String(200), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("clients", sa.Integer(), nullable=False),
        sa.Column("stopped_at", sa.DateTime(timezone=True)),
        sa.Column("stopped_by", sa.String(200)),
        sa.PrimaryKeyConstraint("batch_id", name="pk_bulk_actions"),
    )
    op.create_index("ix_bulk_actions_at", "bulk_actions", ["at", "batch_id"])
    op.create_table(
        "bulk_results",
        sa.Column("batch_id", sa.String(36), nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("client_uuid", sa.String(36), nullable=False),
        sa.Column("outcome", sa.String(40), nullable=False),
        sa.Column("command_id", sa.String(36)),
        sa.PrimaryKeyConstraint("batch_id", "position", name="pk_bulk_results"),
        sa.ForeignKeyConstraint(
            ["batch_id"],
            ["bulk_actions.batch_id"],
            name="fk_bulk_results_batch_id_bulk_actions",
            ondelete="CASCADE",
        ),
    )
    pending = sa.text("outcome = 'pending'")
    op.create_index(
        "ix_bulk_results_pending",
        "bulk_results",
        ["batch_id"],
        sqlite_where=pending,
        postgresql_where=pending,
    )


def downgrade() -> None:
    """Go back; commands that wait are withdrawn, since the version before would send them at once."""
    op.execute(
        "UPDATE client_commands SET status = 'cancelled', finished_at = created_at"
        " WHERE waits_for IS NOT NULL AND status = 'queued'"
    )
    op.drop_table("bulk_results")
    op.drop_table("bulk_actions")
    op.drop_index("ix_client_commands_waiting", "client_commands")
    _in_flight(BEFORE)
    op.drop_column("client_commands", "wait_until")
    op.drop_column("client_commands", "waits_for")
