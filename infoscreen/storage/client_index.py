"""Keeps the texts and tags that clients are found by, and finds clients in them (``storage.finding``)."""

from collections.abc import Collection, Sequence
from typing import NamedTuple, Protocol

from sqlalchemy import ColumnElement, Exists, delete, exists, insert, select, text

from infoscreen.storage.columns import chunks, insert_or
from infoscreen.storage.engine import Connection, Store
from infoscreen.storage.paging import MOST_COUNTED, count_some
from infoscreen.storage.tables import client_search, client_tags, clients

FEW = 1_000
"""A search that finds no more clients than this is answered from them alone, whatever the order."""

TRIGRAM = 3
"""The index of trigrams knows nothing shorter."""

SEARCHED = frozenset({"name", "hostname", "ip"})
"""Fields of a client whose changes ``note`` must be told of. The UUID never changes."""

REPAIRED_AT_ONCE = 1_000

_FOUND_ON_SQLITE = text(
    "SELECT client_search.client_uuid FROM client_trigrams"
    " JOIN client_search ON client_search.id = client_trigrams.rowid"
    " WHERE client_trigrams MATCH :phrase LIMIT :most"
)
_COUNTED_ON_SQLITE = text(
    "SELECT count(*) FROM (SELECT 1 FROM client_trigrams WHERE client_trigrams MATCH :phrase LIMIT :most)"
)


def searched_text(name: str | None, hostname: str | None, ip: str | None, uuid: str) -> str:
    """Return what a client is searched in; no search goes across the ends of lines."""
    return "\n".join(part for part in (name, hostname, ip, uuid) if part).casefold()


class Searchable(Protocol):
    """As much of a client as it is found by."""

    @property
    def uuid(self) -> str:
        """Its UUID."""

    @property
    def name(self) -> str | None:
        """What people call it."""

    @property
    def hostname(self) -> str | None:
        """What it calls itself."""

    @property
    def ip(self) -> str | None:
        """Its address."""

    @property
    def tags(self) -> list[str]:
        """What people grouped it by."""


async def note(connection: Connection, changed: Collection[Searchable]) -> None:
    """Write what clients are searched in."""
    rows = [
        {"client_uuid": one.uuid, "text": searched_text(one.name, one.hostname, one.ip, one.uuid)}
        for one in changed
    ]
    if rows:
        statement = insert_or(connection, client_search)
        fresh = {"text": statement.excluded.text}
        await connection.execute(
            statement.on_conflict_do_update(index_elements=["client_uuid"], set_=fresh), rows
        )


async def note_new(connection: Connection, uuids: Collection[str]) -> None:
    """Do the same for clients of which nothing is known but the UUID; others are left alone."""
    rows = [{"client_uuid": uuid, "text": searched_text(None, None, None, uuid)} for uuid in uuids]
    if rows:
        await connection.execute(insert_or(connection, client_search).on_conflict_do_nothing(), rows)


async def note_tags(connection: Connection, changed: Collection[Searchable]) -> None:
    """Write the tags of clients."""
    for chunk in chunks([one.uuid for one in changed]):
        await connection.execute(delete(client_tags).where(client_tags.c.client_uuid.in_(chunk)))
    rows = [{"tag": tag, "client_uuid": one.uuid} for one in changed for tag in dict.fromkeys(one.tags)]
    if rows:
        await connection.execute(insert(client_tags), rows)


async def few_with_text(connection: Connection, wanted: str) -> list[str] | None:
    """Return the UUIDs of the clients in whose text something stands, None if they are more than ``FEW``."""
    phrase = _phrase(connection, wanted)
    if phrase is not None:
        found = await connection.scalars(_FOUND_ON_SQLITE, {"phrase": phrase, "most": FEW + 1})
    else:
        statement = select(client_search.c.client_uuid).where(_stands_in_text(wanted))
        found = await connection.scalars(statement.limit(FEW + 1))
    return _few(found.all())


async def count_with_text(connection: Connection, wanted: str) -> int | None:
    """Return in how many clients' texts something stands, None if they are too many to count."""
    phrase = _phrase(connection, wanted)
    if phrase is None:
        return await count_some(connection, client_search, [_stands_in_text(wanted)])
    most = {"phrase": phrase, "most": MOST_COUNTED + 1}
    counted = await connection.scalar(_COUNTED_ON_SQLITE, most) or 0
    return counted if counted <= MOST_COUNTED else None


def _phrase(connection: Connection, wanted: str) -> str | None:
    """Return what FTS5 is asked for, None where the index of trigrams is not SQLite's or of no use."""
    folded = wanted.casefold()
    if connection.dialect.name != "sqlite" or len(folded) < TRIGRAM:
        return None
    return '"' + folded.replace('"', '""') + '"'


async def few_with_tag(connection: Connection, tag: str) -> list[str] | None:
    """Return the UUIDs of the clients that have a tag, None if they are more than ``FEW``."""
    statement = select(client_tags.c.client_uuid).where(client_tags.c.tag == tag)
    return _few((await connection.scalars(statement.limit(FEW + 1))).all())


async def count_with_tag(connection: Connection, tag: str) -> int | None:
    """Return how many clients have a tag, None if they are too many to count."""
    return await count_some(connection, client_tags, [client_tags.c.tag == tag])


def _few(found: Sequence[str]) -> list[str] | None:
    return list(found) if len(found) <= FEW else None


def has_text(wanted: str) -> Exists:
    """Return the condition that something stands in a client's text; looked for in one client at a time."""
    c = client_search.c
    return exists().where(c.client_uuid == clients.c.uuid, _stands_in_text(wanted))


def has_tag(tag: str) -> Exists:
    """Return the condition that a client has a tag; looked for in one client at a time."""
    c = client_tags.c
    return exists().where(c.client_uuid == clients.c.uuid, c.tag == tag)


def _stands_in_text(wanted: str) -> ColumnElement[bool]:
    return client_search.c.text.contains(wanted.casefold(), autoescape=True)


class _Unnoted(NamedTuple):
    uuid: str
    name: str | None
    hostname: str | None
    ip: str | None
    tags: list[str]


async def _unnoted(connection: Connection, limit: int, *, hold: bool) -> list[_Unnoted]:
    c = clients.c
    noted = exists().where(client_search.c.client_uuid == c.uuid)
    statement = select(c.uuid, c.name, c.hostname, c.ip, c.tags).where(~noted).limit(limit)
    statement = statement.with_for_update(of=clients) if hold else statement
    return [_Unnoted._make(row) for row in await connection.execute(statement)]


async def repair(store: Store) -> int:
    """Note clients that nobody noted, as after rows were inserted by hand; return how many."""
    async with store.read() as connection:
        if not await _unnoted(connection, 1, hold=False):
            return 0
    repaired = 0
    while True:
        async with store.write() as connection:
            missing = await _unnoted(connection, REPAIRED_AT_ONCE, hold=True)
            await note(connection, missing)
            await note_tags(connection, missing)
        repaired += len(missing)
        if len(missing) < REPAIRED_AT_ONCE:
            return repaired
