"""Histories that grow for years: 64-bit keys, and an index for every way in which they are listed.

On SQLite a row's number has 64 bits already, and columns have no size.

Revision ID: f5a6b7c8d9e0
Revises: d5e1a0c70001
"""

import sqlalchemy as sa
from alembic import op

revision = "f5a6b7c8d9e0"
down_revision = "d5e1a0c70001"
branch_labels = None
depends_on = None

KEYS = (
    "timeline",
    "command_events",
    "audit",
    "rejected_messages",
    "recovery_attempts",
    "recovery_decisions",
    "recovery_incidents",
)
NUMBERS = {
    "clients": ("heartbeats", "heartbeats_since_boot", "heartbeats_at_change"),
    "command_events": ("times",),
    "recovery_decisions": ("incident_id",),
}
GREATEST_OF_32_BITS = 2**31 - 1

NEWEST_FIRST = ["created_at", "command_id"]
RARE_END = "status IN ('blocked_safety', 'cancelled', 'expired', 'failed')"
CHANGED = {
    "ix_timeline_client": ("timeline", ["client_uuid", "at"], ["client_uuid", "kind", "at", "id"]),
    "ix_command_events_client": ("command_events", ["client_uuid", "at"], ["client_uuid", "at", "id"]),
    "ix_client_commands_client": (
        "client_commands",
        ["client_uuid", "created_at"],
        ["client_uuid", *NEWEST_FIRST],
    ),
}
ADDED = {
    "ix_client_commands_action": ("client_commands", ["action", *NEWEST_FIRST], None),
    "ix_client_commands_source": ("client_commands", ["source", *NEWEST_FIRST], None),
    "ix_client_commands_batch": ("client_commands", ["batch_id", *NEWEST_FIRST], "batch_id IS NOT NULL"),
    "ix_client_commands_rare": ("client_commands", ["status", *NEWEST_FIRST], RARE_END),
    "ix_audit_actor": ("audit", ["actor", "id"], None),
    "ix_audit_action": ("audit", ["action", "id"], None),
    "ix_audit_target": ("audit", ["target", "id"], None),
}


def upgrade() -> None:
    """Go forward."""
    if op.get_bind().dialect.name == "postgresql":
        _resize("BIGINT")
    for name, (table, _, columns) in CHANGED.items():
        op.drop_index(name, table)
        op.create_index(name, table, columns)
    for name, (table, columns, condition) in ADDED.items():
        where = None if condition is None else sa.text(condition)
        op.create_index(name, table, columns, sqlite_where=where, postgresql_where=where)


def downgrade() -> None:
    """Go back. Rows with numbers beyond 32 bits are numbered from 1, in the same order."""
    for name, (table, _, _) in ADDED.items():
        op.drop_index(name, table)
    for name, (table, columns, _) in CHANGED.items():
        op.drop_index(name, table)
        op.create_index(name, table, columns)
    if op.get_bind().dialect.name == "postgresql":
        for table in KEYS:
            _renumber(table)
        for table, columns in NUMBERS.items():
            for column in columns:
                op.execute(
                    f"UPDATE {table} SET {column} = {GREATEST_OF_32_BITS}"
                    f" WHERE {column} > {GREATEST_OF_32_BITS}"
                )
        _resize("INTEGER")


def _resize(kind: str) -> None:
    for table in KEYS:
        op.execute(f"ALTER TABLE {table} ALTER COLUMN id TYPE {kind}")
        op.execute(f"ALTER SEQUENCE {table}_id_seq AS {kind}")
    for table, columns in NUMBERS.items():
        changes = ", ".join(f"ALTER COLUMN {column} TYPE {kind}" for column in columns)
        op.execute(f"ALTER TABLE {table} {changes}")


def _renumber(table: str) -> None:
    """Number the rows from 1 if the sequence has left 32 bits; by way of negative numbers, which are free."""
    reached = op.get_bind().scalar(sa.text(f"SELECT last_value FROM {table}_id_seq"))
    if reached is None or reached <= GREATEST_OF_32_BITS:
        return
    numbered = f"(SELECT id, row_number() OVER (ORDER BY id) AS number FROM {table}) AS n"
    if table == "recovery_incidents":
        op.execute(
            f"UPDATE recovery_decisions SET incident_id = n.number FROM {numbered} WHERE n.id = incident_id"
        )
    op.execute(f"UPDATE {table} SET id = -n.number FROM {numbered} WHERE n.id = {table}.id")
    op.execute(f"UPDATE {table} SET id = -id")
    op.execute(f"SELECT setval('{table}_id_seq', (SELECT coalesce(max(id), 1) FROM {table}))")
