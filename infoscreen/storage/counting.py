"""Counters of clients by site and condition, kept by the database itself.

Triggers write them in the very transaction that creates, changes or deletes a client, so no writer can
forget to. SQLite has one writer at a time and counts at once. On PostgreSQL many would wait for the same row,
and for each other: there a trigger only adds a row that says what changed, and ``client_totals.fold`` adds
those up.
"""

from sqlalchemy import (
    Column,
    Connection,
    Integer,
    MetaData,
    String,
    Table,
    inspect,
    text,
)

from infoscreen.storage.columns import row_number
from infoscreen.storage.metadata import execute_at

FLEET = ""
"""The site of the counters of the whole fleet; clients without a site are counted there only."""


def _counted_at_once(row: str, step: str) -> str:
    return f"""
        INSERT INTO client_totals (site, status, clients) VALUES ('', {row}.status, 0 {step})
            ON CONFLICT (site, status) DO UPDATE SET clients = clients {step};
        INSERT INTO client_totals (site, status, clients)
            SELECT {row}.site, {row}.status, 0 {step} WHERE {row}.site <> ''
            ON CONFLICT (site, status) DO UPDATE SET clients = clients {step};"""


ON_SQLITE = (
    f"CREATE TRIGGER count_client_created AFTER INSERT ON clients BEGIN {_counted_at_once('NEW', '+ 1')} END",
    f"CREATE TRIGGER count_client_deleted AFTER DELETE ON clients BEGIN {_counted_at_once('OLD', '- 1')} END",
    "CREATE TRIGGER count_client_changed AFTER UPDATE OF status, site ON clients"
    " WHEN OLD.status <> NEW.status OR OLD.site IS NOT NEW.site BEGIN"
    f" {_counted_at_once('OLD', '- 1')} {_counted_at_once('NEW', '+ 1')} END",
)
ON_POSTGRESQL = (
    """
    CREATE OR REPLACE FUNCTION count_client() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'UPDATE' THEN
            IF OLD.status = NEW.status AND OLD.site IS NOT DISTINCT FROM NEW.site THEN
                RETURN NULL;
            END IF;
        END IF;
        IF TG_OP <> 'INSERT' THEN
            INSERT INTO client_total_changes (site, status, change)
            SELECT site, OLD.status, -1 FROM unnest(ARRAY['', nullif(OLD.site, '')]) AS site
            WHERE site IS NOT NULL;
        END IF;
        IF TG_OP <> 'DELETE' THEN
            INSERT INTO client_total_changes (site, status, change)
            SELECT site, NEW.status, 1 FROM unnest(ARRAY['', nullif(NEW.site, '')]) AS site
            WHERE site IS NOT NULL;
        END IF;
        RETURN NULL;
    END $$
    """,
    "CREATE TRIGGER count_client AFTER INSERT OR DELETE OR UPDATE OF status, site ON clients"
    " FOR EACH ROW EXECUTE FUNCTION count_client()",
)
CREATE = {"sqlite": ON_SQLITE, "postgresql": ON_POSTGRESQL}
DROP = {
    "sqlite": [f"DROP TRIGGER IF EXISTS count_client_{done}" for done in ("created", "deleted", "changed")],
    "postgresql": ["DROP TRIGGER IF EXISTS count_client ON clients", "DROP FUNCTION IF EXISTS count_client"],
}
_PRESENT = {
    "sqlite": "SELECT count(*) FROM sqlite_master WHERE type = 'trigger' AND name LIKE 'count_client%'",
    "postgresql": "SELECT count(*) FROM pg_trigger"
    " WHERE tgname = 'count_client' AND tgrelid = 'clients'::regclass",
}


def counters(metadata: MetaData, clients: Table) -> tuple[Table, Table]:
    """Declare the tables, and the triggers that come with ``clients``."""
    totals = Table(
        "client_totals",
        metadata,
        Column("site", String(200), primary_key=True),
        Column("status", String(40), primary_key=True),
        Column("clients", Integer, nullable=False),
    )
    changes = Table(
        "client_total_changes",
        metadata,
        row_number(),
        Column("site", String(200), nullable=False),
        Column("status", String(40), nullable=False),
        Column("change", Integer, nullable=False),
    )
    execute_at(clients, "after_create", CREATE)
    return totals, changes


RECOUNT = (
    "DELETE FROM client_total_changes",
    "DELETE FROM client_totals",
    "INSERT INTO client_totals (site, status, clients)"
    " SELECT '', status, count(*) FROM clients GROUP BY status",
    "INSERT INTO client_totals (site, status, clients)"
    " SELECT site, status, count(*) FROM clients WHERE site <> '' GROUP BY site, status",
)


def restore_triggers(connection: Connection) -> bool:
    """Create the triggers and count again if they are missing; tell whether they were.

    They are after the migration that brings the counters, and on SQLite after any that copies ``clients``.
    """
    dialect = connection.dialect.name
    if not inspect(connection).has_table("client_totals"):
        return False
    wanted = CREATE[dialect]
    if connection.scalar(text(_PRESENT[dialect])) == sum(
        "CREATE TRIGGER" in statement for statement in wanted
    ):
        return False
    for statement in (*DROP[dialect], *wanted, *RECOUNT):
        connection.exec_driver_sql(statement)
    return True
