"""What a device refuses was not tried: it is failed with its reason, and counts for no lockout."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from infoscreen.domain.commands import CommandStatus
from infoscreen.domain.refusals import REFUSALS, is_refused, wrong_clock_seconds
from infoscreen.storage import clients, commands, retained
from infoscreen.wire import topics
from tests.spine import OPERATOR, Spine, open_spine, sqlite_url, uuid_of, zulu

U = uuid_of(1)


@pytest.fixture
async def spine(tmp_path: Path) -> AsyncIterator[Spine]:
    async with open_spine(sqlite_url(tmp_path)) as opened:
        yield opened


@pytest.mark.parametrize("code", sorted(REFUSALS))
async def test_refusals_do_not_fill_the_lockout(spine: Spine, code: str) -> None:
    await spine.beat(U)
    for _ in range(5):
        command = await spine.request(U)
        await spine.outbox.step()
        await spine.ack(command, "failed", error_code=code)
        spine.clock.advance(5)
    assert is_refused(await spine.command(command))
    assert await spine.commanding.lockout(U) is None


async def test_what_a_device_had_begun_is_no_refusal(spine: Spine) -> None:
    await spine.beat(U)
    for _ in range(3):
        command = await spine.request(U)
        await spine.outbox.step()
        await spine.ack(command, "execution_started")
        await spine.ack(command, "failed", error_code="busy")
    assert not is_refused(await spine.command(command))
    assert await spine.commanding.lockout(U) is not None
    async with spine.store.read() as connection:
        counted = await commands.disruptive_since(connection, spine.clock.now() - timedelta(hours=1))
    assert len(counted[U]) == 3


async def test_a_wrong_clock_is_named_as_the_cause(spine: Spine) -> None:
    await spine.beat(U, timestamp=zulu(spine.clock.now() + timedelta(minutes=61)))
    command = await spine.request(U)
    await spine.outbox.step()
    await spine.ack(command, "failed", error_code="expired")
    after = await spine.command(command)
    assert (after.status, wrong_clock_seconds(after)) == (CommandStatus.FAILED, 61 * 60)


# Removing a client.


async def test_removing_a_client_empties_what_the_broker_retains_of_it(spine: Spine) -> None:
    await spine.beat(U)
    spine.publisher.fails = True
    await spine.fleet.remove(U, OPERATOR)
    await spine.outbox.step()
    async with spine.store.read() as connection:
        assert len(await retained.to_empty(connection, 100)) == len(topics.all_of(U))
    spine.publisher.fails = False
    await spine.outbox.step()
    assert {message.topic for message in spine.publisher.sent} == set(topics.all_of(U))
    assert all(message.retain and message.payload == b"" for message in spine.publisher.sent)
    assert await spine.outbox.step() == 0
    # Our own emptying comes back to us, and must not bring the client back.
    await spine.hear(*((topic.removeprefix("infoscreen/"), b"") for topic in topics.all_of(U)))
    async with spine.store.read() as connection:
        assert await clients.get(connection, U) is None


# Messages that waited at the broker while nobody listened.


async def test_a_message_that_waited_does_not_date_the_last_life_nor_the_clock(spine: Spine) -> None:
    await spine.beat(U)
    heard = spine.clock.now()
    spine.clock.advance(3600)
    spine.link.listening_since = spine.clock.now()
    spine.clock.advance(1)
    waited = [heard + timedelta(seconds=30 * number) for number in range(1, 5)]
    for at in waited:
        await spine.hear((f"{U}/heartbeat", {"timestamp": zulu(at)}))
    client = await spine.client(U)
    assert (client.last_alive, client.clock_skew_seconds) == (waited[-1], 0.0)
    spine.clock.advance(20)
    await spine.beat(U)
    client = await spine.client(U)
    assert (client.last_alive, client.clock_skew_seconds) == (spine.clock.now(), 0.0)


@pytest.mark.parametrize("offset", [0.0, -3600.0, 3600.0, 1e8])
async def test_a_clock_never_makes_who_speaks_silent_after_a_restart(spine: Spine, offset: float) -> None:
    for _ in range(6):
        spine.clock.advance(30)
        await spine.beat(U)
    spine.clock.advance(3600)
    spine.link.listening_since = spine.clock.now()
    for _ in range(20):
        spine.clock.advance(30)
        await spine.beat(U, timestamp=zulu(spine.clock.now() + timedelta(seconds=offset)))
        await spine.watch.look()
        assert (await spine.client(U)).status == "online"
    assert (await spine.client(U)).last_alive == spine.clock.now()
