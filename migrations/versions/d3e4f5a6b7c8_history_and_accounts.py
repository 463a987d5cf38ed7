"""Histories, screenshots, rejected messages, accounts and the audit trail.

Revision ID: d3e4f5a6b7c8
Revises: c2d3e4f5a6b7
"""

import sqlalchemy as sa
from alembic import op

revision = "d3e4f5a6b7c8"
down_revision = "c2d3e4f5a6b7"
branch_labels = None
depends_on = None


def _time(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _reference(table: str, column: str, other: str, key: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        [column], [f"{other}.{key}"], name=f"fk_{table}_{column}_{other}", ondelete="CASCADE"
    )


def upgrade() -> None:
    """Go forward."""
    _create_histories()
    _create_accounts()


def _create_histories() -> None:
    op.create_table(
        "command_events",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("command_id", sa.String(36), nullable=False),
        sa.Column("client_uuid", sa.String(36), nullable=False),
        _time("at"),
        sa.Column("from_status", sa.String(40)),
        sa.Column("to_status", sa.String(40), nullable=False),
        sa.Column("by", sa.String(200), nullable=False),
        sa.Column("detail", sa.Text()),
        sa.Column("times", sa.Integer(), nullable=False, server_default="1"),
        sa.PrimaryKeyConstraint("id", name="pk_command_events"),
        _reference("command_events", "command_id", "client_commands", "command_id"),
        _reference("command_events", "client_uuid", "clients", "uuid"),
    )
    op.create_index("ix_command_events_command_id", "command_events", ["command_id", "id"])
    op.create_index("ix_command_events_client", "command_events", ["client_uuid", "at"])
    op.create_table(
        "timeline",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("client_uuid", sa.String(36), nullable=False),
        _time("at"),
        sa.Column("kind", sa.String(40), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("level", sa.String(10)),
        sa.Column("data", sa.JSON()),
        sa.Column("dedupe_key", sa.String(64)),
        sa.PrimaryKeyConstraint("id", name="pk_timeline"),
        sa.UniqueConstraint("dedupe_key", name="uq_timeline_dedupe_key"),
        _reference("timeline", "client_uuid", "clients", "uuid"),
    )
    op.create_index("ix_timeline_client", "timeline", ["client_uuid", "at"])
    op.create_index("ix_timeline_at", "timeline", ["at"])
    op.create_table(
        "screenshots",
        sa.Column("client_uuid", sa.String(36), nullable=False),
        _time("received_at"),
        sa.Column("content_type", sa.String(40), nullable=False),
        sa.Column("image", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("client_uuid", name="pk_screenshots"),
        _reference("screenshots", "client_uuid", "clients", "uuid"),
    )
    op.create_table(
        "rejected_messages",
        sa.Column("id", sa.Integer(), nullable=False),
        _time("at"),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("reason", sa.String(40), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("head", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_rejected_messages"),
    )


def _create_accounts() -> None:
    op.create_table(
        "users",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("username", sa.String(100), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=False),
        sa.Column("role", sa.String(40), nullable=False),
        sa.Column("disabled", sa.Boolean(), nullable=False, server_default=sa.text("false")),
        _time("created_at"),
        _time("last_login_at", nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_users"),
        sa.UniqueConstraint("username", name="uq_users_username"),
    )
    op.create_table(
        "sessions",
        sa.Column("token_hash", sa.String(64), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        _time("created_at"),
        _time("last_seen_at"),
        _time("expires_at"),
        sa.Column("address", sa.String(60)),
        sa.Column("user_agent", sa.String(300)),
        sa.PrimaryKeyConstraint("token_hash", name="pk_sessions"),
        _reference("sessions", "user_id", "users", "id"),
    )
    op.create_index("ix_sessions_user_id", "sessions", ["user_id"])
    op.create_table(
        "api_tokens",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("token_hash", sa.String(64), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("role", sa.String(40), nullable=False),
        _time("created_at"),
        _time("expires_at", nullable=True),
        _time("last_used_at", nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_api_tokens"),
        sa.UniqueConstraint("token_hash", name="uq_api_tokens_token_hash"),
        _reference("api_tokens", "user_id", "users", "id"),
    )
    op.create_index("ix_api_tokens_user_id", "api_tokens", ["user_id"])
    op.create_table(
        "login_failures",
        sa.Column("key", sa.String(200), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        _time("last_at"),
        sa.PrimaryKeyConstraint("key", name="pk_login_failures"),
    )
    op.create_table(
        "audit",
        sa.Column("id", sa.Integer(), nullable=False),
        _time("at"),
        sa.Column("actor_id", sa.Integer()),
        sa.Column("actor", sa.String(200), nullable=False),
        sa.Column("via", sa.String(20), nullable=False),
        sa.Column("action", sa.String(60), nullable=False),
        sa.Column("target", sa.String(200)),
        sa.Column("detail", sa.JSON()),
        sa.Column("address", sa.String(60)),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
    )
    op.create_index("ix_audit_at", "audit", ["at"])


def downgrade() -> None:
    """Go back; what the dropped tables held is gone, clients and commands stay."""
    for table in (
        "audit",
        "login_failures",
        "api_tokens",
        "sessions",
        "users",
        "rejected_messages",
        "screenshots",
        "timeline",
        "command_events",
    ):
        op.drop_table(table)
