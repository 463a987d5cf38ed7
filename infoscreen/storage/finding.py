"""What clients are found by: a text of their names and addresses, and their tags, each in a narrow table.

Texts are kept as plain letters (``domain.letters``), because SQLite folds the case of ASCII letters only and
PostgreSQL as its locale says. An index of trigrams finds parts of them: FTS5 on SQLite, ``pg_trgm`` on
PostgreSQL where the server has it. What has fewer than three characters, or no index, is looked for in the
narrow table.
"""

from typing import Any

from sqlalchemy import Column, ForeignKey, Index, MetaData, String, Table, Text

from infoscreen.storage.columns import row_number
from infoscreen.storage.metadata import execute_at

ON_SQLITE = (
    "CREATE VIRTUAL TABLE client_trigrams USING fts5("
    "text, content='client_search', content_rowid='id', tokenize='trigram')",
    "CREATE TRIGGER find_client_created AFTER INSERT ON client_search BEGIN"
    " INSERT INTO client_trigrams (rowid, text) VALUES (NEW.id, NEW.text); END",
    "CREATE TRIGGER find_client_deleted AFTER DELETE ON client_search BEGIN"
    " INSERT INTO client_trigrams (client_trigrams, rowid, text) VALUES ('delete', OLD.id, OLD.text); END",
    "CREATE TRIGGER find_client_changed AFTER UPDATE OF text ON client_search WHEN OLD.text <> NEW.text BEGIN"
    " INSERT INTO client_trigrams (client_trigrams, rowid, text) VALUES ('delete', OLD.id, OLD.text);"
    " INSERT INTO client_trigrams (rowid, text) VALUES (NEW.id, NEW.text); END",
)
ON_POSTGRESQL = (
    # Only who may create extensions gets one, and only if the server's contrib package is installed.
    """
    DO $$
    BEGIN
        CREATE EXTENSION IF NOT EXISTS pg_trgm;
        CREATE INDEX ix_client_search_trigrams ON client_search USING gin (text gin_trgm_ops);
    EXCEPTION
        WHEN insufficient_privilege OR feature_not_supported OR undefined_file OR undefined_object THEN NULL;
    END $$
    """,
)
INDEX_OF = {"sqlite": ON_SQLITE, "postgresql": ON_POSTGRESQL}
DROP = {
    "sqlite": (
        *(f"DROP TRIGGER IF EXISTS find_client_{done}" for done in ("created", "deleted", "changed")),
        "DROP TABLE IF EXISTS client_trigrams",
    ),
    "postgresql": ("DROP INDEX IF EXISTS ix_client_search_trigrams",),
}


def is_declared(name: str | None, kind: str, parents: Any) -> bool:
    """Tell Alembic whether the tables' declaration should know of something in a database."""
    return name is None or not name.startswith(("client_trigrams", "ix_client_search_trigrams"))


def finding(metadata: MetaData, clients: Table) -> tuple[Table, Table]:
    """Declare the tables that clients are found by, and the index of trigrams that comes with them."""

    def client_uuid(**more: Any) -> Column[Any]:
        key = ForeignKey("clients.uuid", ondelete="CASCADE")
        return Column("client_uuid", String(36), key, nullable=False, **more)

    texts = Table(
        "client_search",
        metadata,
        row_number(),
        client_uuid(unique=True),
        Column("text", Text, nullable=False),
    )
    tags = Table(
        "client_tags",
        metadata,
        Column("tag", Text, primary_key=True),
        client_uuid(primary_key=True),
    )
    Index("ix_client_tags_client", tags.c.client_uuid)
    execute_at(texts, "after_create", INDEX_OF)
    execute_at(texts, "before_drop", DROP)
    return texts, tags
