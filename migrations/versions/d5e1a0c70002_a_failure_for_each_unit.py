"""Each unit of a client has a failure of its own.

Revision ID: d5e1a0c70002
Revises: b7c8d9e0f1a2
"""

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

revision = "d5e1a0c70002"
down_revision = "b7c8d9e0f1a2"
branch_labels = None
depends_on = None

CLIENTS = sa.table(
    "clients",
    sa.column("uuid", sa.String()),
    sa.column("service_failed_at", sa.DateTime(timezone=True)),
    sa.column("service_failed_unit", sa.String()),
    sa.column("service_failed_result", sa.String()),
    sa.column("service_failed_raised_at", sa.DateTime(timezone=True)),
    sa.column("failed_services", sa.JSON()),
)


def upgrade() -> None:
    """Go forward, taking along the failures that are shown."""
    with op.batch_alter_table("clients") as batch:
        batch.add_column(sa.Column("failed_services", sa.JSON(), nullable=False, server_default="[]"))
    table = op.create_table(
        "failed_services",
        sa.Column("client_uuid", sa.String(36), nullable=False),
        sa.Column("unit", sa.String(500), nullable=False),
        sa.Column("failed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("result", sa.String(500)),
        sa.Column("raised_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("reported_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("cleared_at", sa.DateTime(timezone=True)),
        sa.Column("held", sa.Boolean(), nullable=False),
        sa.Column("known", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("client_uuid", "unit", name="pk_failed_services"),
        sa.ForeignKeyConstraint(
            ["client_uuid"],
            ["clients.uuid"],
            name="fk_failed_services_client_uuid_clients",
            ondelete="CASCADE",
        ),
    )
    connection = op.get_bind()
    c = CLIENTS.c
    failed = connection.execute(
        sa.select(
            c.uuid,
            c.service_failed_at,
            c.service_failed_unit,
            c.service_failed_result,
            c.service_failed_raised_at,
        ).where(c.service_failed_at.is_not(None))
    ).all()
    for uuid, failed_at, unit, result, raised_at in failed:
        # SQLite keeps no zone; all times are UTC.
        at, raised = _aware(failed_at), _aware(raised_at or failed_at)
        name = unit or "?"
        connection.execute(
            table.insert().values(
                client_uuid=uuid,
                unit=name,
                failed_at=at,
                result=result,
                raised_at=raised,
                reported_at=raised,
                held=True,
                known=[at.isoformat()],
            )
        )
        shown = [[name, at.isoformat(), result, raised.isoformat()]]
        connection.execute(sa.update(CLIENTS).where(c.uuid == uuid).values(failed_services=shown))


def _aware(at: datetime) -> datetime:
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def downgrade() -> None:
    """Go back, keeping the newest failure of each client."""
    op.drop_table("failed_services")
    with op.batch_alter_table("clients") as batch:
        batch.drop_column("failed_services")
