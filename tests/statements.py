"""What a store asks its database, as text, and how that would answer it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event

from infoscreen.storage.engine import Connection, Store

Statement = tuple[str, Any]


@contextmanager
def statements_of(store: Store) -> Iterator[list[Statement]]:
    """Collect the statements of readers and writers, each with its parameters."""
    asked: list[Statement] = []

    def note(connection: object, cursor: object, statement: str, parameters: object, *_: object) -> None:
        asked.append((statement, parameters))

    engines = {store.engine.sync_engine, store.writers.sync_engine}
    for engine in engines:
        event.listen(engine, "before_cursor_execute", note)
    try:
        yield asked
    finally:
        for engine in engines:
            event.remove(engine, "before_cursor_execute", note)


async def steps_of(connection: Connection, statement: Statement) -> set[str]:
    """Return the steps of the database's plan for a statement, in its own words."""
    text, parameters = statement
    if connection.dialect.name == "postgresql":
        return {row[0].strip() for row in await connection.exec_driver_sql(f"EXPLAIN {text}", parameters)}
    plan = await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", parameters)
    return {step[3] for step in plan}
