"""Crash recovery: ladders, attempts, decisions, incidents, pauses and polls; since when a client is unwell.

Revision ID: e4f5a6b7c8d9
Revises: d3e4f5a6b7c8
"""

import sqlalchemy as sa
from alembic import op

revision = "e4f5a6b7c8d9"
down_revision = "d3e4f5a6b7c8"
branch_labels = None
depends_on = None

TABLES = (
    "recovery_ladders",
    "recovery_attempts",
    "recovery_decisions",
    "recovery_incidents",
    "recovery_pauses",
    "recovery_polls",
)


def _time(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _client(table: str, *, nullable: bool = False) -> tuple[sa.Column[object], sa.ForeignKeyConstraint]:
    return (
        sa.Column("client_uuid", sa.String(36), nullable=nullable),
        sa.ForeignKeyConstraint(
            ["client_uuid"], ["clients.uuid"], name=f"fk_{table}_client_uuid_clients", ondelete="CASCADE"
        ),
    )


def _index(
    name: str, table: str, columns: list[str], where: str | None = None, *, unique: bool = False
) -> None:
    condition = None if where is None else sa.text(where)
    op.create_index(name, table, columns, unique=unique, sqlite_where=condition, postgresql_where=condition)


def upgrade() -> None:
    """Go forward."""
    with op.batch_alter_table("clients") as batch:
        batch.add_column(_time("well_until", nullable=True))
        batch.add_column(sa.Column("heartbeats_at_change", sa.Integer(), nullable=False, server_default="0"))
    _index("ix_clients_online", "clients", ["site", "status", "uuid"], "status = 'online'")
    _index("ix_clients_witnesses", "clients", ["status", "uuid"], "status = 'online'")
    _create_of_clients()
    _create_of_the_fleet()


def _create_of_clients() -> None:
    op.create_table(
        "recovery_ladders",
        *_client("recovery_ladders"),
        sa.Column("phase", sa.String(40), nullable=False),
        _time("began_at"),
        _time("unwell_since"),
        _time("changed_at"),
        sa.Column("rung", sa.Integer(), nullable=False),
        sa.Column("returns", sa.Integer(), nullable=False),
        sa.Column("because", sa.String(40)),
        sa.Column("limited", sa.Integer()),
        sa.Column("tried", sa.Integer(), nullable=False),
        sa.Column("would", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("client_uuid", name="pk_recovery_ladders"),
    )
    op.create_table(
        "recovery_attempts",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("command_id", sa.String(36), nullable=False),
        *_client("recovery_attempts"),
        sa.Column("rung", sa.Integer(), nullable=False),
        sa.Column("would", sa.Boolean(), nullable=False),
        _time("decided_at"),
        _time("published_at", nullable=True),
        _time("ended_at", nullable=True),
        sa.Column("outcome", sa.String(40)),
        sa.Column("detail", sa.Text()),
        sa.PrimaryKeyConstraint("id", name="pk_recovery_attempts"),
        sa.UniqueConstraint("command_id", name="uq_recovery_attempts_command_id"),
    )
    _index("ix_recovery_attempts_under_way", "recovery_attempts", ["decided_at"], "ended_at IS NULL")
    _index("ix_recovery_attempts_client", "recovery_attempts", ["client_uuid", "decided_at"])
    _index("ix_recovery_attempts_decided_at", "recovery_attempts", ["decided_at"])
    op.create_table(
        "recovery_decisions",
        sa.Column("id", sa.Integer(), nullable=False),
        *_client("recovery_decisions"),
        sa.Column("verb", sa.String(40), nullable=False),
        sa.Column("reason", sa.String(40), nullable=False),
        sa.Column("arguments", sa.JSON(), nullable=False),
        sa.Column("rung", sa.Integer()),
        sa.Column("attempt", sa.Integer()),
        _time("until", nullable=True),
        sa.Column("would", sa.Boolean(), nullable=False),
        sa.Column("incident_id", sa.Integer()),
        _time("first_at"),
        sa.Column("first_poll", sa.Integer(), nullable=False),
        _time("last_at", nullable=True),
        sa.Column("times", sa.Integer()),
        sa.PrimaryKeyConstraint("id", name="pk_recovery_decisions"),
    )
    _index(
        "uq_recovery_decisions_standing",
        "recovery_decisions",
        ["client_uuid"],
        "last_at IS NULL",
        unique=True,
    )
    _index(
        "ix_recovery_decisions_incident",
        "recovery_decisions",
        ["incident_id", "client_uuid"],
        "incident_id IS NOT NULL",
    )
    _index("ix_recovery_decisions_client", "recovery_decisions", ["client_uuid", "id"])
    _index("ix_recovery_decisions_first_at", "recovery_decisions", ["first_at"])


def _create_of_the_fleet() -> None:
    op.create_table(
        "recovery_incidents",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(40), nullable=False),
        sa.Column("site", sa.String(200)),
        _time("began_at"),
        _time("calm_since", nullable=True),
        _time("ended_at", nullable=True),
        sa.Column("silent", sa.Integer(), nullable=False, server_default="0"),
        _time("returned_at", nullable=True),
        sa.Column("clients", sa.Integer(), nullable=False, server_default="0"),
        sa.PrimaryKeyConstraint("id", name="pk_recovery_incidents"),
    )
    _index("ix_recovery_incidents_open", "recovery_incidents", ["began_at"], "ended_at IS NULL")
    _index("ix_recovery_incidents_began_at", "recovery_incidents", ["began_at"])
    op.create_table(
        "recovery_pauses",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("scope", sa.String(20), nullable=False),
        sa.Column("site", sa.String(200)),
        *_client("recovery_pauses", nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("by", sa.String(200), nullable=False),
        _time("created_at"),
        _time("until"),
        _time("ended_at", nullable=True),
        sa.Column("ended_by", sa.String(200)),
        sa.PrimaryKeyConstraint("id", name="pk_recovery_pauses"),
    )
    _index("ix_recovery_pauses_open", "recovery_pauses", ["until"], "ended_at IS NULL")
    _index("ix_recovery_pauses_client", "recovery_pauses", ["client_uuid"])
    op.create_table(
        "recovery_polls",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        _time("at"),
        sa.Column("mode", sa.String(20), nullable=False),
        sa.Column("summary", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_recovery_polls"),
    )


def downgrade() -> None:
    """Go back, keeping every row but what only the recovery knew."""
    for table in reversed(TABLES):
        op.drop_table(table)
    op.drop_index("ix_clients_witnesses", "clients")
    op.drop_index("ix_clients_online", "clients")
    with op.batch_alter_table("clients") as batch:
        batch.drop_column("heartbeats_at_change")
        batch.drop_column("well_until")
