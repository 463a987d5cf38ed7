"""The tables of notifications. Imported by ``storage.tables``, which knows all tables."""

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from infoscreen.domain.alerts import Severity
from infoscreen.domain.notifying import ChannelKind, NoticeStep
from infoscreen.storage.columns import BigKey, UtcDateTime, Word, row_number
from infoscreen.storage.metadata import metadata

channels = Table(
    "notification_channels",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(100), nullable=False, unique=True),
    Column("kind", Word(ChannelKind), nullable=False),
    Column("target", String(300), nullable=False),  # what may be shown of the URL
    Column("sealed_url", Text, nullable=False),
    Column("sealed_secret", Text),
    Column("language", String(10), nullable=False),
    Column("enabled", Boolean, nullable=False, server_default=text("true")),
    Column("created_at", UtcDateTime, nullable=False),
    Column("last_ok_at", UtcDateTime),
    Column("failing_since", UtcDateTime),
    Column("last_error", Text),
)

rules = Table(
    "notification_rules",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(100), nullable=False, unique=True),
    Column("enabled", Boolean, nullable=False, server_default=text("true")),
    Column("settings", JSON, nullable=False, server_default="{}"),
    Column("created_at", UtcDateTime, nullable=False),
)

notices = Table(
    "notices",
    metadata,
    Column("incident_id", BigKey, ForeignKey("incidents.id", ondelete="CASCADE"), primary_key=True),
    Column("rule_id", Integer, ForeignKey("notification_rules.id", ondelete="CASCADE"), primary_key=True),
    Column("opened_at", UtcDateTime),
    Column("reminded_at", UtcDateTime),
    Column("escalated_at", UtcDateTime),
    Column("calm_at", UtcDateTime),
    Column("look_at", UtcDateTime),
    Column("seen", String(60), nullable=False),  # the state of the incident that this was decided on
    Column("done", Boolean, nullable=False, server_default=text("false")),
)
_unfinished = text("NOT done")
Index(
    "ix_notices_unfinished",
    notices.c.rule_id,
    sqlite_where=_unfinished,
    postgresql_where=_unfinished,
)

notifications = Table(
    "notifications",
    metadata,
    row_number(),
    Column("message_id", String(36), nullable=False, unique=True),
    Column(
        "channel_id",
        Integer,
        ForeignKey("notification_channels.id", ondelete="CASCADE"),
        nullable=False,
    ),
    Column("incident_id", BigKey, ForeignKey("incidents.id", ondelete="SET NULL"), index=True),
    Column("step", Word(NoticeStep), nullable=False),
    Column("number", Integer, nullable=False, server_default="0"),  # of the reminder
    Column("severity", Word(Severity), nullable=False),
    Column("facts", JSON, nullable=False, server_default="{}"),
    Column("created_at", UtcDateTime, nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("next_at", UtcDateTime),  # null: nothing is left to do
    Column("sent_at", UtcDateTime),
    Column("given_up_at", UtcDateTime),
    Column("summary_id", BigKey),
    Column("last_error", Text),
    Column("link_used_at", UtcDateTime),  # its link to acknowledge works once
    UniqueConstraint("channel_id", "incident_id", "step", "number"),
)
_waiting = text("next_at IS NOT NULL")
Index(
    "ix_notifications_waiting",
    notifications.c.channel_id,
    notifications.c.next_at,
    sqlite_where=_waiting,
    postgresql_where=_waiting,
)
Index("ix_notifications_sent", notifications.c.channel_id, notifications.c.sent_at)
Index("ix_notifications_created_at", notifications.c.created_at)
