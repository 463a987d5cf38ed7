"""Pieces that declarations of tables have in common."""

from typing import Any

from sqlalchemy import Column, ForeignKey, Index, String, TextClause


def client_key() -> Column[Any]:
    """Return the column of the client that a row belongs to; it goes with it."""
    return Column(
        "client_uuid", String(36), ForeignKey("clients.uuid", ondelete="CASCADE"), nullable=False, index=False
    )


def partial_index(name: str, where: TextClause, *columns: Column[Any], unique: bool = False) -> None:
    """Declare an index of only those rows that a condition holds for."""
    Index(name, *columns, unique=unique, sqlite_where=where, postgresql_where=where)


def any_of(column: str, words: frozenset[Any]) -> str:
    """Return the condition that a column holds one of the words, in SQL."""
    listed = ", ".join(f"'{word}'" for word in sorted(words))
    return f"{column} IN ({listed})"
