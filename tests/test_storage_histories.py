"""Histories that have grown for years: whole when paged, and no dearer than young ones, on both databases."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from sqlalchemy import insert

from infoscreen.domain.clients import Client, Condition
from infoscreen.domain.commands import Action, CommandStatus, Source
from infoscreen.domain.errors import InvalidInput
from infoscreen.domain.events import TimelineKind
from infoscreen.storage import (
    account_tables,
    audit,
    client_lists,
    clients,
    commands,
    rejected,
    schema,
    tables,
    timeline,
)
from infoscreen.storage.client_lists import ClientQuery
from infoscreen.storage.commands import CommandQuery
from infoscreen.storage.engine import Connection, Store
from infoscreen.storage.paging import encode_cursor
from infoscreen.storage.tables import client_commands, command_events, recovery_attempts
from infoscreen.storage.timeline import NewEntry
from tests.spine import MORNING, sqlite_url, uuid_of

U = uuid_of(0)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    url = sqlite_url(tmp_path) if request.param == "sqlite" else request.getfixturevalue("postgres")
    await schema.upgrade(url)
    made = Store(url)
    async with made.write() as connection:
        client = Client(uuid=U, created_at=MORNING, status=Condition.ONLINE, status_since=MORNING)
        await clients.create(connection, client)
    yield made
    await made.close()


def command_row(number: int, status: CommandStatus, at: datetime) -> dict[str, Any]:
    return {
        "command_id": f"c{number}",
        "client_uuid": U,
        "action": Action.SCREENSHOT,
        "status": status,
        "source": Source.OPERATOR,
        "created_at": at,
        "expires_at": at,
        "deadline_at": at,
    }


async def fill(connection: Connection, seed: int = 7) -> None:
    """A history in which everything happens at the same few moments, so that every tie is met."""
    random = Random(seed)
    moments = [MORNING + timedelta(minutes=minute) for minute in range(4)]
    entries = [
        NewEntry(client_uuid=U, at=random.choice(moments), kind=kind, text=f"{kind} {number}")
        for number in range(6)
        for kind in (TimelineKind.LOG, TimelineKind.STATUS, TimelineKind.OPERATOR)
    ]
    random.shuffle(entries)
    await timeline.add(connection, entries)
    await connection.execute(insert(client_commands), [command_row(1, CommandStatus.COMPLETED, MORNING)])
    events = [
        {
            "command_id": "c1",
            "client_uuid": U,
            "at": random.choice(moments),
            "to_status": CommandStatus.QUEUED,
            "by": f"by {number}",
        }
        for number in range(6)
    ]
    await connection.execute(insert(command_events), events)
    attempts = [
        {
            "command_id": f"a{number}",
            "client_uuid": U,
            "rung": 1,
            "would": True,
            "decided_at": random.choice(moments[:2]),
            "ended_at": random.choice([None, *moments[2:]]),
            "outcome": None,
        }
        for number in range(4)
    ]
    await connection.execute(insert(recovery_attempts), attempts)


@pytest.mark.parametrize(
    "kinds",
    [
        frozenset(),
        {TimelineKind.LOG},
        {TimelineKind.COMMAND, TimelineKind.STATUS},
        {TimelineKind.RECOVERY, TimelineKind.LOG},
    ],
)
async def test_the_timeline_is_whole_however_it_is_cut_into_pages(
    store: Store, kinds: frozenset[TimelineKind]
) -> None:
    async with store.write() as connection:
        await fill(connection)
    async with store.read() as connection:
        whole = await timeline.page(connection, U, 500, None, kinds)
        assert whole.next_cursor is None
        assert [entry.at for entry in whole.items] == sorted((e.at for e in whole.items), reverse=True)
        assert {entry.kind for entry in whole.items} == (
            kinds
            or {
                TimelineKind.LOG,
                TimelineKind.STATUS,
                TimelineKind.OPERATOR,
                TimelineKind.COMMAND,
                TimelineKind.RECOVERY,
            }
        )
        for size in (1, 2, 3, 7):
            pieces: list[Any] = []
            cursor = None
            while True:
                page = await timeline.page(connection, U, size, cursor, kinds)
                assert page.total is None
                pieces += page.items
                if (cursor := page.next_cursor) is None:
                    break
            assert pieces == whole.items, size


@pytest.mark.parametrize(
    "key", [(1, 1, 1), ("x", 1, 1), (MORNING, "1", 1), (MORNING, 1, "1"), (MORNING, 1, None), (MORNING, 1)]
)
async def test_a_made_up_cursor_is_refused_before_the_database_sees_it(store: Store, key: Any) -> None:
    cursor = encode_cursor(*key)
    async with store.read() as connection:
        with pytest.raises(InvalidInput):
            await timeline.page(connection, U, 10, cursor)


@pytest.mark.parametrize("key", [(1, "u"), ("a", 1), (1, 1), (True, "u"), (MORNING,)])
async def test_a_made_up_cursor_of_another_list_is_refused_too(store: Store, key: Any) -> None:
    cursor = encode_cursor(*key)
    async with store.read() as connection:
        for asked in (
            client_lists.search(connection, ClientQuery(), 10, cursor),
            commands.search(connection, CommandQuery(), 10, cursor),
        ):
            with pytest.raises(InvalidInput):
                await asked


BIG = 2**40


async def test_rows_numbered_beyond_32_bits_are_listed_and_paged(store: Store) -> None:
    async with store.write() as connection:
        for number in (BIG, BIG + 1):
            common = {"id": number, "at": MORNING}
            await connection.execute(
                insert(tables.timeline).values(
                    client_uuid=U, kind=TimelineKind.LOG, text=f"line {number}", **common
                )
            )
            await connection.execute(
                insert(account_tables.audit).values(actor="a", via="cli", action="act", **common)
            )
            await connection.execute(
                insert(tables.rejected_messages).values(
                    topic="t",
                    reason="r",
                    code="text",
                    arguments={"text": f"line {number}"},
                    size=1,
                    head=b"",
                    **common,
                )
            )
    async with store.read() as connection:
        first = await timeline.page(connection, U, 1)
        second = await timeline.page(connection, U, 1, first.next_cursor)
        assert [first.items[0].text, second.items[0].text] == [f"line {BIG + 1}", f"line {BIG}"]
        acts = await audit.page(connection, 1)
        assert (await audit.page(connection, 1, acts.next_cursor)).items[0].id == BIG
        refused = await rejected.page(connection, 1)
        rest = await rejected.page(connection, 1, refused.next_cursor)
        assert (rest.items[0].defect.arguments["text"], rest.next_cursor) == (f"line {BIG}", None)
