"""What presence, learned heartbeats, deadlines and the verification of commands need.

Revision ID: c2d3e4f5a6b7
Revises: b1c2d3e4f5a6
"""

import sqlalchemy as sa
from alembic import op

revision = "c2d3e4f5a6b7"
down_revision = "b1c2d3e4f5a6"
branch_labels = None
depends_on = None


def _time(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True))


def _client_columns() -> list[sa.Column[object]]:
    return [
        sa.Column("sort_key", sa.String(200), nullable=False, server_default=""),
        sa.Column("hardware_model", sa.String(500)),
        sa.Column("os_release", sa.String(500)),
        sa.Column("agent_version", sa.String(500)),
        sa.Column("capabilities", sa.JSON(), nullable=False, server_default="[]"),
        sa.Column("persistent_session", sa.Boolean()),
        _time("last_heard_at"),
        _time("last_device_time"),
        sa.Column("clock_skew_seconds", sa.Float()),
        sa.Column("heartbeats", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("heartbeats_since_boot", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("heartbeat_interval_seconds", sa.Float()),
        sa.Column("heartbeat_deviation_seconds", sa.Float()),
        sa.Column("stale_after_seconds", sa.Float()),
        _time("stale_at"),
        sa.Column("said", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("process_pid", sa.Integer()),
        _time("app_started_at"),
        sa.Column("boot_id", sa.String(500)),
        _time("booted_at"),
        sa.Column("presence", sa.String(40)),
        _time("presence_at"),
        sa.Column("health", sa.JSON()),
        _time("health_at"),
        sa.Column("service_failed_result", sa.String(500)),
        _time("service_failed_raised_at"),
        _time("service_failed_acked_at"),
        _time("service_failed_clear_requested_at"),
        sa.Column(
            "service_failed_clear_pending", sa.Boolean(), nullable=False, server_default=sa.text("false")
        ),
        _time("service_failed_echo_at"),
        _time("maintenance_until"),
        sa.Column("auto_recovery", sa.Boolean(), nullable=False, server_default=sa.text("true")),
        _time("shut_down_at"),
    ]


def _command_columns() -> list[sa.Column[object]]:
    return [
        _time("deadline_at"),
        sa.Column("batch_id", sa.String(36)),
        sa.Column("forced", sa.Boolean(), nullable=False, server_default=sa.text("false")),
        sa.Column("publish_count", sa.Integer(), nullable=False, server_default="0"),
        _time("last_publish_at"),
        sa.Column("late", sa.Boolean(), nullable=False, server_default=sa.text("false")),
        sa.Column("verification", sa.String(40)),
        _time("verified_at"),
        sa.Column("verification_detail", sa.Text()),
        sa.Column("before_boot_id", sa.String(500)),
        _time("before_booted_at"),
        _time("before_app_started_at"),
        sa.Column("before_process_pid", sa.Integer()),
    ]


CLIENT_INDEXES: dict[str, tuple[list[str], str | None]] = {
    "ix_clients_sort_key": (["sort_key", "uuid"], None),
    "ix_clients_status": (["status", "sort_key", "uuid"], None),
    "ix_clients_site": (["site", "sort_key", "uuid"], None),
    "ix_clients_watched": (["stale_at"], "status IN ('crashed', 'online')"),
    "ix_clients_unwell": (["status_since"], "status NOT IN ('online', 'never_seen')"),
    "ix_clients_service_failed": (["sort_key"], "service_failed_at IS NOT NULL"),
    "ix_clients_maintenance": (["maintenance_until"], "maintenance_until IS NOT NULL"),
    "ix_clients_clear_pending": (["uuid"], "service_failed_clear_pending"),
}

COMMAND_INDEXES: dict[str, tuple[list[str], str | None]] = {
    "ix_client_commands_open": (
        ["deadline_at"],
        "status IN ('accepted', 'execution_started', 'publish_in_progress', 'published', 'queued')",
    ),
    "ix_client_commands_pending": (["command_id"], "verification = 'pending'"),
    "ix_client_commands_contradicted": (["verified_at"], "verification = 'contradicted'"),
    "ix_client_commands_created_at": (["created_at", "command_id"], None),
}

clients = sa.table(
    "clients", sa.column("uuid"), sa.column("name"), sa.column("hostname"), sa.column("sort_key")
)
commands = sa.table("client_commands", sa.column("deadline_at"), sa.column("expires_at"))


def upgrade() -> None:
    """Go forward."""
    with op.batch_alter_table("clients") as batch:
        for column in _client_columns():
            batch.add_column(column)
    _fill_sort_keys()
    with op.batch_alter_table("client_commands") as batch:
        for column in _command_columns():
            batch.add_column(column)
    op.execute(commands.update().values(deadline_at=commands.c.expires_at))
    with op.batch_alter_table("client_commands") as batch:
        batch.alter_column("deadline_at", existing_type=sa.DateTime(timezone=True), nullable=False)
    _create_indexes("clients", CLIENT_INDEXES)
    _create_indexes("client_commands", COMMAND_INDEXES)


def _fill_sort_keys() -> None:
    # In Python, because SQLite's lower() knows ASCII only.
    connection = op.get_bind()
    rows = connection.execute(sa.select(clients.c.uuid, clients.c.name, clients.c.hostname)).all()
    filled = [
        {"key": uuid, "text": (name or hostname or uuid).casefold()[:200]} for uuid, name, hostname in rows
    ]
    if filled:
        statement = clients.update().where(clients.c.uuid == sa.bindparam("key"))
        connection.execute(statement.values(sort_key=sa.bindparam("text")), filled)


def _create_indexes(table: str, indexes: dict[str, tuple[list[str], str | None]]) -> None:
    for name, (columns, condition) in indexes.items():
        where = None if condition is None else sa.text(condition)
        op.create_index(name, table, columns, sqlite_where=where, postgresql_where=where)


def downgrade() -> None:
    """Go back, keeping every row."""
    for name in CLIENT_INDEXES:
        op.drop_index(name, "clients")
    for name in COMMAND_INDEXES:
        op.drop_index(name, "client_commands")
    with op.batch_alter_table("client_commands") as batch:
        for column in _command_columns():
            batch.drop_column(column.name)
    with op.batch_alter_table("clients") as batch:
        for column in _client_columns():
            batch.drop_column(column.name)
