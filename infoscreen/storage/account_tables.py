"""The tables of accounts and of the audit trail. Of secrets they hold hashes only."""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    text,
)

from infoscreen.domain.accounts import Role, SignInWay
from infoscreen.storage.columns import UtcDateTime, Word, row_number
from infoscreen.storage.metadata import metadata

users = Table(
    "users",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("username", String(100), nullable=False, unique=True),
    Column("password_hash", Text, nullable=False),
    Column("role", Word(Role), nullable=False),
    Column("disabled", Boolean, nullable=False, server_default=text("false")),
    Column("created_at", UtcDateTime, nullable=False),
    Column("last_login_at", UtcDateTime),
)

sessions = Table(
    "sessions",
    metadata,
    Column("token_hash", String(64), primary_key=True),
    Column("user_id", Integer, ForeignKey("users.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("created_at", UtcDateTime, nullable=False),
    Column("last_seen_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
    Column("address", String(60)),
    Column("user_agent", String(300)),
    Column("way", Word(SignInWay), nullable=False, server_default=text("'password'")),
)

second_factors = Table(
    "second_factors",
    metadata,
    Column("user_id", Integer, ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    Column("sealed", Text),
    Column("since", UtcDateTime),
    Column("last_step", BigInteger),
    Column("offered", Text),
    Column("offered_at", UtcDateTime),
)

recovery_codes = Table(
    "recovery_codes",
    metadata,
    Column("user_id", Integer, ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    Column("code_hash", String(64), primary_key=True),
)

identities = Table(
    "identities",
    metadata,
    Column("issuer", String(300), primary_key=True),
    Column("subject", String(255), primary_key=True),
    Column("user_id", Integer, ForeignKey("users.id", ondelete="CASCADE"), nullable=False, index=True),
)

pending_logins = Table(
    "pending_logins",
    metadata,
    Column("token_hash", String(64), primary_key=True),
    Column("user_id", Integer, ForeignKey("users.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("expires_at", UtcDateTime, nullable=False),
)

api_tokens = Table(
    "api_tokens",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(100), nullable=False),
    Column("token_hash", String(64), nullable=False, unique=True),
    Column("user_id", Integer, ForeignKey("users.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("role", Word(Role), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime),
    Column("last_used_at", UtcDateTime),
    Column("manages_accounts", Boolean, nullable=False, server_default=text("false")),
)

login_devices = Table(
    "login_devices",
    metadata,
    Column("token_hash", String(64), primary_key=True),
    Column("user_id", Integer, ForeignKey("users.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("last_used_at", UtcDateTime, nullable=False),
)

login_failures = Table(
    "login_failures",
    metadata,
    Column("key", String(200), primary_key=True),
    Column("failures", Integer, nullable=False),
    Column("last_at", UtcDateTime, nullable=False),
)

enrolment_codes = Table(
    "enrolment_codes",
    metadata,
    Column("code_hash", String(64), primary_key=True),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False, index=True),
    Column("uuid", String(36)),
    Column("replaces", Boolean, nullable=False, server_default=text("false")),
    Column("used_by", String(64)),
    Column("used_uuid", String(36)),
)

audit = Table(
    "audit",
    metadata,
    row_number(),
    Column("at", UtcDateTime, nullable=False, index=True),
    Column("actor_id", Integer),
    Column("actor", String(200), nullable=False),
    Column("via", String(20), nullable=False),
    Column("action", String(60), nullable=False),
    Column("target", String(200)),
    Column("detail", JSON(none_as_null=True)),
    Column("address", String(60)),
)

Index("ix_audit_actor", audit.c.actor, audit.c.id)
Index("ix_audit_action", audit.c.action, audit.c.id)
Index("ix_audit_target", audit.c.target, audit.c.id)
