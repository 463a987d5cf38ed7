"""Codes with arguments instead of English sentences: what was wrong with messages of devices.

Sentences that earlier versions stored are taken apart by their fixed words; one that is not known is kept, as
code ``text``. The way down puts the sentences together again.

Revision ID: f7c0de000001
Revises: e5c0de000001
"""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "f7c0de000001"
down_revision = "e5c0de000001"
branch_labels = None
depends_on = None

SENTENCES: tuple[tuple[str, tuple[str, ...]], ...] = (
    # A code, and its sentence: fixed parts around the arguments, which stand in between by name.
    ("too_large", ("", "bytes", " bytes, allowed are ", "most", "")),
    ("too_many_pixels", ("", "width", " x ", "height", " pixels, allowed are ", "most", "")),
    ("not_an_image", ("neither a whole JPEG nor a whole PNG",)),
    ("not_presence", ("presence is neither 'online' nor 'offline'",)),
    ("not_json", ("no JSON object: at character ", "character", "")),
    ("not_an_object", ("no JSON object: not an object",)),
    ("text_behind", ("no JSON object: more text after character ", "character", "")),
    ("uuid_mismatch", ("payload names ", "payload", ", topic names ", "topic", "")),
    ("unknown_topic", ("no device topic of the contract: ", "topic", "")),
    ("bad_uuid", ("not a UUID in lower case with hyphens: ", "given", "")),
    ("unknown_client", ("no such client, and clients are not registered by themselves",)),
    ("foreign_command", ("command ", "command_id", " belongs to another client")),
    ("unknown_command", ("no command ", "command_id", "")),
    ("wrong_field", ("", "field", ": Field required")),
)
NUMBERS = frozenset({"bytes", "most", "width", "height", "character"})
MISSING = {"code": "missing", "arguments": {}}

clients = sa.table(
    "clients",
    sa.column("uuid", sa.String),
    sa.column("refused_detail", sa.String),
    sa.column("refused_defect", sa.JSON(none_as_null=True)),
)
rejected = sa.table(
    "rejected_messages",
    sa.column("id", sa.BigInteger),
    sa.column("detail", sa.Text),
    sa.column("code", sa.String),
    sa.column("arguments", sa.JSON),
)


def defect_of(text: str) -> dict[str, Any]:
    """Return the code and the arguments that a sentence told."""
    for code, parts in SENTENCES:
        arguments = _between(text, parts)
        if arguments is not None:
            return {
                "code": code,
                "arguments": arguments | ({"fault": MISSING} if code == "wrong_field" else {}),
            }
    return {"code": "text", "arguments": {"text": text}}


def _between(text: str, parts: tuple[str, ...]) -> dict[str, Any] | None:
    """Return what stands between the fixed parts; None if they are not those of the text."""
    fixed, names = parts[::2], parts[1::2]
    if not text.startswith(fixed[0]) or not text.endswith(fixed[-1]):
        return None
    if not names:
        return {} if text == fixed[0] else None
    rest, found = text[len(fixed[0]) :], {}
    for name, after in zip(names, fixed[1:], strict=True):
        value, hit, rest = rest.partition(after) if after else (rest, "", "")
        if not value or (after and not hit) or (name in NUMBERS and not value.isdecimal()):
            return None
        found[name] = int(value) if name in NUMBERS else value
    return None if rest else found


def sentence_of(code: str, arguments: Mapping[str, Any]) -> str:
    """Return the sentence that earlier versions would have stored."""
    if code == "text":
        return str(arguments["text"])
    if code == "wrong_field" and arguments["fault"] != MISSING:
        return f"{arguments['field']}: {arguments['fault']['code']}"
    parts = dict(SENTENCES).get(code, (code,))
    return "".join(str(arguments[part]) if number % 2 else part for number, part in enumerate(parts))


def upgrade() -> None:
    """Go forward."""
    connection = op.get_bind()
    with op.batch_alter_table("clients") as batch:
        batch.add_column(sa.Column("refused_defect", sa.JSON()))
    said = sa.select(clients.c.uuid, clients.c.refused_detail).where(clients.c.refused_detail.is_not(None))
    for uuid, detail in connection.execute(said).all():
        values = {"refused_defect": defect_of(detail)}
        connection.execute(sa.update(clients).where(clients.c.uuid == uuid).values(values))
    with op.batch_alter_table("clients") as batch:
        batch.drop_column("refused_detail")
    with op.batch_alter_table("rejected_messages") as batch:
        batch.add_column(sa.Column("code", sa.String(40), nullable=False, server_default="text"))
        batch.add_column(sa.Column("arguments", sa.JSON(), nullable=False, server_default="{}"))
    for number, detail in connection.execute(sa.select(rejected.c.id, rejected.c.detail)).all():
        connection.execute(sa.update(rejected).where(rejected.c.id == number).values(**defect_of(detail)))
    with op.batch_alter_table("rejected_messages") as batch:
        batch.drop_column("detail")
        batch.alter_column("code", existing_type=sa.String(40), server_default=None)
        batch.alter_column("arguments", existing_type=sa.JSON(), server_default=None)


def downgrade() -> None:
    """Go back, keeping every row."""
    connection = op.get_bind()
    with op.batch_alter_table("rejected_messages") as batch:
        batch.add_column(sa.Column("detail", sa.Text(), nullable=False, server_default=""))
    kept = sa.select(rejected.c.id, rejected.c.code, rejected.c.arguments)
    for number, code, arguments in connection.execute(kept).all():
        values = {"detail": sentence_of(code, arguments)}
        connection.execute(sa.update(rejected).where(rejected.c.id == number).values(values))
    with op.batch_alter_table("rejected_messages") as batch:
        batch.drop_column("arguments")
        batch.drop_column("code")
        batch.alter_column("detail", existing_type=sa.Text(), server_default=None)
    with op.batch_alter_table("clients") as batch:
        batch.add_column(sa.Column("refused_detail", sa.String(500)))
    told = sa.select(clients.c.uuid, clients.c.refused_defect).where(clients.c.refused_defect.is_not(None))
    for uuid, defect in connection.execute(told).all():
        if defect is not None:
            values = {"refused_detail": sentence_of(defect["code"], defect["arguments"])[:500]}
            connection.execute(sa.update(clients).where(clients.c.uuid == uuid).values(values))
    with op.batch_alter_table("clients") as batch:
        batch.drop_column("refused_defect")
