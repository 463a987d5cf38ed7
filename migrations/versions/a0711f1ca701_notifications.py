"""Channels, rules and messages of notifications, with one rule: everything to all channels.

Revision ID: a0711f1ca701
Revises: 5beed0000002
"""

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

revision = "a0711f1ca701"
down_revision = "5beed0000002"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.DateTime(timezone=True)
OF_OURS = ("client", "broker", "certificate", "authentication", "database", "backup")


def upgrade() -> None:
    """Go forward."""
    op.create_table(
        "notification_channels",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("kind", sa.String(40), nullable=False),
        sa.Column("target", sa.String(300), nullable=False),
        sa.Column("sealed_url", sa.Text(), nullable=False),
        sa.Column("sealed_secret", sa.Text()),
        sa.Column("language", sa.String(10), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False, server_default=sa.text("true")),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("last_ok_at", TIME),
        sa.Column("failing_since", TIME),
        sa.Column("last_error", sa.Text()),
        sa.PrimaryKeyConstraint("id", name="pk_notification_channels"),
        sa.UniqueConstraint("name", name="uq_notification_channels_name"),
    )
    rules = op.create_table(
        "notification_rules",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False, server_default=sa.text("true")),
        sa.Column("settings", sa.JSON(), nullable=False, server_default="{}"),
        sa.Column("created_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_notification_rules"),
        sa.UniqueConstraint("name", name="uq_notification_rules_name"),
    )
    op.bulk_insert(
        rules, [{"name": "default", "enabled": True, "settings": {}, "created_at": datetime.now(UTC)}]
    )
    op.create_table(
        "notices",
        sa.Column("incident_id", BIG, nullable=False),
        sa.Column("rule_id", sa.Integer(), nullable=False),
        sa.Column("opened_at", TIME),
        sa.Column("reminded_at", TIME),
        sa.Column("escalated_at", TIME),
        sa.Column("calm_at", TIME),
        sa.Column("look_at", TIME),
        sa.Column("seen", sa.String(60), nullable=False),
        sa.Column("done", sa.Boolean(), nullable=False, server_default=sa.text("false")),
        sa.PrimaryKeyConstraint("incident_id", "rule_id", name="pk_notices"),
        sa.ForeignKeyConstraint(
            ["incident_id"], ["incidents.id"], name="fk_notices_incident_id_incidents", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["rule_id"],
            ["notification_rules.id"],
            name="fk_notices_rule_id_notification_rules",
            ondelete="CASCADE",
        ),
    )
    unfinished = sa.text("NOT done")
    op.create_index(
        "ix_notices_unfinished",
        "notices",
        ["rule_id"],
        sqlite_where=unfinished,
        postgresql_where=unfinished,
    )
    op.create_table(
        "notifications",
        sa.Column("id", BIG, nullable=False),
        sa.Column("message_id", sa.String(36), nullable=False),
        sa.Column("channel_id", sa.Integer(), nullable=False),
        sa.Column("incident_id", BIG),
        sa.Column("step", sa.String(40), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("severity", sa.String(40), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False, server_default="{}"),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("next_at", TIME),
        sa.Column("sent_at", TIME),
        sa.Column("given_up_at", TIME),
        sa.Column("summary_id", BIG),
        sa.Column("last_error", sa.Text()),
        sa.PrimaryKeyConstraint("id", name="pk_notifications"),
        sa.UniqueConstraint("message_id", name="uq_notifications_message_id"),
        sa.UniqueConstraint(
            "channel_id",
            "incident_id",
            "step",
            "number",
            name="uq_notifications_channel_id_incident_id_step_number",
        ),
        sa.ForeignKeyConstraint(
            ["channel_id"],
            ["notification_channels.id"],
            name="fk_notifications_channel_id_notification_channels",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["incident_id"],
            ["incidents.id"],
            name="fk_notifications_incident_id_incidents",
            ondelete="SET NULL",
        ),
    )
    waiting = sa.text("next_at IS NOT NULL")
    op.create_index(
        "ix_notifications_waiting",
        "notifications",
        ["channel_id", "next_at"],
        sqlite_where=waiting,
        postgresql_where=waiting,
    )
    op.create_index("ix_notifications_incident_id", "notifications", ["incident_id"])
    op.create_index("ix_notifications_sent", "notifications", ["channel_id", "sent_at"])
    op.create_index("ix_notifications_created_at", "notifications", ["created_at"])


def downgrade() -> None:
    """Go back; channels, rules, messages and incidents of the newer kinds are deleted."""
    for table in ("notifications", "notices", "notification_rules", "notification_channels"):
        op.drop_table(table)
    incidents = sa.table("incidents", sa.column("kind"), sa.column("id"))
    members = sa.table("incident_members", sa.column("incident_id"))
    strange = sa.select(incidents.c.id).where(incidents.c.kind.in_(OF_OURS))
    op.execute(sa.delete(members).where(members.c.incident_id.in_(strange)))
    op.execute(sa.delete(incidents).where(incidents.c.kind.in_(OF_OURS)))
