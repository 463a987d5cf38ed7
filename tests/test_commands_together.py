"""Several commands requested together: each on its own merits, and with few statements for all of them."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from uuid import uuid4

import pytest

from infoscreen.domain.commands import Action, ClientCommand, CommandStatus, Source
from infoscreen.domain.errors import CommandInFlight, Conflict, InvalidInput, LockedOut, NotFound, Refused
from infoscreen.services.orders import Because, WantedCommand
from infoscreen.services.recovery.loop import DAEMON
from infoscreen.storage import audit, commands
from infoscreen.storage.audit import AuditQuery
from infoscreen.storage.commands import CommandQuery
from tests.spine import Spine, open_spine, sqlite_url, uuid_of
from tests.statements import statements_of

FREE, OTHER, BUSY, LOCKED, DUMB, NOBODY = (uuid_of(number) for number in range(1, 7))
FEW = 25
"""Statements, however many commands; today there are fewer than a dozen."""


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
async def spine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Spine]:
    url = sqlite_url(tmp_path) if request.param == "sqlite" else request.getfixturevalue("postgres")
    async with open_spine(url) as parts:
        yield parts


def wanted(uuid: str, action: Action = Action.RESTART_APP) -> WantedCommand:
    because = Because("act_restart_app", {"attempt": 1, "attempts": 2})
    return WantedCommand(client_uuid=uuid, action=action, because=because, command_id=str(uuid4()))


async def request(spine: Spine, some: Iterable[WantedCommand]) -> dict[str, ClientCommand | Refused]:
    return await spine.commanding.request_each(list(some), source=Source.RECOVERY, actor=DAEMON)


async def test_each_is_queued_or_refused_as_if_it_were_requested_alone(spine: Spine) -> None:
    for uuid in (FREE, OTHER, BUSY, LOCKED, DUMB):
        await spine.beat(uuid)
    for _ in range(3):
        command = await spine.request(LOCKED, Action.RESTART_APP)
        await spine.outbox.step()
        await spine.ack(command, "failed")
    flying = await spine.request(BUSY, Action.REBOOT_HOST)
    orders = {uuid: wanted(uuid) for uuid in (FREE, BUSY, LOCKED, NOBODY)}
    orders[OTHER] = wanted(OTHER, Action.REBOOT_HOST)
    orders[DUMB] = wanted(DUMB, Action.SCREENSHOT)
    outcome = await request(spine, orders.values())
    assert {uuid: type(one) for uuid, one in outcome.items()} == {
        FREE: ClientCommand,
        OTHER: ClientCommand,
        BUSY: CommandInFlight,
        LOCKED: LockedOut,
        NOBODY: NotFound,
        DUMB: InvalidInput,
    }
    busy, locked = outcome[BUSY], outcome[LOCKED]
    assert isinstance(busy, CommandInFlight)
    assert busy.command.command_id == flying.command_id
    assert isinstance(locked, LockedOut)
    assert locked.command.status is CommandStatus.BLOCKED_SAFETY
    assert locked.locked_until is not None
    async with spine.store.read() as connection:
        found = await commands.search(connection, CommandQuery(source=Source.RECOVERY), 10)
        acts = await audit.page(connection, 10, query=AuditQuery(actor=DAEMON.name))
    assert {(one.client_uuid, one.action, one.command_id) for one in found.items} == {
        (uuid, orders[uuid].action, orders[uuid].command_id) for uuid in (FREE, OTHER, LOCKED)
    }
    assert {one.reason_code for one in found.items} == {"act_restart_app"}
    assert {(one.action, one.target) for one in acts.items} == {
        ("command.restart_app", f"client/{FREE}"),
        ("command.reboot_host", f"client/{OTHER}"),
        ("command.restart_app", f"client/{LOCKED}"),
    }


async def test_commands_that_are_requested_again_are_the_same_and_no_others(spine: Spine) -> None:
    """A daemon that died on the way asks again, for some that were stored and some that were not."""
    for uuid in (FREE, OTHER):
        await spine.beat(uuid)
    first, second = wanted(FREE), wanted(OTHER)
    before = await request(spine, [first])
    again = await request(spine, [first, second])
    assert again[FREE] == before[FREE]
    assert isinstance(again[OTHER], ClientCommand)
    async with spine.store.read() as connection:
        stored = await commands.search(connection, CommandQuery(), 10)
        acts = await audit.page(connection, 10)
    assert sorted(one.command_id for one in stored.items) == sorted((first.command_id, second.command_id))
    assert len(acts.items) == 2


async def test_a_hundred_commands_take_as_many_statements_as_one(spine: Spine) -> None:
    uuids = [uuid_of(number) for number in range(100, 200)]
    for uuid in uuids:
        await spine.beat(uuid)
    with statements_of(spine.store) as asked:
        outcome = await request(spine, map(wanted, uuids))
    assert {type(one) for one in outcome.values()} == {ClientCommand}
    assert 0 < len(asked) <= FEW


async def test_requests_for_the_same_clients_in_any_order_leave_each_with_one_command(spine: Spine) -> None:
    """Also no deadlock: on PostgreSQL the requests run at the same time."""
    uuids = [uuid_of(number) for number in range(100, 120)]
    for uuid in uuids:
        await spine.beat(uuid)
    there, back = [wanted(uuid) for uuid in uuids], [wanted(uuid) for uuid in reversed(uuids)]
    outcomes = await asyncio.gather(request(spine, there), request(spine, back))
    for uuid in uuids:
        assert {type(outcome[uuid]) for outcome in outcomes} == {ClientCommand, CommandInFlight}


async def test_who_lost_against_a_command_that_has_ended_meanwhile_is_refused(tmp_path: Path) -> None:
    """Another process's command keeps ours out of the index, and its device answers a moment later."""
    async with open_spine(sqlite_url(tmp_path)) as spine:
        await spine.beat(FREE)
        async with spine.store.write() as connection:
            await connection.exec_driver_sql(
                "CREATE TRIGGER faster BEFORE INSERT ON client_commands BEGIN SELECT RAISE(IGNORE); END"
            )
        outcome = await request(spine, [wanted(FREE)])
        assert isinstance(outcome[FREE], Conflict)
        with pytest.raises(Conflict):
            await spine.request(FREE, Action.RESTART_APP)
