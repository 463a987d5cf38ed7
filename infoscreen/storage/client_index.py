"""Keeps the texts and tags that clients are found by, and finds clients in them (``storage.finding``)."""

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple, Protocol

from sqlalchemy import (
    ColumnElement,
    Exists,
    Select,
    column,
    delete,
    exists,
    func,
    insert,
    literal_column,
    or_,
    select,
    table,
    text,
)

from infoscreen.domain.clients import FailedUnit
from infoscreen.domain.letters import plain, without_e, words_of
from infoscreen.storage.columns import chunks, insert_or
from infoscreen.storage.engine import Connection, Store
from infoscreen.storage.paging import MOST_COUNTED, count_some
from infoscreen.storage.tables import client_search, client_tags, clients

FEW = 1_000
"""A search that finds no more clients than this is answered from them alone, whatever the order."""

TRIGRAM = 3
"""The index of trigrams knows nothing shorter."""

SEARCHED = frozenset({"name", "hostname", "ip", "site", "tags", "failed_services"})
"""Fields of a client whose changes ``note`` must be told of. The UUID never changes."""

LONGEST_TEXT = 8_000
"""Characters; what a client has beyond that is not searched."""

MOST_WORDS = 20
"""Further words of a search are left out."""

REPAIRED_AT_ONCE = 1_000

_TRIGRAMS = table("client_trigrams", column("rowid"))
_MATCH = text("client_trigrams MATCH :phrase")


def searched_text(client: "Searchable") -> str:
    """Return what a client is searched in; no word of a search goes across the ends of lines.

    Lines are plain letters, and once more with umlauts of two letters as one.
    """
    lines = [plain(part) for part in (client.uuid, client.ip or "")]
    units = [one.unit for one in client.failed_services]
    for part in (client.name, client.hostname, client.site, *client.tags, *units):
        if part:
            lines += [plain(part), without_e(plain(part))]
    return "\n".join(line for line in dict.fromkeys(lines) if line)[:LONGEST_TEXT]


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
    def site(self) -> str | None:
        """Where it is."""

    @property
    def tags(self) -> Sequence[str]:
        """What people grouped it by."""

    @property
    def failed_services(self) -> Sequence[FailedUnit]:
        """Its units that have failed."""


async def note(connection: Connection, changed: Collection[Searchable]) -> None:
    """Write what clients are searched in."""
    rows = [{"client_uuid": one.uuid, "text": searched_text(one)} for one in changed]
    if rows:
        statement = insert_or(connection, client_search)
        fresh = {"text": statement.excluded.text}
        await connection.execute(
            statement.on_conflict_do_update(index_elements=["client_uuid"], set_=fresh), rows
        )


async def note_new(connection: Connection, uuids: Collection[str]) -> None:
    """Do the same for clients of which nothing is known but the UUID; others are left alone."""
    rows = [{"client_uuid": uuid, "text": searched_text(_Searched(uuid=uuid))} for uuid in uuids]
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
    """Return the UUIDs of the clients in whose text all words stand, None if they are more than ``FEW``."""
    found = await connection.scalars(_with_text(connection, wanted, client_search.c.client_uuid, FEW + 1))
    return _few(found.all())


async def count_with_text(connection: Connection, wanted: str) -> int | None:
    """Return in how many clients' texts all words stand, None if they are too many to count."""
    first = _with_text(connection, wanted, literal_column("1"), MOST_COUNTED + 1).subquery()
    counted = await connection.scalar(select(func.count()).select_from(first)) or 0
    return counted if counted <= MOST_COUNTED else None


def _with_text(connection: Connection, wanted: str, selected: ColumnElement[Any], limit: int) -> Select[Any]:
    """Select of the texts with all words, from the index of trigrams where it is SQLite's and of use."""
    words = words_of(wanted)[:MOST_WORDS]
    fts = connection.dialect.name == "sqlite"
    indexed = [word for word in words if fts and all(len(spelling) >= TRIGRAM for spelling in word)]
    conditions = [_stands_in_text(word) for word in words if word not in indexed]
    if not indexed:
        return select(selected).select_from(client_search).where(*conditions).limit(limit)
    phrase = " AND ".join(
        "(" + " OR ".join(_quoted(spelling) for spelling in sorted(word)) + ")" for word in indexed
    )
    joined = _TRIGRAMS.join(client_search, client_search.c.id == _TRIGRAMS.c.rowid)
    statement = select(selected).select_from(joined)
    return statement.where(_MATCH.bindparams(phrase=phrase), *conditions).limit(limit)


def _quoted(spelling: str) -> str:
    return '"' + spelling.replace('"', '""') + '"'


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
    """Return the condition that all words stand in a client's text; looked for in one client at a time."""
    c = client_search.c
    words = words_of(wanted)[:MOST_WORDS]
    return exists().where(c.client_uuid == clients.c.uuid, *(_stands_in_text(word) for word in words))


def has_tag(tag: str) -> Exists:
    """Return the condition that a client has a tag; looked for in one client at a time."""
    c = client_tags.c
    return exists().where(c.client_uuid == clients.c.uuid, c.tag == tag)


def _stands_in_text(word: frozenset[str]) -> ColumnElement[bool]:
    spellings = sorted(word)
    return or_(*(client_search.c.text.contains(spelling, autoescape=True) for spelling in spellings))


class _Searched(NamedTuple):
    uuid: str
    name: str | None = None
    hostname: str | None = None
    ip: str | None = None
    site: str | None = None
    tags: Sequence[str] = ()
    failed_services: Sequence[FailedUnit] = ()


_SEARCHED = select(*(clients.c[name] for name in _Searched._fields))


async def note_site(connection: Connection, site: str) -> None:
    """Do as ``note`` for all clients of a site, after it was renamed."""
    rows = (await connection.execute(_SEARCHED.where(clients.c.site == site))).all()
    for chunk in chunks(rows):
        await note(connection, [_Searched._make(row) for row in chunk])


async def _unnoted(connection: Connection, limit: int, *, hold: bool) -> list[_Searched]:
    noted = exists().where(client_search.c.client_uuid == clients.c.uuid)
    statement = _SEARCHED.where(~noted).limit(limit)
    statement = statement.with_for_update(of=clients) if hold else statement
    return [_Searched._make(row) for row in await connection.execute(statement)]


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
