"""The recovery's loop on a real database, with time and broker in the test's hand."""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from infoscreen.domain.attempts import AttemptOutcome

from infoscreen.domain.commands import Action, ClientCommand, CommandStatus, Source
from infoscreen.domain.errors import Conflict, NotFound
from infoscreen.domain.recovery import Phase, Reason, RecoveryPolicy, Rung, Verb
from infoscreen.storage import commands, history, timeline
from infoscreen.storage.commands import CommandQuery
from infoscreen.storage.recovery import attempts, decisions, incidents, ladders
from infoscreen.storage.recovery.attempts import StoredAttempt
from infoscreen.storage.recovery.decisions import DecisionQuery, StoredDecision
from infoscreen.storage.recovery.pauses import Scope
from tests.spine import ADMIN, OPERATOR, Spine, open_spine, sqlite_url, uuid_of, zulu

U, V = uuid_of(1), uuid_of(2)
WELL = [uuid_of(number) for number in range(10, 20)]
POLICY = RecoveryPolicy(enabled=True)
EVERYBODY = [U, V, *WELL]
RUNNING = {"process_status": "running", "process_pid": 1}
CRASHED = {"process_status": "crashed"}


@asynccontextmanager
async def scene(url: str, policy: RecoveryPolicy = POLICY) -> AsyncIterator[Spine]:
    """A fleet of a dozen that has beaten for ten minutes, some of it at a site."""
    async with open_spine(url, recovery=policy) as spine:
        for _ in range(20):
            await everybody_beats(spine)
            spine.clock.advance(30)
        for uuid in WELL[5:]:
            await spine.fleet.edit(uuid, {"site": "Depot"}, ADMIN)
        yield spine


@pytest.fixture
async def spine(tmp_path: Path) -> AsyncIterator[Spine]:
    async with scene(sqlite_url(tmp_path)) as parts:
        yield parts


async def everybody_beats(spine: Spine, crashed: Collection[str] = (), silent: Collection[str] = ()) -> None:
    """Let everybody but the silent tell how they are."""
    at = zulu(spine.clock.now())
    await spine.hear(
        *(
            (f"{uuid}/heartbeat", {"timestamp": at, **(CRASHED if uuid in crashed else RUNNING)})
            for uuid in EVERYBODY
            if uuid not in silent
        )
    )


async def pass_time(
    spine: Spine, seconds: int, *crashed: str, silent: Collection[str] = (), step: int = 15
) -> None:
    """Let time pass in steps, each with a poll; the crashed say so, the silent say nothing."""
    for _ in range(0, seconds, step):
        spine.clock.advance(step)
        await everybody_beats(spine, crashed, silent)
        await spine.watch.look()
        await spine.watch.sweep()
        await spine.recovering.poll()
        await spine.outbox.step()


async def standing(spine: Spine, uuid: str = U) -> StoredDecision:
    async with spine.store.read() as connection:
        return (await decisions.standing(connection, [uuid]))[uuid]


async def reason_of(spine: Spine, uuid: str = U) -> Reason:
    return (await standing(spine, uuid)).reason


async def asked_for(spine: Spine, uuid: str | None = None) -> list[ClientCommand]:
    """Return the commands of the recovery, oldest first."""
    query = CommandQuery(client_uuid=uuid, source=Source.RECOVERY)
    async with spine.store.read() as connection:
        return (await commands.search(connection, query, 500)).items[::-1]


async def tried(spine: Spine, uuid: str = U) -> list[StoredAttempt]:
    async with spine.store.read() as connection:
        return (await attempts.of_client(connection, uuid, 100))[::-1]


async def test_a_crashed_app_is_restarted_once_the_grace_is_over(spine: Spine) -> None:
    await pass_time(spine, 45, U)
    assert await reason_of(spine) is Reason.GRACE
    assert await asked_for(spine) == []
    await pass_time(spine, 60, U)
    [command] = await asked_for(spine)
    assert (command.client_uuid, command.action, command.requested_by) == (U, Action.RESTART_APP, None)
    assert command.status is CommandStatus.PUBLISHED
    assert [attempt.command_id for attempt in await tried(spine)] == [command.command_id]
    assert await reason_of(spine) in {Reason.COMMAND_IN_FLIGHT, Reason.WAITING_FOR_VERIFICATION}


async def test_the_ladder_is_climbed_to_its_end_and_calls_for_a_human(spine: Spine) -> None:
    await pass_time(spine, 1800, U, step=30)
    actions = [command.action for command in await asked_for(spine)]
    assert actions == [Action.RESTART_APP, Action.RESTART_APP, Action.REBOOT_HOST]
    assert await reason_of(spine) is Reason.NO_OUTLET
    assert (await standing(spine)).verb is Verb.HOLD
    assert [attempt.outcome for attempt in await tried(spine)] == [AttemptOutcome.NO_EFFECT] * 3
    assert spine.measures.counts["attempt", "restart_app", "no_effect"] == 2


async def test_a_client_that_is_well_again_ends_its_attempt_and_its_ladder(spine: Spine) -> None:
    await pass_time(spine, 105, U)
    assert len(await asked_for(spine)) == 1
    await pass_time(spine, 120)
    [attempt] = await tried(spine)
    assert attempt.outcome is AttemptOutcome.RECOVERED
    assert await reason_of(spine) is Reason.RELAPSE_WATCH
    assert spine.measures.counts["recovered",] == 1
    await pass_time(spine, 960, step=60)
    async with spine.store.read() as connection:
        assert await ladders.get(connection, U) is None
        assert await decisions.standing(connection, [U]) == {}


async def test_a_decision_that_repeats_is_stored_once_with_its_count(spine: Spine) -> None:
    await pass_time(spine, 1800, U, step=30)
    first = await standing(spine)
    await pass_time(spine, 3600, U, step=60)
    later = await standing(spine)
    assert later.id == first.id
    assert (later.times or 0) - (first.times or 0) == 3600 // 60
    async with spine.store.read() as connection:
        everything = await decisions.page(connection, DecisionQuery(client_uuid=U, past=True), 100)
    assert len(everything.items) < 15
    assert all(one.times == 1 or one.times > 1 for one in everything.items if one.times is not None)


async def test_a_dry_run_decides_the_same_and_requests_nothing(tmp_path: Path) -> None:
    async with scene(sqlite_url(tmp_path), replace(POLICY, enabled=False)) as spine:
        await pass_time(spine, 1800, U, step=30)
        assert await asked_for(spine) == []
        assert [one.rung for one in await tried(spine)] == [
            Rung.RESTART_APP,
            Rung.RESTART_APP,
            Rung.REBOOT_HOST,
        ]
        assert all(one.would for one in await tried(spine))
        assert (await standing(spine)).would


async def die(*_: object, **__: object) -> ClientCommand:
    """Stand for ``kill -9`` between the commit of a decision and the request of its command."""
    raise SystemExit


async def test_what_was_written_but_not_requested_is_decided_anew_and_never_doubled(spine: Spine) -> None:
    await pass_time(spine, 45, U)
    request, spine.commanding.request = spine.commanding.request, die  # type: ignore[method-assign]
    with pytest.raises(SystemExit):
        await pass_time(spine, 60, U)
    spine.commanding.request = request  # type: ignore[method-assign]
    assert [(one.published_at, one.outcome) for one in await tried(spine)] == [(None, None)]
    await pass_time(spine, 45, U)
    lost, again = await tried(spine)
    assert (lost.outcome, lost.detail) == (AttemptOutcome.NOT_SENT, "interrupted")
    assert [command.command_id for command in await asked_for(spine)] == [again.command_id]
    assert (await standing(spine)).arguments["action"] == "restart_app"


async def test_what_was_lost_is_not_sent_to_a_client_that_came_back_meanwhile(spine: Spine) -> None:
    await pass_time(spine, 45, U)
    request, spine.commanding.request = spine.commanding.request, die  # type: ignore[method-assign]
    with pytest.raises(SystemExit):
        await pass_time(spine, 60, U)
    spine.commanding.request = request  # type: ignore[method-assign]
    await pass_time(spine, 60)
    assert await asked_for(spine) == []
    assert [one.outcome for one in await tried(spine)] == [AttemptOutcome.NOT_SENT]


async def test_what_was_lost_is_not_sent_while_the_observer_is_blind(spine: Spine) -> None:
    async with spine.store.write() as connection:
        lost = StoredAttempt(
            command_id=uuid_of(99), client_uuid=U, rung=Rung.RESTART_APP, decided_at=spine.clock.now()
        )
        await attempts.begin(connection, [lost])
    spine.link.listening_since = None
    await spine.recovering.poll()
    [closed] = await tried(spine)
    assert (closed.outcome, closed.detail) == (AttemptOutcome.NOT_SENT, "interrupted")
    assert await asked_for(spine) == []


async def test_a_command_that_never_left_is_not_charged(spine: Spine) -> None:
    spine.publisher.connected = False
    await pass_time(spine, 600, U)
    outcomes = [attempt.outcome for attempt in await tried(spine)]
    assert set(outcomes[:-1]) == {AttemptOutcome.NOT_SENT}
    spine.publisher.connected = True
    await pass_time(spine, 1800, U, step=30)
    sent = [command.action for command in await asked_for(spine) if command.published_at is not None]
    assert sent == [Action.RESTART_APP, Action.RESTART_APP, Action.REBOOT_HOST]


async def test_an_operators_lockout_holds_for_the_recovery_too(spine: Spine) -> None:
    for _ in range(3):
        command = await spine.request(U, Action.RESTART_APP)
        await spine.outbox.step()
        await spine.ack(command, "completed")
    await pass_time(spine, 120, U)
    assert await reason_of(spine) is Reason.LOCKOUT
    assert await asked_for(spine) == []


async def test_nothing_is_done_to_a_paused_client_and_it_goes_on_after_that(spine: Spine) -> None:
    until = spine.clock.now() + timedelta(minutes=10)
    await spine.pausing.pause(Scope.CLIENT, "Umbau", until, OPERATOR, client_uuid=U)
    await pass_time(spine, 300, U, V)
    assert await reason_of(spine, U) is Reason.PAUSED
    assert {command.client_uuid for command in await asked_for(spine)} == {V}
    assert "Umbau" in (await standing(spine)).sentence("de")
    await spine.pausing.resume(Scope.CLIENT, OPERATOR, client_uuid=U)
    await pass_time(spine, 15, U, V)
    assert {command.client_uuid for command in await asked_for(spine)} == {U, V}


@pytest.mark.parametrize(("scope", "site"), [(Scope.FLEET, None), (Scope.SITE, "Depot")])
async def test_a_pause_of_the_fleet_or_a_site_holds_its_clients(
    spine: Spine, scope: Scope, site: str | None
) -> None:
    until = spine.clock.now() + timedelta(hours=1)
    await spine.pausing.pause(scope, "Messe", until, OPERATOR, site=site)
    await pass_time(spine, 150, U, WELL[5])
    asked = {command.client_uuid for command in await asked_for(spine)}
    assert asked == (set() if scope is Scope.FLEET else {U})
    assert await reason_of(spine, WELL[5]) is Reason.PAUSED


async def test_a_dark_site_is_one_incident_and_the_rest_goes_on(spine: Spine) -> None:
    depot = frozenset(WELL[5:])
    await pass_time(spine, 600, U, silent=depot)
    async with spine.store.read() as connection:
        [incident] = await incidents.under_way(connection)
    assert (incident.kind, incident.site, incident.clients) == ("site_outage", "Depot", 5)
    assert {command.client_uuid for command in await asked_for(spine)} == {U}
    assert await reason_of(spine, WELL[5]) is Reason.SITE_OUTAGE
    assert spine.measures.counts["incident", "site_outage"] == 1
    await pass_time(spine, 600, U)
    async with spine.store.read() as connection:
        assert await incidents.under_way(connection) == []
        [over] = (await incidents.page(connection, 10)).items
    assert over.ended_at is not None


async def test_an_outage_settles_until_nobody_has_come_back_for_a_cooldown(spine: Spine) -> None:
    depot = WELL[5:]
    await pass_time(spine, 600, silent=depot)
    await pass_time(spine, 240, silent=depot[:1])
    await pass_time(spine, 150)
    async with spine.store.read() as connection:
        [settling] = await incidents.under_way(connection)
    assert settling.calm_since is not None
    assert spine.clock.now() > settling.calm_since + POLICY.storm_cooldown
    await pass_time(spine, 240)
    async with spine.store.read() as connection:
        assert await incidents.under_way(connection) == []


async def test_an_outage_of_hours_writes_no_more_than_one_of_ten_minutes(spine: Spine) -> None:
    await pass_time(spine, 600, silent=EVERYBODY)

    async def rows() -> tuple[int, int]:
        async with spine.store.read() as connection:
            pages = [await timeline.page(connection, uuid, 10_000) for uuid in EVERYBODY]
            page = await decisions.page(connection, DecisionQuery(past=True), 10_000)
        return sum(len(one.items) for one in pages), len(page.items)

    before = await rows()
    await pass_time(spine, 3 * 3600, silent=EVERYBODY, step=180)
    assert await rows() == before
    assert await asked_for(spine) == []


async def test_the_observers_blindness_is_an_incident_of_its_own(spine: Spine) -> None:
    await pass_time(spine, 30, U)
    since = spine.link.listening_since
    spine.link.listening_since = None
    plan = await spine.recovering.poll()
    assert plan.blind is not None
    assert await reason_of(spine) is Reason.BROKER_DISCONNECTED
    async with spine.store.read() as connection:
        [incident] = await incidents.under_way(connection)
    assert (incident.kind, incident.clients) == ("observer", 1)
    spine.link.listening_since = since
    await pass_time(spine, 15, U)
    async with spine.store.read() as connection:
        assert await incidents.under_way(connection) == []


async def test_acknowledging_lets_the_ladder_begin_anew(spine: Spine) -> None:
    with pytest.raises(NotFound):
        await spine.recovering.acknowledge(uuid_of(404), OPERATOR)
    with pytest.raises(Conflict):
        await spine.recovering.acknowledge(U, OPERATOR)
    await pass_time(spine, 1800, U, step=30)
    await spine.recovering.acknowledge(U, OPERATOR, "Netzteil getauscht")
    async with spine.store.read() as connection:
        assert await ladders.get(connection, U) is None
        [act] = [one for one in (await timeline.page(connection, U, 100)).items if one.kind == "operator"]
    assert act.data is not None
    assert (act.data["act"], act.data["comment"]) == ("recovery.acknowledge", "Netzteil getauscht")
    before = len(await asked_for(spine))
    await pass_time(spine, 120, U)
    assert (await asked_for(spine))[before].action is Action.RESTART_APP


async def test_a_client_that_is_deleted_meanwhile_is_no_trouble(spine: Spine) -> None:
    await pass_time(spine, 30, U)
    look = spine.store.read

    @asynccontextmanager
    async def and_then_it_goes() -> AsyncIterator[Any]:
        async with look() as connection:
            yield connection
        spine.store.read = look  # type: ignore[method-assign]
        await spine.fleet.remove(U, ADMIN)

    spine.clock.advance(60)
    await spine.beat(U, **CRASHED)
    spine.store.read = and_then_it_goes  # type: ignore[method-assign,assignment]
    await spine.recovering.poll()
    async with spine.store.read() as connection:
        assert await decisions.standing(connection, [U]) == {}


async def test_the_timeline_tells_decisions_attempts_and_outcomes(spine: Spine) -> None:
    await pass_time(spine, 105, U)
    await pass_time(spine, 120)
    async with spine.store.read() as connection:
        page = await timeline.page(connection, U, 100)
        paged = await timeline.page(connection, U, 3)
        rest = await timeline.page(connection, U, 100, paged.next_cursor)
    whats = [entry.data["what"] for entry in page.items if entry.kind == "recovery" and entry.data]
    assert {"decision", "attempt", "outcome"} == set(whats)
    assert [*paged.items, *rest.items] == page.items
    assert page.next_cursor is None


async def test_ladders_survive_in_the_database(spine: Spine) -> None:
    await pass_time(spine, 105, U)
    async with spine.store.read() as connection:
        ladder = await ladders.get(connection, U)
    assert ladder is not None
    assert (ladder.phase, ladder.rung) == (Phase.CLIMBING, Rung.RESTART_APP)
    assert await ladders_of(spine) == {U: ladder}


async def ladders_of(spine: Spine) -> dict[str, Any]:
    async with spine.store.read() as connection:
        return await ladders.all_of_them(connection)


@pytest.mark.postgres
async def test_all_of_it_works_on_postgresql(postgres: str) -> None:
    async with scene(postgres) as spine:
        depot = WELL[5:]
        await pass_time(spine, 300, U, silent=depot, step=30)
        assert {command.client_uuid for command in await asked_for(spine)} == {U}
        async with spine.store.read() as connection:
            [incident] = await incidents.under_way(connection)
            held = await decisions.page(connection, DecisionQuery(incident_id=incident.id, site="Depot"), 3)
            story = await timeline.page(connection, U, 100)
            since = await history.since(connection, spine.clock.now() - timedelta(days=1), spine.clock.now())
        assert (incident.site, incident.clients, held.total) == ("Depot", 5, 5)
        assert {"decision", "attempt"} <= {
            one.data["what"] for one in story.items if one.kind == "recovery" and one.data
        }
        assert [attempt.client_uuid for attempt in since.attempts] == [U] * len(since.attempts)
        until = spine.clock.now() + timedelta(hours=1)
        await spine.pausing.pause(Scope.SITE, "Umbau", until, OPERATOR, site="Depot")
        await pass_time(spine, 900, step=60)
        async with spine.store.read() as connection:
            assert await incidents.under_way(connection) == []
        spine.clock.advance(100 * 24 * 3600)
        await spine.watch.tidy()
        async with spine.store.read() as connection:
            assert (await incidents.page(connection, 1)).items == []
            past = await decisions.page(connection, DecisionQuery(client_uuid=V, past=True), 1)
            assert past.items == []
