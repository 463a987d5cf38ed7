"""Bulk actions and commands that wait: their turns, their refusals, restarts of the daemon, and stops."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from infoscreen.domain.bulk import BulkAction, BulkOutcome
from infoscreen.domain.clients import Condition
from infoscreen.domain.commands import Action, ClientCommand, CommandStatus, Source, Waiting
from infoscreen.domain.errors import CommandInFlight, InvalidInput, LockedOut, NotFound, NotQueued
from infoscreen.services.bulk import Bulk, CommandBatch
from infoscreen.services.releasing import Releasing
from infoscreen.storage import audit, bulk, commands, waiting
from infoscreen.storage.client_lists import ClientQuery
from infoscreen.storage.commands import CommandQuery
from tests.spine import ADMIN, OPERATOR, PER_SECOND, POLICY, Spine, open_spine, sqlite_url, uuid_of

S = CommandStatus
U = uuid_of(1)


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if getattr(request, "param", "sqlite") == "sqlite":
        return sqlite_url(tmp_path)
    chosen: str = request.getfixturevalue("postgres")
    return chosen


on_both = pytest.mark.parametrize(
    "url", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)], indirect=True
)


@pytest.fixture
async def spine(url: str) -> AsyncIterator[Spine]:
    async with open_spine(url) as opened:
        yield opened


async def hear_all(spine: Spine, count: int) -> list[str]:
    uuids = [uuid_of(number) for number in range(count)]
    await spine.hear(*((f"{one}/heartbeat", {"timestamp": spine.clock.now().isoformat()}) for one in uuids))
    return uuids


async def silence(spine: Spine, uuid: str = U) -> None:
    """Let a client be heard once and then be gone."""
    await spine.beat(uuid)
    await spine.hear((f"{uuid}/presence", "offline"))
    spine.clock.advance(600)
    await spine.watch.look()
    assert (await spine.client(uuid)).status is Condition.UNREACHABLE


async def request(
    spine: Spine, targets: list[str] | ClientQuery, action: Action = Action.REBOOT_HOST
) -> CommandBatch:
    return await spine.bulk.request(targets, action, source=Source.OPERATOR, actor=OPERATOR)


async def of_batch(spine: Spine, batch_id: str) -> list[ClientCommand]:
    async with spine.store.read() as connection:
        return (await commands.search(connection, CommandQuery(batch_id=batch_id), 500)).items


async def run_for(spine: Spine, seconds: float, step: float = 0.1) -> list[float]:
    """Let releases and the outbox work for a time; return when each message left, from the beginning."""
    sent: list[float] = []
    for number in range(round(seconds / step)):
        before = len(spine.publisher.sent)
        await spine.releasing.step()
        await spine.outbox.step()
        sent += [number * step] * (len(spine.publisher.sent) - before)
        spine.clock.advance(step)
    return sent


async def test_no_second_sees_more_than_the_pace(spine: Spine) -> None:
    batch = await request(spine, await hear_all(spine, 23))
    assert batch.counts == {"queued": 23}
    sent = await run_for(spine, 6)
    assert len(sent) == 23
    for start in sent:
        assert len([at for at in sent if start <= at < start + 0.999]) <= PER_SECOND
    assert sent[-1] <= 22 / PER_SECOND + 0.5


async def test_two_bulk_actions_share_the_pace(spine: Spine) -> None:
    uuids = await hear_all(spine, 20)
    await request(spine, uuids[:10])
    await request(spine, uuids[10:], Action.RESTART_APP)
    sent = await run_for(spine, 2)
    assert 9 <= len(sent) <= 11


async def test_an_outage_of_the_broker_is_followed_by_no_burst(spine: Spine) -> None:
    await request(spine, await hear_all(spine, 60))
    await run_for(spine, 2)
    spine.publisher.connected = False
    assert await run_for(spine, 20, 0.5) == []
    spine.publisher.connected = True
    sent = await run_for(spine, 3)
    assert 14 <= len(sent) <= 16


async def test_a_busy_machine_makes_no_burst(spine: Spine) -> None:
    await request(spine, await hear_all(spine, 40))
    await run_for(spine, 1)
    spine.clock.advance(30)
    sent = await run_for(spine, 0.95)
    assert len(sent) <= PER_SECOND + 1


@on_both
async def test_the_rest_is_refused_at_its_turn_for_what_has_happened_since(spine: Spine) -> None:
    uuids = await hear_all(spine, 4)
    batch = await request(spine, uuids)
    first, busy, resting, locked = sorted(
        await of_batch(spine, batch.batch_id), key=lambda one: one.command_id
    )
    until = spine.clock.now() + timedelta(hours=1)
    await spine.fleet.edit(resting.client_uuid, {"maintenance_until": until}, OPERATOR)
    await spine.request(busy.client_uuid, Action.RESTART_APP)
    for _ in range(POLICY.lockout.threshold):
        other = await spine.request(locked.client_uuid, Action.RESTART_APP)
        await spine.outbox.step()
        await spine.ack(other, "completed")
    await run_for(spine, 3)
    became = {one.client_uuid: one.status for one in await of_batch(spine, batch.batch_id)}
    assert became == {
        first.client_uuid: S.PUBLISHED,
        busy.client_uuid: S.CANCELLED,
        resting.client_uuid: S.CANCELLED,
        locked.client_uuid: S.BLOCKED_SAFETY,
    }


async def test_waiting_for_a_turn_does_not_occupy_the_client(spine: Spine) -> None:
    (one, *_) = await hear_all(spine, 3)
    await request(spine, [one])
    urgent = await spine.request(one, Action.RESTART_APP)
    assert urgent.status is S.QUEUED
    again = await request(spine, [one], Action.RESTART_APP)
    assert again.counts == {"command_in_flight": 1}


@on_both
async def test_everything_that_would_be_refused_is_told_before(spine: Spine) -> None:
    uuids = await hear_all(spine, 4)
    fit, busy, resting, locked = uuids
    gone, never, unknown = uuid_of(20), uuid_of(21), uuid_of(99)
    await silence(spine, gone)
    await spine.hear((f"{never}/presence", "online"))
    await hear_all(spine, 4)
    await spine.watch.look()
    await spine.request(busy)
    until = spine.clock.now() + timedelta(hours=1)
    await spine.fleet.edit(resting, {"maintenance_until": until}, OPERATOR)
    for _ in range(POLICY.lockout.threshold):
        other = await spine.request(locked, Action.RESTART_APP)
        await spine.outbox.step()
        await spine.ack(other, "completed")
    targets = [fit, busy, resting, locked, gone, never, unknown]
    told = await spine.bulk.preview(targets, Action.REBOOT_HOST)
    expected = [
        BulkOutcome.QUEUED,
        BulkOutcome.COMMAND_IN_FLIGHT,
        BulkOutcome.MAINTENANCE,
        BulkOutcome.LOCKED_OUT,
        BulkOutcome.UNREACHABLE,
        BulkOutcome.NEVER_CONNECTED,
        BulkOutcome.UNKNOWN_CLIENT,
    ]
    assert list(told.values()) == expected
    batch = await request(spine, targets)
    assert [one.outcome for one in batch.results] == expected
    pictures = await spine.bulk.preview([fit, busy, locked], Action.SCREENSHOT)
    assert set(pictures.values()) == {BulkOutcome.NOT_CAPABLE}


@on_both
@pytest.mark.parametrize("sent_before", [2])
async def test_a_stop_withdraws_what_was_not_sent(spine: Spine, sent_before: int) -> None:
    batch = await request(spine, await hear_all(spine, 12))
    await run_for(spine, 0.21 * sent_before)
    sent = len(spine.publisher.sent)
    assert sent == sent_before
    assert await spine.bulk.stop(batch.batch_id, ADMIN) == 12 - sent
    await run_for(spine, 5)
    assert len(spine.publisher.sent) == sent
    one, progress = await spine.bulk.progress(batch.batch_id)
    assert (one.stopped_by, progress.statuses.get(S.CANCELLED)) == ("anton", 12 - sent)
    assert progress.stoppable == 0
    assert await spine.bulk.stop(batch.batch_id, OPERATOR) == 0
    async with spine.store.read() as connection:
        acts = (await audit.page(connection, 10)).items
    assert [act.action for act in acts] == ["bulk.stop", "command.reboot_host"]
    with pytest.raises(NotFound):
        await spine.bulk.stop(uuid_of(5), ADMIN)


def restarted(spine: Spine) -> None:
    """Put new services on the same database, as another start of the daemon does."""
    pace = {"expiry": POLICY.expiry, "per_second": PER_SECOND}
    spine.bulk = Bulk(spine.store, spine.clock, spine.commanding, **pace)
    spine.releasing = Releasing(
        spine.store, spine.clock, spine.commanding, spine.bulk, spine.publisher, **pace
    )


async def test_a_restart_goes_on_with_the_turns(spine: Spine) -> None:
    await request(spine, await hear_all(spine, 8))
    await run_for(spine, 0.65)
    restarted(spine)
    await run_for(spine, 3)
    topics = [one.topic for one in spine.publisher.sent]
    assert len(topics) == len(set(topics)) == 8


@on_both
async def test_a_restart_goes_on_with_clients_that_nobody_has_looked_at(spine: Spine) -> None:
    uuids = await hear_all(spine, 3)
    one = BulkAction(
        batch_id=uuid_of(77),
        action=Action.REBOOT_HOST,
        source=Source.OPERATOR,
        reason="update",
        query=None,
        expires_in=None,
        actor_id=1,
        actor="olga",
        at=spine.clock.now(),
        clients=4,
    )
    async with spine.store.write() as connection:
        await bulk.begin(connection, one, [*uuids, uuid_of(99)])
    restarted(spine)
    await run_for(spine, 2)
    _, progress = await spine.bulk.progress(one.batch_id)
    assert progress.outcomes == {BulkOutcome.QUEUED: 3, BulkOutcome.UNKNOWN_CLIENT: 1}
    assert progress.statuses == {S.PUBLISHED: 3}
    (command, *_) = await of_batch(spine, one.batch_id)
    assert (command.requested_by, command.reason) == (1, "update")


async def test_a_turn_that_never_comes_expires(spine: Spine) -> None:
    batch = await request(spine, await hear_all(spine, 3))
    spine.publisher.connected = False
    spine.clock.advance(POLICY.expiry.total_seconds() + 5)
    await spine.watch.sweep()
    _, progress = await spine.bulk.progress(batch.batch_id)
    assert (progress.statuses, progress.waiting, progress.unfinished) == ({S.EXPIRED: 3}, 0, 0)


async def test_the_life_time_counts_from_the_turn(spine: Spine) -> None:
    batch = await request(spine, await hear_all(spine, 30))
    await run_for(spine, 7)
    times = sorted((one.expires_at, one.published_at) for one in await of_batch(spine, batch.batch_id))
    assert all(sent is not None and end - sent <= POLICY.expiry for end, sent in times)
    assert times[-1][0] - times[0][0] >= timedelta(seconds=5)


@on_both
async def test_results_are_told_in_order_and_by_pages(spine: Spine) -> None:
    uuids = await hear_all(spine, 5)
    batch = await request(spine, [*uuids, uuid_of(99)])
    await run_for(spine, 0.3)
    seen: list[str] = []
    cursor = None
    while True:
        async with spine.store.read() as connection:
            page = await bulk.lines(connection, batch.batch_id, 4, cursor)
        seen += [line.client_uuid for line in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == [*uuids, uuid_of(99)]
    async with spine.store.read() as connection:
        lines = (await bulk.lines(connection, batch.batch_id, 10)).items
        listed = (await bulk.newest(connection, 10)).items
    assert [line.status for line in lines].count(S.PUBLISHED) == 2
    assert lines[-1].outcome is BulkOutcome.UNKNOWN_CLIENT
    assert [one.batch_id for one in listed] == [batch.batch_id]


@on_both
async def test_old_bulk_actions_are_deleted_with_their_results(spine: Spine) -> None:
    for _ in range(5):
        await request(spine, await hear_all(spine, 2), Action.SCREENSHOT)
    spine.clock.advance(91 * 86_400)
    await spine.watch.tidy()
    async with spine.store.read() as connection:
        assert (await bulk.newest(connection, 10)).items == []


@on_both
async def test_a_command_for_a_silent_client_is_sent_when_it_is_back(spine: Spine) -> None:
    await silence(spine)
    command = await spine.request(U, when_back=True, expires_in=timedelta(days=7))
    assert (command.status, command.waits_for) == (S.QUEUED, Waiting.CLIENT)
    await run_for(spine, 2, 0.5)
    spine.clock.advance(6 * 86_400)
    await spine.watch.sweep()
    await run_for(spine, 1, 0.5)
    assert spine.publisher.sent == []
    await spine.beat(U)
    await run_for(spine, 1, 0.5)
    (sent,) = spine.publisher.sent
    assert sent.expires_in is not None
    assert sent.expires_in <= POLICY.expiry.total_seconds()
    assert (await spine.command(command)).status is S.PUBLISHED


@pytest.mark.parametrize("sign", ["offline", "retained"])
async def test_what_is_no_sign_of_life_does_not_end_the_wait(spine: Spine, sign: str) -> None:
    await silence(spine)
    await spine.request(U, when_back=True)
    spine.clock.advance(5)
    if sign == "offline":
        await spine.hear((f"{U}/presence", "offline"))
    else:
        await spine.hear((f"{U}/presence", "online"), retain=True)
    await run_for(spine, 1, 0.5)
    assert spine.publisher.sent == []


async def test_a_command_that_waits_can_be_withdrawn_and_expires(spine: Spine) -> None:
    await silence(spine)
    command = await spine.request(U, when_back=True)
    assert (await spine.commanding.cancel(command.command_id, OPERATOR)).status is S.CANCELLED
    with pytest.raises(NotQueued):
        await spine.commanding.cancel(command.command_id, OPERATOR)
    other = await spine.request(U, when_back=True, expires_in=timedelta(hours=2))
    spine.clock.advance(7_201)
    await spine.watch.sweep()
    assert (await spine.command(other)).status is S.EXPIRED
    await spine.beat(U)
    await run_for(spine, 1, 0.5)
    assert spine.publisher.sent == []


async def test_a_client_that_is_there_does_not_wait(spine: Spine) -> None:
    await spine.beat(U)
    command = await spine.request(U, when_back=True, expires_in=timedelta(days=7))
    assert command.waits_for is None
    assert command.expires_at - command.created_at == POLICY.expiry


async def test_a_wait_is_bounded(spine: Spine) -> None:
    await silence(spine)
    with pytest.raises(InvalidInput):
        await spine.request(U, when_back=True, expires_in=timedelta(days=7, seconds=1))
    with pytest.raises(InvalidInput):
        await spine.request(U, expires_in=timedelta(days=2))
    await spine.request(U, when_back=True)
    with pytest.raises(CommandInFlight):
        await spine.request(U, Action.RESTART_APP, when_back=True)


@on_both
async def test_a_client_that_goes_away_again_keeps_its_command(spine: Spine) -> None:
    await silence(spine)
    command = await spine.request(U, when_back=True, expires_in=timedelta(days=2))
    for times in (1, 2):
        spine.clock.advance(3_600)
        await spine.beat(U, boot_id=f"boot {times}")
        await run_for(spine, 0.5)
        assert len(spine.publisher.sent) == times
        spine.clock.advance(POLICY.expiry.total_seconds() + 1)
        await spine.watch.sweep()
        again = await spine.command(command)
        assert (again.status, again.waits_for) == (S.QUEUED, Waiting.CLIENT)
    spine.clock.advance(60)
    await spine.beat(U, boot_id="boot 3")
    await run_for(spine, 0.5)
    await spine.ack(command, "completed")
    done = await spine.command(command)
    assert (done.status, done.before_boot_id) == (S.COMPLETED, "boot 3")


async def test_a_client_that_comes_and_goes_gets_it_only_so_often(spine: Spine) -> None:
    await silence(spine)
    command = await spine.request(U, when_back=True, expires_in=timedelta(days=7))
    for _ in range(20):
        spine.clock.advance(60)
        await spine.beat(U)
        await run_for(spine, 0.5)
        spine.clock.advance(POLICY.expiry.total_seconds() + 1)
        await spine.watch.sweep()
    assert len(spine.publisher.sent) <= 10
    assert (await spine.command(command)).status is S.EXPIRED
    assert len(await spine.history(command)) <= 100


async def test_what_waits_does_not_stand_in_the_way(spine: Spine) -> None:
    await silence(spine)
    waits = await spine.request(U, when_back=True)
    now = await spine.request(U, Action.RESTART_APP)
    await spine.beat(U)
    await run_for(spine, 0.5)
    assert (await spine.command(now)).status is S.PUBLISHED
    assert (await spine.command(waits)).waits_for is Waiting.CLIENT
    await spine.ack(now, "completed")
    await run_for(spine, 0.5)
    assert (await spine.command(waits)).status is S.PUBLISHED


async def test_the_lockout_holds_what_waited(spine: Spine) -> None:
    await spine.beat(U)
    for _ in range(POLICY.lockout.threshold):
        other = await spine.request(U, Action.RESTART_APP)
        await spine.outbox.step()
        await spine.ack(other, "completed")
    await spine.hear((f"{U}/presence", "offline"))
    waits = await spine.request(U, when_back=True)
    spine.clock.advance(1)
    await spine.beat(U)
    await run_for(spine, 1, 0.5)
    assert (await spine.command(waits)).waits_for is Waiting.CLIENT
    with pytest.raises(LockedOut):
        await spine.request(U)
    spine.clock.advance(POLICY.lockout.window.total_seconds())
    await run_for(spine, 1, 0.5)
    assert (await spine.command(waits)).status is S.PUBLISHED


async def test_a_site_that_comes_back_together_is_paced_too(spine: Spine) -> None:
    uuids = await hear_all(spine, 12)
    await spine.hear(*((f"{one}/presence", "offline") for one in uuids))
    spine.clock.advance(600)
    await spine.watch.look()
    batch = await spine.bulk.request(
        ClientQuery(status=frozenset({Condition.UNREACHABLE})),
        Action.REBOOT_HOST,
        source=Source.API,
        actor=OPERATOR,
        when_back=True,
        expires_in=timedelta(days=3),
    )
    assert batch.counts == {"queued": 12}
    _, progress = await spine.bulk.progress(batch.batch_id)
    assert (progress.absent, progress.waiting, progress.unfinished) == (12, 0, 0)
    spine.clock.advance(86_400)
    await hear_all(spine, 12)
    sent = await run_for(spine, 3.5)
    assert len(sent) == 12
    for start in sent:
        assert len([at for at in sent if start <= at < start + 0.999]) <= PER_SECOND


async def test_the_clock_of_the_host_moves_waits_along(spine: Spine) -> None:
    await silence(spine)
    waits = await spine.request(U, when_back=True, expires_in=timedelta(days=1))
    spine.clock.set_wall_time(spine.clock.now() + timedelta(days=30))
    await spine.watch.sweep()
    moved = await spine.command(waits)
    assert (moved.status, moved.wait_until) == (S.QUEUED, moved.expires_at)


@pytest.mark.parametrize("days", [-30, 30])
async def test_the_clock_of_the_host_moves_a_second_wait_along(spine: Spine, days: int) -> None:
    await silence(spine)
    waits = await spine.request(U, when_back=True, expires_in=timedelta(days=1))
    spine.clock.advance(60)
    await spine.beat(U)
    await run_for(spine, 0.5)
    spine.clock.advance(POLICY.expiry.total_seconds() + 1)
    await spine.watch.sweep()
    assert (await spine.command(waits)).waits_for is Waiting.CLIENT
    spine.clock.set_wall_time(spine.clock.now() + timedelta(days=days))
    await spine.watch.sweep()
    moved = await spine.command(waits)
    assert moved.wait_until is not None
    assert timedelta(hours=23) < moved.wait_until - spine.clock.now() < timedelta(days=1)
    spine.clock.advance(60)
    await spine.beat(U)
    await run_for(spine, 0.5)
    assert (await spine.command(waits)).status is S.PUBLISHED
    assert len(spine.publisher.sent) == 2


@on_both
async def test_concurrent_requests_and_releases_leave_one_in_flight(spine: Spine) -> None:
    uuids = await hear_all(spine, 6)
    batch = await request(spine, uuids)

    async def ask(uuid: str) -> None:
        with contextlib.suppress(CommandInFlight):
            await spine.request(uuid, Action.RESTART_APP)

    for _ in range(6):
        await asyncio.gather(spine.releasing.step(), *(ask(uuid) for uuid in uuids), spine.outbox.step())
        spine.clock.advance(0.25)
    async with spine.store.read() as connection:
        every = [one async for part in commands.all_in_flight(connection) for one in part]
        left = await waiting.of_clients(connection, uuids)
    assert sorted(one.client_uuid for one in every) == uuids
    assert left == {}
    assert len(await of_batch(spine, batch.batch_id)) == 6
