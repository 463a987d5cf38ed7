"""What clients are found by: their texts with an index of trigrams, their tags, and indexes for lists.

Revision ID: f19d5ea7c001
Revises: f7c0de000001
"""

import json
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "f19d5ea7c001"
down_revision = "f7c0de000001"
branch_labels = None
depends_on = None

AT_ONCE = 1_000

TRIGRAMS = {
    "sqlite": (
        "CREATE VIRTUAL TABLE client_trigrams USING fts5("
        "text, content='client_search', content_rowid='id', tokenize='trigram')",
        "CREATE TRIGGER find_client_created AFTER INSERT ON client_search BEGIN"
        " INSERT INTO client_trigrams (rowid, text) VALUES (NEW.id, NEW.text); END",
        "CREATE TRIGGER find_client_deleted AFTER DELETE ON client_search BEGIN"
        " INSERT INTO client_trigrams (client_trigrams, rowid, text)"
        " VALUES ('delete', OLD.id, OLD.text); END",
        "CREATE TRIGGER find_client_changed AFTER UPDATE OF text ON client_search"
        " WHEN OLD.text <> NEW.text BEGIN"
        " INSERT INTO client_trigrams (client_trigrams, rowid, text) VALUES ('delete', OLD.id, OLD.text);"
        " INSERT INTO client_trigrams (rowid, text) VALUES (NEW.id, NEW.text); END",
    ),
    "postgresql": (
        """
        DO $$
        BEGIN
            CREATE EXTENSION IF NOT EXISTS pg_trgm;
            CREATE INDEX ix_client_search_trigrams ON client_search USING gin (text gin_trgm_ops);
        EXCEPTION
            WHEN insufficient_privilege OR feature_not_supported OR undefined_file OR undefined_object
            THEN NULL;
        END $$
        """,
    ),
}


def upgrade() -> None:
    """Go forward."""
    op.create_table(
        "client_search",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("client_uuid", sa.String(36), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["client_uuid"],
            ["clients.uuid"],
            name="fk_client_search_client_uuid_clients",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_client_search"),
        sa.UniqueConstraint("client_uuid", name="uq_client_search_client_uuid"),
    )
    op.create_table(
        "client_tags",
        sa.Column("tag", sa.Text(), nullable=False),
        sa.Column("client_uuid", sa.String(36), nullable=False),
        sa.ForeignKeyConstraint(
            ["client_uuid"], ["clients.uuid"], name="fk_client_tags_client_uuid_clients", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tag", "client_uuid", name="pk_client_tags"),
    )
    op.create_index("ix_client_tags_client", "client_tags", ["client_uuid"])
    op.create_index("ix_clients_status_since", "clients", ["status", "status_since", "uuid"])
    failed = sa.text("service_failed_at IS NOT NULL")
    op.create_index(
        "ix_clients_service_failed_since",
        "clients",
        ["status_since", "uuid"],
        sqlite_where=failed,
        postgresql_where=failed,
    )
    connection = op.get_bind()
    _fill(connection)
    for statement in TRIGRAMS[connection.dialect.name]:
        connection.exec_driver_sql(statement)
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("INSERT INTO client_trigrams (client_trigrams) VALUES ('rebuild')")


def _fill(connection: sa.Connection) -> None:
    last = ""
    statement = sa.text(
        "SELECT uuid, name, hostname, ip, CAST(tags AS VARCHAR) FROM clients"
        " WHERE uuid > :last ORDER BY uuid LIMIT :most"
    )
    while rows := connection.execute(statement, {"last": last, "most": AT_ONCE}).all():
        last = rows[-1][0]
        texts = [{"uuid": row[0], "text": _text(*row[1:4], row[0])} for row in rows]
        connection.execute(
            sa.text("INSERT INTO client_search (client_uuid, text) VALUES (:uuid, :text)"), texts
        )
        tags = [{"uuid": row[0], "tag": tag} for row in rows for tag in dict.fromkeys(_tags(row[4]))]
        if tags:
            connection.execute(
                sa.text("INSERT INTO client_tags (tag, client_uuid) VALUES (:tag, :uuid)"), tags
            )


def _text(*parts: str | None) -> str:
    return "\n".join(part for part in parts if part).casefold()


def _tags(stored: str) -> list[str]:
    tags: Any = json.loads(stored)
    return [tag for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else []


def downgrade() -> None:
    """Go back."""
    if op.get_bind().dialect.name == "sqlite":
        for done in ("created", "deleted", "changed"):
            op.execute(f"DROP TRIGGER find_client_{done}")
        op.execute("DROP TABLE client_trigrams")
    op.drop_index("ix_clients_service_failed_since", "clients")
    op.drop_index("ix_clients_status_since", "clients")
    op.drop_table("client_tags")
    op.drop_table("client_search")
