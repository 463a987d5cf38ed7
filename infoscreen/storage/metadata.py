"""What all tables belong to, how their constraints are named, and which statements come with a table."""

from collections.abc import Iterable, Mapping

from sqlalchemy import DDL, MetaData, Table, event

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def execute_at(table: Table, moment: str, statements_by_dialect: Mapping[str, Iterable[str]]) -> None:
    """Let statements run at a moment of a table, such as ``after_create``: those of the database at hand."""
    for dialect, statements in statements_by_dialect.items():
        for statement in statements:
            ddl = DDL(statement).execute_if(dialect=dialect)  # type: ignore[no-untyped-call]
            event.listen(table, moment, ddl)
