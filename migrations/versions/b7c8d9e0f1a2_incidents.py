"""Incidents with members; the recovery's second edition: what its ladders, attempts and clients remember.

What was open of an outage ends here: the new rules find it again, with its members.

Revision ID: b7c8d9e0f1a2
Revises: a6b7c8d9e0f1
"""

import sqlalchemy as sa
from alembic import op

revision = "b7c8d9e0f1a2"
down_revision = "a6b7c8d9e0f1"
branch_labels = None
depends_on = None

NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
OLD_KINDS = "('fleet_outage', 'site_outage', 'observer')"
NEW_REASONS = (
    "commands_unanswered",
    "network_outage",
    "network_settling",
    "gone",
    "left_behind",
    "wave",
    "no_effect",
    "taken_over",
    "off_hours",
    "booting",
    "keepalive",
    "rhythm_unknown",
    "refused",
    "unanswered",
)
"""An older version does not know them."""


def _time(name: str, *, nullable: bool = True) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _index(name: str, table: str, columns: list[str], where: str | None = None) -> None:
    condition = None if where is None else sa.text(where)
    op.create_index(name, table, columns, sqlite_where=condition, postgresql_where=condition)


def upgrade() -> None:
    """Go forward."""
    _create()
    op.execute(
        "INSERT INTO incidents (id, key, kind, site, members, facts, began_at, calm_since, ended_at, closing)"
        " SELECT id, kind || '/' || id, kind, site, clients, '{}', began_at, calm_since,"
        " coalesce(ended_at, CURRENT_TIMESTAMP), 'over' FROM recovery_incidents"
    )
    op.execute(
        "INSERT INTO incident_members (incident_id, client_uuid, joined_at)"
        " SELECT d.incident_id, d.client_uuid, min(d.first_at) FROM recovery_decisions d"
        " JOIN incidents i ON i.id = d.incident_id GROUP BY d.incident_id, d.client_uuid"
    )
    _go_on_counting("incidents")
    op.drop_table("recovery_incidents")
    op.execute("DELETE FROM recovery_decisions WHERE reason = 'budget'")
    op.execute(
        "UPDATE recovery_decisions SET reason = 'outage_suspected' WHERE reason IN ('storm', 'no_witness')"
    )
    op.execute("UPDATE recovery_polls SET summary = '{}'")
    # A dry run keeps nothing of what it would have done any more.
    op.execute(sa.text("DELETE FROM recovery_ladders WHERE would"))
    op.execute(sa.text("DELETE FROM recovery_attempts WHERE would"))
    with op.batch_alter_table("recovery_ladders") as batch:
        for name in ("because", "limited", "tried", "would"):
            batch.drop_column(name)
        batch.add_column(sa.Column("incident", sa.String(200)))
    with op.batch_alter_table("recovery_attempts") as batch:
        batch.add_column(sa.Column("incident", sa.String(200)))
        batch.add_column(_time("accepted_at"))
        batch.add_column(sa.Column("error_code", sa.String(200)))
        for name in ("would", "detail"):
            batch.drop_column(name)
    # Until now what was published was charged.
    op.execute("UPDATE recovery_attempts SET accepted_at = published_at")
    op.execute("UPDATE recovery_attempts SET outcome = 'helped' WHERE outcome = 'recovered'")
    _index("ix_recovery_attempts_incident", "recovery_attempts", ["incident"], "incident IS NOT NULL")
    op.drop_index("ix_clients_witnesses", "clients")
    with op.batch_alter_table("clients") as batch:
        batch.add_column(_time("start_due_at"))
        batch.add_column(_time("boot_seen_at"))
    _index(
        "ix_clients_starting", "clients", ["start_due_at"], "status = 'online' AND start_due_at IS NOT NULL"
    )


def _create() -> None:
    op.create_table(
        "incidents",
        sa.Column("id", NUMBER, nullable=False),
        sa.Column("key", sa.String(200), nullable=False),
        sa.Column("kind", sa.String(40), nullable=False),
        sa.Column("site", sa.String(200)),
        sa.Column("network", sa.String(100)),
        sa.Column("trouble", sa.String(40)),
        sa.Column("members", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("facts", sa.JSON(), nullable=False, server_default="{}"),
        _time("began_at", nullable=False),
        _time("calm_since"),
        _time("stopped_at"),
        _time("ended_at"),
        sa.Column("closing", sa.String(40)),
        _time("acknowledged_at"),
        sa.Column("acknowledged_by", sa.String(200)),
        sa.Column("comment", sa.Text()),
        sa.PrimaryKeyConstraint("id", name="pk_incidents"),
        sa.UniqueConstraint("key", name="uq_incidents_key"),
    )
    _index("ix_incidents_open", "incidents", ["began_at"], "ended_at IS NULL")
    _index("ix_incidents_began_at", "incidents", ["began_at"])
    op.create_table(
        "incident_members",
        sa.Column("incident_id", NUMBER, nullable=False),
        sa.Column("client_uuid", sa.String(36), nullable=False),
        _time("joined_at", nullable=False),
        sa.PrimaryKeyConstraint("incident_id", "client_uuid", name="pk_incident_members"),
        sa.ForeignKeyConstraint(
            ["incident_id"],
            ["incidents.id"],
            name="fk_incident_members_incident_id_incidents",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["client_uuid"],
            ["clients.uuid"],
            name="fk_incident_members_client_uuid_clients",
            ondelete="CASCADE",
        ),
    )
    _index("ix_incident_members_client", "incident_members", ["client_uuid"])
    op.create_table(
        "recovery_days",
        sa.Column("day", sa.String(10), nullable=False),
        sa.Column("silences", sa.Integer(), nullable=False),
        sa.Column("client_seconds", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("day", name="pk_recovery_days"),
    )


def downgrade() -> None:
    """Go back, keeping what older code can read."""
    op.drop_index("ix_clients_starting", "clients")
    with op.batch_alter_table("clients") as batch:
        batch.drop_column("boot_seen_at")
        batch.drop_column("start_due_at")
    _index("ix_clients_witnesses", "clients", ["status", "uuid"], "status = 'online'")
    op.drop_index("ix_recovery_attempts_incident", "recovery_attempts")
    op.execute("UPDATE recovery_attempts SET outcome = 'recovered' WHERE outcome = 'helped'")
    op.execute(
        "UPDATE recovery_attempts SET outcome = 'not_sent' "
        "WHERE outcome IN ('refused', 'unanswered', 'undelivered')"
    )
    with op.batch_alter_table("recovery_attempts") as batch:
        batch.add_column(sa.Column("would", sa.Boolean(), nullable=False, server_default=sa.false()))
        batch.add_column(sa.Column("detail", sa.Text()))
        for name in ("error_code", "accepted_at", "incident"):
            batch.drop_column(name)
    with op.batch_alter_table("recovery_attempts") as batch:
        batch.alter_column("would", server_default=None)
    op.execute("UPDATE recovery_ladders SET phase = 'needs_human', rung = 4 WHERE phase = 'gone'")
    with op.batch_alter_table("recovery_ladders") as batch:
        batch.add_column(sa.Column("because", sa.String(40)))
        batch.add_column(sa.Column("limited", sa.Integer()))
        batch.add_column(sa.Column("tried", sa.Integer(), nullable=False, server_default="0"))
        batch.add_column(sa.Column("would", sa.Boolean(), nullable=False, server_default=sa.false()))
        batch.drop_column("incident")
    with op.batch_alter_table("recovery_ladders") as batch:
        batch.alter_column("tried", server_default=None)
        batch.alter_column("would", server_default=None)
    unknown = ", ".join(f"'{reason}'" for reason in NEW_REASONS)
    op.execute(f"DELETE FROM recovery_decisions WHERE reason IN ({unknown})")
    op.create_table(
        "recovery_incidents",
        sa.Column("id", NUMBER, nullable=False),
        sa.Column("kind", sa.String(40), nullable=False),
        sa.Column("site", sa.String(200)),
        _time("began_at", nullable=False),
        _time("calm_since"),
        _time("ended_at"),
        sa.Column("silent", sa.Integer(), nullable=False, server_default="0"),
        _time("returned_at"),
        sa.Column("clients", sa.Integer(), nullable=False, server_default="0"),
        sa.PrimaryKeyConstraint("id", name="pk_recovery_incidents"),
    )
    _index("ix_recovery_incidents_open", "recovery_incidents", ["began_at"], "ended_at IS NULL")
    _index("ix_recovery_incidents_began_at", "recovery_incidents", ["began_at"])
    op.execute(
        "INSERT INTO recovery_incidents (id, kind, site, began_at, calm_since, ended_at, clients)"
        " SELECT id, kind, site, began_at, calm_since, ended_at, members FROM incidents"
        f" WHERE kind IN {OLD_KINDS}"
    )
    op.execute(
        "UPDATE recovery_decisions SET incident_id = NULL WHERE incident_id IS NOT NULL"
        " AND incident_id NOT IN (SELECT id FROM recovery_incidents)"
    )
    _go_on_counting("recovery_incidents")
    for table in ("recovery_days", "incident_members", "incidents"):
        op.drop_table(table)


def _go_on_counting(table: str) -> None:
    """Let PostgreSQL number new rows after those that came with their numbers."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute(f"SELECT setval('{table}_id_seq', (SELECT coalesce(max(id), 0) + 1 FROM {table}))")
