"""The migration from sentences about messages of devices to codes, on filled databases of both kinds."""

import json
from typing import Any

from infoscreen.domain.codes import unpacked
from infoscreen.domain.error_codes import MessageDefect, stored_defect
from infoscreen.storage import clients, rejected, schema
from infoscreen.storage.engine import Store
from infoscreen.words.speaking import say
from tests.test_schema import NOW, migrate, rows, sqlite_url, url

__all__ = ["sqlite_url", "url"]

BEFORE, CODES = "e5c0de000001", "f7c0de000001"
UUID = "0b0e7a5e-0000-4000-8000-000000000001"
MISSING = {"code": "missing", "arguments": {}}

SENTENCES: dict[str, tuple[str, dict[str, Any]]] = {
    "70000 bytes, allowed are 65536": ("too_large", {"bytes": 70000, "most": 65536}),
    "50000 x 40000 pixels, allowed are 33177600": (
        "too_many_pixels",
        {"width": 50000, "height": 40000, "most": 33177600},
    ),
    "neither a whole JPEG nor a whole PNG": ("not_an_image", {}),
    "presence is neither 'online' nor 'offline'": ("not_presence", {}),
    "no JSON object: at character 7": ("not_json", {"character": 7}),
    "no JSON object: not an object": ("not_an_object", {}),
    "no JSON object: more text after character 9": ("text_behind", {"character": 9}),
    f"payload names {UUID}, topic names u1": ("uuid_mismatch", {"payload": UUID, "topic": "u1"}),
    "no device topic of the contract: infoscreen/x/y, z": ("unknown_topic", {"topic": "infoscreen/x/y, z"}),
    "not a UUID in lower case with hyphens: U1": ("bad_uuid", {"given": "U1"}),
    "no such client, and clients are not registered by themselves": ("unknown_client", {}),
    "no command c9": ("unknown_command", {"command_id": "c9"}),
    "command c9 belongs to another client": ("foreign_command", {"command_id": "c9"}),
    "failed_at: Field required": ("wrong_field", {"field": "failed_at", "fault": MISSING}),
    "timestamp: Input should be a valid datetime": (
        "text",
        {"text": "timestamp: Input should be a valid datetime"},
    ),
    "many bytes, allowed are few": ("text", {"text": "many bytes, allowed are few"}),
    "": ("text", {"text": ""}),
}


async def fill(url: str) -> None:
    """Every sentence that earlier versions stored, and some that they never did."""
    for detail in SENTENCES:
        quoted = detail.replace("'", "''")
        await rows(
            url,
            "INSERT INTO rejected_messages (at, topic, reason, detail, size, head)"
            f" VALUES ('{NOW}', 't', 'malformed', '{quoted}', 1, '')",
        )
    for uuid, said in (("u1", "'failed_at: Field required'"), ("u2", "NULL")):
        await rows(
            url,
            "INSERT INTO clients (uuid, created_at, status, status_since, tags, capabilities, refused_detail)"
            f" VALUES ('{uuid}', '{NOW}', 'online', '{NOW}', '[]', '[]', {said})",
        )


async def test_sentences_about_messages_become_codes_and_come_back(url: str) -> None:
    await migrate(url, "upgrade", BEFORE)
    await fill(url)
    await migrate(url, "upgrade", CODES)
    stored = await rows(url, "SELECT code, arguments FROM rejected_messages ORDER BY id")
    assert [(code, _decoded(arguments)) for code, arguments in stored] == list(SENTENCES.values())

    await migrate(url, "downgrade", BEFORE)
    told = await rows(url, "SELECT detail FROM rejected_messages ORDER BY id")
    assert [detail for (detail,) in told] == list(SENTENCES)
    remembered = await rows(url, "SELECT refused_detail FROM clients ORDER BY uuid")
    assert remembered == [("failed_at: Field required",), (None,)]

    await schema.upgrade(url)
    store = Store(url)
    async with store.read() as connection:
        kept = (await rejected.page(connection, 100)).items
        known = await clients.get(connection, "u1")
        other = await clients.get(connection, "u2")
    await store.close()
    assert [one.defect.code.value for one in kept] == [code for code, _ in reversed(SENTENCES.values())]
    assert known is not None
    assert other is not None
    remembered_defect = stored_defect(known.refused_defect)
    assert remembered_defect is not None
    assert say(remembered_defect) == "failed_at is required"
    assert stored_defect(other.refused_defect) is None


def test_what_the_migration_stores_is_what_the_code_reads() -> None:
    for code, arguments in SENTENCES.values():
        assert unpacked(MessageDefect, code, arguments).packed() == arguments


def _decoded(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value
