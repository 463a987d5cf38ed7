"""Two transactions at a time on PostgreSQL, in generated interleavings: each read-then-write stays true.

Before each statement the task waits for a moment that is drawn from a seed, so that the statements of both
mix in many ways. ``docs/architecture.md`` lists what keeps each of them true.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.util import await_only

from infoscreen.domain.commands import Action, Source
from infoscreen.domain.errors import CommandInFlight, Conflict, NotFound, Refused
from infoscreen.domain.notifying import ChannelKind
from infoscreen.domain.recovery import RecoveryPolicy
from infoscreen.notify.process import ProcessSender
from infoscreen.services.notify.links import AcknowledgeLinks, FollowedLink, LinkOutcome, token_of
from infoscreen.storage.recovery.pauses import PauseScope
from tests.notices import make_incident, make_message
from tests.spine import ADMIN, OPERATOR, Spine, open_spine, uuid_of, zulu
from tests.web import SECRETS, notifying_of

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

U, V = uuid_of(1), uuid_of(2)
SEEDS = range(12)
MOMENTS = [0.0, 0.0, 0.001, 0.004, 0.012]

Act = Callable[[Spine], Awaitable[object]]


@pytest.fixture
async def spine(postgres: str) -> AsyncIterator[Spine]:
    policy = RecoveryPolicy(enabled=True, grace=timedelta(0), observer_grace=timedelta(0))
    async with open_spine(postgres, recovery=policy) as parts:
        yield parts


async def interleaved(spine: Spine, seed: int, *acts: Act) -> list[object]:
    """Run the acts at the same time, mixed as the seed says; return their results and refusals."""
    drawn = random.Random(seed)

    def pause(*_: object) -> None:
        await_only(asyncio.sleep(drawn.choice(MOMENTS)))

    engines = [spine.store.engine.sync_engine, spine.store.writers.sync_engine]
    for engine in engines:
        event.listen(engine, "before_cursor_execute", pause)
        event.listen(engine, "commit", pause)
    try:
        async with asyncio.timeout(60):
            done = await asyncio.gather(*(act(spine) for act in acts), return_exceptions=True)
    finally:
        for engine in engines:
            event.remove(engine, "before_cursor_execute", pause)
            event.remove(engine, "commit", pause)
    for one in done:
        if isinstance(one, BaseException) and not isinstance(one, Refused):
            raise one
    return list(done)


async def remove(spine: Spine) -> None:
    await spine.fleet.remove(U, ADMIN)


async def hear_everything(spine: Spine) -> None:
    at = zulu(spine.clock.now())
    line = {"timestamp": at, "message": f"line {random.random()}"}
    await spine.hear(
        (f"{V}/heartbeat", {"timestamp": at, "hostname": f"v{random.random()}"}),
        (f"{U}/heartbeat", {"timestamp": at, "hostname": f"u{random.random()}", "process_status": "stopped"}),
        (f"{U}/logs/info", line),
        (f"{U}/health", {"timestamp": at, "cpu_percent": random.random()}),
    )


async def beat_quietly(spine: Spine) -> None:
    at = zulu(spine.clock.now())
    await spine.hear(*((f"{one}/heartbeat", {"timestamp": at}) for one in (V, U)))


async def request(spine: Spine) -> object:
    return await spine.request(U, Action.RESTART_APP)


async def request_many(spine: Spine) -> object:
    return await spine.bulk.request([V, U], Action.RESTART_APP, source=Source.OPERATOR, actor=OPERATOR)


async def publish(spine: Spine) -> object:
    return await spine.outbox.step()


async def watch(spine: Spine) -> None:
    await spine.watch.look()
    await spine.watch.sweep()


async def recover(spine: Spine) -> object:
    return await spine.recovering.poll()


async def pause_client(spine: Spine) -> object:
    until = spine.clock.now() + timedelta(hours=1)
    return await spine.pausing.pause(PauseScope.CLIENT, "work", until, ADMIN, client_uuid=U)


async def rename(spine: Spine) -> object:
    return await spine.fleet.edit(U, {"name": "lobby"}, OPERATOR)


AGAINST_A_REMOVAL: dict[str, Act] = {
    "ingest": hear_everything,
    "quiet heartbeats": beat_quietly,
    "a request": request,
    "a bulk request": request_many,
    "the outbox": publish,
    "the watch": watch,
    "the recovery": recover,
    "a pause": pause_client,
    "an edit": rename,
}


@pytest.mark.parametrize("name", AGAINST_A_REMOVAL)
async def test_a_client_that_is_removed_meanwhile_harms_nobody(spine: Spine, name: str) -> None:
    for seed in SEEDS:
        await spine.hear(*((f"{one}/heartbeat", {"timestamp": zulu(spine.clock.now())}) for one in (U, V)))
        if seed % 2:
            await asyncio.gather(request(spine), return_exceptions=True)
        # By now it is silent: the watch and the recovery have something to do.
        spine.clock.advance(400)
        await spine.watch.look()
        _, removed = await interleaved(spine, seed, AGAINST_A_REMOVAL[name], remove)
        assert removed is None
        await beat_quietly(spine)


async def one(spine: Spine, statement: str) -> Any:
    async with spine.store.read() as connection:
        return await connection.scalar(text(statement))


async def test_two_requests_make_one_command(spine: Spine) -> None:
    for seed in SEEDS:
        await beat_quietly(spine)
        done = await interleaved(spine, seed, request, request, request)
        assert sum(isinstance(result, CommandInFlight) for result in done) == 2
        (made,) = [result for result in done if not isinstance(result, Exception)]
        await spine.commanding.cancel(made.command_id, OPERATOR)  # type: ignore[attr-defined]


async def test_two_pauses_of_one_scope_leave_one(spine: Spine) -> None:
    async def pause(spine: Spine) -> object:
        until = spine.clock.now() + timedelta(hours=1)
        return await spine.pausing.pause(PauseScope.FLEET, "work", until, ADMIN)

    for seed in SEEDS:
        await interleaved(spine, seed, pause, pause, pause)
        assert await one(spine, "SELECT count(*) FROM recovery_pauses WHERE ended_at IS NULL") == 1


async def test_an_edit_and_a_heartbeat_both_stay(spine: Spine) -> None:
    for seed in SEEDS:
        await beat_quietly(spine)
        await interleaved(spine, seed, hear_everything, rename, hear_everything)
        client = await spine.client(U)
        assert client.name == "lobby"
        assert (client.hostname or "").startswith("u")
        before = client.heartbeats
        await interleaved(spine, seed, beat_quietly, hear_everything, beat_quietly)
        assert (await spine.client(U)).heartbeats == before + 3
        await spine.fleet.edit(U, {"name": None}, OPERATOR)


async def test_a_cancellation_and_the_outbox_never_both_win(spine: Spine) -> None:
    for seed in SEEDS:
        await beat_quietly(spine)
        command = await spine.request(U, Action.RESTART_APP)
        spine.publisher.sent.clear()

        async def cancel(spine: Spine, command_id: str = command.command_id) -> object:
            return await spine.commanding.cancel(command_id, OPERATOR)

        cancelled, _ = await interleaved(spine, seed, cancel, publish)
        # What a removed client has left at the broker is emptied by the outbox, too.
        sent = any(message.payload for message in spine.publisher.sent)
        assert sent == isinstance(cancelled, Conflict)
        await spine.fleet.remove(U, ADMIN)


async def test_a_name_is_given_once(spine: Spine) -> None:
    notifying = notifying_of(spine, ProcessSender(spine.clock, None, allow_private=True))
    kinds: list[Callable[[str], Awaitable[Any]]] = [
        lambda name: spine.sites.create(name, {}, ADMIN),
        lambda name: notifying.add_rule(name, {}, ADMIN),
        lambda name: notifying.add_channel(name, ChannelKind.WEBHOOK, "https://a.example/", "en", ADMIN),
    ]
    before = await spine.sites.create("Messe", {}, ADMIN)

    async def rename_site(spine: Spine, name: str) -> object:
        return await spine.sites.edit(before.id, {"name": name}, ADMIN)

    for seed in SEEDS:
        for give in kinds:
            name = f"name {seed}"
            acts: list[Act] = [lambda _, give=give, name=name: give(name)] * 3  # type: ignore[misc]
            if give is kinds[0]:
                acts.append(lambda spine, name=name: rename_site(spine, name))  # type: ignore[misc]
            done = await interleaved(spine, seed, *acts)
            assert sum(isinstance(one, Conflict) for one in done) == len(acts) - 1


async def test_links_of_several_channels_acknowledge_an_incident_once(spine: Spine) -> None:
    notifying = notifying_of(spine, ProcessSender(spine.clock, None, allow_private=True))
    links = AcknowledgeLinks(spine.store, spine.clock, spine.bus, SECRETS)
    made = [
        (await notifying.add_channel(name, ChannelKind.WEBHOOK, "https://a.example/", "en", ADMIN)).channel.id
        for name in ("a", "b")
    ]
    for seed in SEEDS:
        incident = await make_incident(spine, f"key {seed}")
        ids = [await make_message(spine, incident, channel) for channel in (*made, made[0])]
        tokens = [token_of(SECRETS, one, spine.clock.now()) or "" for one in ids]
        acts: list[Act] = [
            lambda _, token=token: links.acknowledge(token, actor=None, address=None)  # type: ignore[misc]
            for token in (*tokens, tokens[0])
        ]
        done = [one.state for one in await interleaved(spine, seed, *acts) if isinstance(one, FollowedLink)]
        assert done.count(LinkOutcome.DONE) == 1
        assert len(done) == len(acts)


async def test_a_reader_sees_one_state(spine: Spine) -> None:
    await beat_quietly(spine)

    async def read_twice(spine: Spine) -> None:
        async with spine.store.read() as connection:
            first = await connection.scalar(text("SELECT count(*) FROM clients"))
            await asyncio.sleep(0.02)
            assert await connection.scalar(text("SELECT count(*) FROM clients")) == first

    for seed in SEEDS:
        await interleaved(spine, seed, read_twice, remove, read_twice)
        await beat_quietly(spine)
    with pytest.raises(NotFound):
        await spine.fleet.remove(uuid_of(99), ADMIN)
