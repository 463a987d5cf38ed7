"""Clients and their commands.

Revision ID: a0b1c2d3e4f5
Revises: nothing; this is the first
"""

import sqlalchemy as sa
from alembic import op

revision = "a0b1c2d3e4f5"
down_revision = None
branch_labels = None
depends_on = None

IN_FLIGHT = sa.text(
    "status IN ('accepted', 'execution_started', 'publish_in_progress', 'published', 'queued')"
    " AND action IN ('reboot_host', 'restart_app', 'shutdown_host')"
)


def upgrade() -> None:
    """Go forward."""
    op.create_table(
        "clients",
        sa.Column("uuid", sa.String(36), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("status", sa.String(40), nullable=False, server_default="never_seen"),
        sa.Column("status_since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("name", sa.String(200)),
        sa.Column("hostname", sa.String(500)),
        sa.Column("ip", sa.String(500)),
        sa.Column("mac", sa.String(500)),
        sa.Column("site", sa.String(200)),
        sa.Column("tags", sa.JSON(), nullable=False, server_default="[]"),
        sa.Column("description", sa.Text()),
        sa.Column("software_version", sa.String(500)),
        sa.Column("last_alive", sa.DateTime(timezone=True)),
        sa.Column("process_status", sa.String(40)),
        sa.Column("current_process", sa.String(500)),
        sa.PrimaryKeyConstraint("uuid", name="pk_clients"),
    )
    op.create_table(
        "client_commands",
        sa.Column("command_id", sa.String(36), nullable=False),
        sa.Column("client_uuid", sa.String(36), nullable=False),
        sa.Column("action", sa.String(40), nullable=False),
        sa.Column("status", sa.String(40), nullable=False),
        sa.Column("source", sa.String(40), nullable=False),
        sa.Column("requested_by", sa.Integer()),
        sa.Column("reason", sa.Text()),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("published_at", sa.DateTime(timezone=True)),
        sa.Column("accepted_at", sa.DateTime(timezone=True)),
        sa.Column("started_at", sa.DateTime(timezone=True)),
        sa.Column("finished_at", sa.DateTime(timezone=True)),
        sa.Column("error_code", sa.String(200)),
        sa.Column("error_message", sa.Text()),
        sa.PrimaryKeyConstraint("command_id", name="pk_client_commands"),
        sa.ForeignKeyConstraint(
            ["client_uuid"],
            ["clients.uuid"],
            name="fk_client_commands_client_uuid_clients",
            ondelete="CASCADE",
        ),
    )
    op.create_index("ix_client_commands_client", "client_commands", ["client_uuid", "created_at"])
    op.create_index(
        "uq_client_commands_in_flight",
        "client_commands",
        ["client_uuid"],
        unique=True,
        sqlite_where=IN_FLIGHT,
        postgresql_where=IN_FLIGHT,
    )


def downgrade() -> None:
    """Go back to an empty database; this one cannot keep the rows."""
    op.drop_table("client_commands")
    op.drop_table("clients")
