"""Lists of clients find, order and count what a plain comparison of all clients does, on both databases."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from random import Random

import pytest
from sqlalchemy import insert, select, text

from infoscreen.domain import letters
from infoscreen.domain.clients import Client, Condition, FailedUnit, sort_key
from infoscreen.storage import client_index, client_lists, clients, finding, schema, sites, tables
from infoscreen.storage.client_lists import ClientQuery
from infoscreen.storage.engine import Connection, Store
from tests.spine import MORNING, sqlite_url, uuid_of
from tests.statements import statements_of, steps_of

MANY = client_index.FEW + 200
PARTS = (
    "Foyer",
    "ÄRZTEHAUS",
    "straße",
    "Ñandú",
    "50%",
    "a_b",
    'say "hi"',
    "it's",
    "C:\\tmp",
    "東京駅",
    "x",
    "",
)
STATUSES = (Condition.ONLINE, Condition.ONLINE, Condition.ONLINE, Condition.CRASHED, Condition.NEVER_SEEN)
SITES = (None, "Berlin", "Celle")
TAGS = ("lobby", "Lobby", 'a "b"', "ü", "lob")


def made(number: int, random: Random) -> Client:
    heard = None if number % 7 == 0 else MORNING + timedelta(seconds=random.randrange(50))
    return Client(
        uuid=uuid_of(number),
        created_at=MORNING,
        status=random.choice(STATUSES),
        status_since=MORNING + timedelta(seconds=random.randrange(20)),
        name=random.choice((None, f"{random.choice(PARTS)} {random.choice(PARTS)} {number % 50}")),
        hostname=random.choice((None, f"screen-{number:05}")),
        ip=random.choice((None, f"10.0.{number % 9}.{number % 200}")),
        site=random.choice(SITES),
        tags=random.sample(TAGS, random.choice((0, 0, 1, 2))) + (["everywhere"] if number % 50 else []),
        last_alive=heard,
    )


@pytest.fixture(scope="module")
def fleet() -> list[Client]:
    random = Random(1)
    return [made(number, random) for number in range(MANY)]


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    url = sqlite_url(tmp_path) if request.param == "sqlite" else request.getfixturevalue("postgres")
    await schema.upgrade(url)
    opened = Store(url)
    yield opened
    await opened.close()


async def insert_all(connection: Connection, fleet: list[Client]) -> None:
    rows = [
        {name: getattr(one, name) for name in one.__dataclass_fields__}
        | {"sort_key": sort_key(one.name, one.hostname, one.uuid)}
        for one in fleet
    ]
    await connection.execute(insert(tables.clients), rows)


def matches(client: Client, query: ClientQuery) -> bool:
    told = (client.name, client.hostname, client.site, *client.tags)
    parts = [letters.plain(part) for part in (*told, client.ip, client.uuid) if part]
    parts += [letters.without_e(letters.plain(part)) for part in told if part]
    words = [letters.plain(word) for word in (query.q or "").split()]
    return (
        (not query.status or client.status in query.status)
        and (not query.site or client.site == query.site)
        and (not query.tag or query.tag in client.tags)
        and all(any(word in part or letters.without_e(word) in part for part in parts) for word in words)
    )


def order(client: Client, query: ClientQuery) -> tuple[object, str]:
    long_ago = MORNING - timedelta(days=30_000)
    match query.sort.removeprefix("-"):
        case "name":
            return sort_key(client.name, client.hostname, client.uuid), client.uuid
        case "last_alive":
            return client.last_alive or long_ago, client.uuid
        case _:
            return client.status_since, client.uuid


def queries(fleet: list[Client], random: Random) -> list[ClientQuery]:
    sorts = [f"{sign}{name}" for name in client_lists.SORTS for sign in ("", "-")]
    troubled = frozenset({Condition.CRASHED, Condition.NEVER_SEEN})
    statuses = [frozenset[Condition](), frozenset({Condition.ONLINE}), troubled, frozenset(Condition)]
    found = [ClientQuery(sort=sort, status=status) for sort in sorts for status in statuses]
    words = [
        *PARTS,
        "screen",
        "SCREEN-0004",
        "e",
        "0",
        "%",
        "_",
        '"',
        "'",
        "\\",
        "é",
        "no such",
        "ss",
        "ß",
        "*",
        "OR",
    ]
    found += [ClientQuery(q=word, sort=random.choice(sorts)) for word in words if word]
    for _ in range(40):
        named = random.choice([one for one in fleet if one.name])
        whole = random.choice((named.name or "", named.uuid, named.hostname or named.uuid, named.ip or "10."))
        start, length = random.randrange(len(whole)), random.choice((1, 2, 3, 5, 40))
        part = whole[start : start + length]
        found.append(
            ClientQuery(
                q=random.choice((part, part.upper(), part.lower())),
                sort=random.choice(sorts),
                status=random.choice(statuses),
                site=random.choice((*SITES, None)),
                tag=random.choice((None, None, "everywhere", *TAGS)),
            )
        )
    found += [ClientQuery(tag=tag, sort=random.choice(sorts)) for tag in (*TAGS, "everywhere", "lo", "LOBBY")]
    return found


async def test_every_search_finds_what_a_comparison_of_all_clients_finds(
    store: Store, fleet: list[Client]
) -> None:
    async with store.write() as connection:
        await insert_all(connection, fleet)
    assert await client_index.repair(store) == MANY
    random = Random(2)
    async with store.read() as connection:
        for query in queries(fleet, random):
            descending = query.sort.startswith("-")
            wanted = [one for one in fleet if matches(one, query)]
            wanted.sort(key=lambda one: order(one, query), reverse=descending)
            page = await client_lists.search(connection, query, 70)
            assert page.total == len(wanted), query
            seen = page.items
            while page.next_cursor:
                page = await client_lists.search(connection, query, 500, page.next_cursor)
                assert page.total == len(wanted), query
                seen = seen + page.items
            assert [one.uuid for one in seen] == [one.uuid for one in wanted], query


async def test_the_order_by_last_heartbeat_is_read_from_an_index(store: Store, fleet: list[Client]) -> None:
    async with store.write() as connection:
        await insert_all(connection, fleet)
        await connection.execute(text("ANALYZE"))
    async with store.read() as connection:
        for status in (frozenset[Condition](), frozenset(STATUSES)):
            for sort in ("last_alive", "-last_alive"):
                query = ClientQuery(status=status, sort=sort)
                first = await client_lists.search(connection, query, 20)
                for cursor in (None, first.next_cursor):
                    with statements_of(store) as asked:
                        await client_lists.search(connection, query, 20, cursor)
                    (listed,) = (one for one in asked if "page_key" in one[0])
                    steps = " ".join(await steps_of(connection, listed))
                    assert "ix_clients_last_alive" in steps
                    assert "SCAN clients" not in steps
                    assert "Seq Scan on clients" not in steps


async def test_bulk_requests_find_the_same_clients_as_lists(store: Store, fleet: list[Client]) -> None:
    async with store.write() as connection:
        await insert_all(connection, fleet[:300])
    await client_index.repair(store)
    async with store.read() as connection:
        for query in (
            ClientQuery(q="foyer"),
            ClientQuery(tag="lobby"),
            ClientQuery(status=frozenset(Condition)),
        ):
            listed = await client_lists.search(connection, query, 300)
            found = await client_lists.matching_uuids(connection, query, 300)
            assert found == [one.uuid for one in listed.items] != []


async def found(store: Store, **query: str) -> list[str]:
    async with store.read() as connection:
        page = await client_lists.search(connection, ClientQuery(**query), 50)
        return [one.uuid for one in page.items]


async def test_a_client_is_found_by_what_it_is_called_now(store: Store) -> None:
    first, second = uuid_of(1), uuid_of(2)
    async with store.write() as connection:
        assert await clients.register(connection, {first, second}, MORNING) == {first, second}
        assert await clients.register(connection, {first}, MORNING) == {first}
    assert await found(store, q=first[-9:].upper()) == [first]
    async with store.write() as connection:
        before = (await clients.for_change(connection, [first]))[first]
        after = replace(before, name="Grüße", hostname="kiosk", ip="10.1.2.3", tags=["a", "b", "a"])
        await clients.save_changes(connection, before, after)
    for q in ("GRÜSSE", "üß", "kio", "10.1.2.3"):
        assert await found(store, q=q) == [first], q
    assert await found(store, tag="b") == [first]
    async with store.write() as connection:
        again = replace(after, name="Foyer", ip=None, tags=["c"])
        await clients.save_changes(connection, after, again)
        await clients.register(connection, {first}, MORNING)  # it exists and keeps its name
    for gone in ({"q": "grüße"}, {"q": "10.1.2.3"}, {"tag": "b"}):
        assert await found(store, **gone) == [], gone
    assert (
        await found(store, q="foy") == await found(store, q="kiosk") == await found(store, tag="c") == [first]
    )
    async with store.write() as connection:
        await clients.remove(connection, first)
    assert await found(store, q="foyer") == await found(store, tag="c") == []
    async with store.write() as connection:
        await assert_clean(connection)


async def assert_clean(connection: Connection) -> None:
    """Raise if the index of trigrams is not that of the texts, or anything is left of removed clients."""
    if connection.dialect.name == "sqlite":
        check = "INSERT INTO client_trigrams (client_trigrams, rank) VALUES ('integrity-check', 1)"
        await connection.execute(text(check))
    known = set((await connection.scalars(select(tables.clients.c.uuid))).all())
    for table in (tables.client_search, tables.client_tags):
        assert set((await connection.scalars(select(table.c.client_uuid))).all()) <= known


async def test_the_index_survives_any_history(store: Store) -> None:
    random = Random(3)
    for _ in range(40):
        async with store.write() as connection:
            number = random.randrange(6)
            before = await clients.get(connection, uuid_of(number))
            match random.choice(("create", "rename", "remove", "register", "retag")):
                case "create" if before is None:
                    await clients.create(connection, made(number, random))
                case "rename" | "retag" if before is not None:
                    await clients.save_changes(
                        connection,
                        before,
                        replace(before, name=random.choice(PARTS), tags=random.sample(TAGS, 2)),
                    )
                case "remove":
                    await clients.remove(connection, uuid_of(number))
                case _:
                    await clients.register(connection, {uuid_of(number)}, MORNING)
    async with store.write() as connection:
        await assert_clean(connection)
        c = tables.client_search.c
        texts = {row[0]: row[1] for row in await connection.execute(select(c.client_uuid, c.text))}
        everybody = await clients.get_many(connection, texts)
        assert texts == {one.uuid: client_index.searched_text(one) for one in everybody.values()}
        assert len(texts) == len((await connection.scalars(select(tables.clients.c.uuid))).all())


@pytest.mark.postgres
async def test_without_the_index_of_trigrams_postgresql_reads_the_narrow_table(postgres: str) -> None:
    await schema.upgrade(postgres)
    store = Store(postgres)
    try:
        async with store.write() as connection:
            await clients.create(connection, replace(made(1, Random(1)), name="Foyer"))
            for statement in finding.DROP["postgresql"]:
                await connection.execute(text(statement))
        assert await found(store, q="OYE") == [uuid_of(1)]
    finally:
        await store.close()


async def test_rows_written_by_hand_are_found_after_a_repair(store: Store) -> None:
    uuid = uuid_of(1)
    async with store.write() as connection:
        await insert_all(connection, [replace(made(1, Random(1)), name="Foyer", tags=["t"])])
    assert await found(store, q="foyer") == []
    assert await client_index.repair(store) == 1
    assert await client_index.repair(store) == 0
    assert await found(store, q="foyer") == await found(store, tag="t") == [uuid]


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("Müller Foyer Ost", "ost müller"),
        ("Müller", "MUELLER"),
        ("Müller", "muller"),
        ("Mueller", "müller"),
        ("Mueller", "eller"),
        ("Große Straße 3", "strasse grosse"),
        ("Ärztehaus", "aerzte"),
        ("Œuvre", "oeuvre"),
        ("Cafe\u0301", "café"),
        ("\uff26\uff4f\uff59\uff45\uff52", "foyer"),
        ("Neue Aue", "aue neue"),
        ("a_b 50%", "50% a_b"),
    ],
)
async def test_words_are_found_however_they_are_written(store: Store, name: str, wanted: str) -> None:
    async with store.write() as connection:
        await clients.create(connection, replace(made(1, Random(1)), name=name, hostname=None, tags=[]))
        other = replace(made(2, Random(1)), name="Dachboden", hostname=None, tags=[], site=None, ip=None)
        await clients.create(connection, other)
    assert await found(store, q=wanted) == [uuid_of(1)]
    assert await found(store, q=f"{wanted} nowhere") == []


async def test_site_tag_and_failed_unit_are_searched(store: Store) -> None:
    uuid = uuid_of(1)
    unit = FailedUnit("player@1.service", MORNING, None, MORNING)
    async with store.write() as connection:
        before = replace(made(1, Random(1)), name="Foyer", site="Köln Süd", tags=["Küche"])
        await clients.create(connection, before)
        await clients.save_changes(connection, before, replace(before, failed_services=[unit]))
    for q in ("player@1", "koeln foyer", "KÜCHE süd foy", "service kuche"):
        assert await found(store, q=q) == [uuid], q
    async with store.write() as connection:
        after = replace(before, failed_services=[unit])
        await clients.save_changes(connection, after, before)
        await sites.rename(connection, "Köln Süd", "Aachen")
    assert await found(store, q="player") == await found(store, q="köln") == []
    assert await found(store, q="aachen") == [uuid]


async def test_lists_are_sorted_as_people_do(store: Store) -> None:
    names = ["Ablage", "Ägypten", "Berlin", "Foyer 2", "foyer 10", "Foyer 010b", "Öl 1", "Ost", "Zebra"]
    async with store.write() as connection:
        for number, name in enumerate(reversed(names)):
            await clients.create(connection, replace(made(number, Random(1)), name=name))
    async with store.read() as connection:
        page = await client_lists.search(connection, ClientQuery(), 50)
    assert [one.name for one in page.items] == names
