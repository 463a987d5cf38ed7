"""Clients are found by words in any order and spelling, and sorted as people do.

Revision ID: 5ea2c4000001
Revises: 109e00000001
"""

import json
import re
import unicodedata
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "5ea2c4000001"
down_revision = "109e00000001"
branch_labels = None
depends_on = None

AT_ONCE = 1_000
LONGEST = 8_000
SINGLE = str.maketrans(
    {"ø": "o", "đ": "d", "ð": "d", "ł": "l", "ħ": "h", "\u0131": "i", "æ": "ae", "œ": "oe", "þ": "th"}
)


def upgrade() -> None:
    """Go forward."""
    _collate("C")
    _fill(_text, _key)


def downgrade() -> None:
    """Go back."""
    _fill(_text_before, _key_before)
    _collate("default")


def _collate(name: str) -> None:
    """Let PostgreSQL compare the sort key as SQLite does, whatever the locale of the database is."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute(f'ALTER TABLE clients ALTER COLUMN sort_key TYPE VARCHAR(200) COLLATE "{name}"')


def _fill(text: Any, key: Any) -> None:
    connection, last = op.get_bind(), ""
    statement = sa.text(
        "SELECT uuid, name, hostname, ip, site, CAST(tags AS VARCHAR), CAST(failed_services AS VARCHAR)"
        " FROM clients WHERE uuid > :last ORDER BY uuid LIMIT :most"
    )
    while rows := connection.execute(statement, {"last": last, "most": AT_ONCE}).all():
        last = rows[-1][0]
        keys = [{"which": row[0], "key": key(row[1] or row[2] or row[0])} for row in rows]
        texts = [{"which": row[0], "text": text(row)} for row in rows]
        connection.execute(sa.text("UPDATE clients SET sort_key = :key WHERE uuid = :which"), keys)
        connection.execute(sa.text("UPDATE client_search SET text = :text WHERE client_uuid = :which"), texts)


def _plain(text: str) -> str:
    apart = unicodedata.normalize("NFKD", text.casefold())
    bare = "".join(char for char in apart if not unicodedata.combining(char))
    return " ".join(bare.casefold().translate(SINGLE).split())


def _text(row: Any) -> str:
    uuid, name, hostname, ip, site, tags, failed = row
    units = [one[0] for one in json.loads(failed or "[]") if isinstance(one, list) and one]
    named = (name, hostname, site, *json.loads(tags or "[]"), *units)
    lines = [_plain(part) for part in (uuid, ip or "")]
    for part in named:
        if isinstance(part, str):
            lines += [_plain(part), re.sub(r"([aou])e", r"\1", _plain(part))]
    return "\n".join(line for line in dict.fromkeys(lines) if line)[:LONGEST]


def _number(match: re.Match[str]) -> str:
    digits = match[0].lstrip("0") or "0"
    return f"{min(len(digits), 99):02}{digits}"


def _key(label: str) -> str:
    return re.sub(r"[0-9]+", _number, _plain(label))[:200]


def _text_before(row: Any) -> str:
    return "\n".join(part for part in (row[1], row[2], row[3], row[0]) if part).casefold()


def _key_before(label: str) -> str:
    return label.casefold()[:200]
