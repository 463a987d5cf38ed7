"""The recovery's loop on a real database, with time and broker in the test's hand."""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import fields, replace
from datetime import datetime, timedelta
from pathlib import Path
from random import Random

import pytest
from sqlalchemy import update
from sqlalchemy.exc import IntegrityError

from infoscreen.domain.clients import Condition
from infoscreen.domain.commands import Action, ClientCommand, CommandStatus, Source, Verification
from infoscreen.domain.errors import Conflict, NotFound
from infoscreen.domain.lockout import LockoutPolicy
from infoscreen.domain.recovery import (
    Attempt,
    IncidentKind,
    Ladder,
    Meanwhile,
    Observer,
    Outcome,
    Phase,
    Plan,
    Reason,
    RecoveryPolicy,
    Rung,
    decide,
)
from infoscreen.services.recovery.clock_steps import move_times
from infoscreen.services.recovery.snapshot import SnapshotBuilder
from infoscreen.storage import commands
from infoscreen.storage.commands import CommandQuery
from infoscreen.storage.recovery import acknowledgements, attempts, decisions, incidents, ladders, unwell
from infoscreen.storage.recovery.decisions import DecisionQuery, StoredDecision
from infoscreen.storage.recovery.incidents import StoredIncident
from infoscreen.storage.tables import client_commands
from tests.spine import ADMIN, OPERATOR, Spine, open_spine, sqlite_url, uuid_of, zulu

U = uuid_of(1)
DARK = [uuid_of(number) for number in range(11, 16)]
EVERYBODY = [U, *DARK, *(uuid_of(number) for number in range(21, 27))]
POLICY = RecoveryPolicy(enabled=True)


@asynccontextmanager
async def scene(url: str, policy: RecoveryPolicy = POLICY) -> AsyncIterator[Spine]:
    """A fleet of a dozen that has beaten for ten minutes."""
    async with open_spine(url, recovery=policy) as spine:
        for _ in range(20):
            await beat(spine)
            spine.clock.advance(30)
        yield spine


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
async def spine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Spine]:
    url = sqlite_url(tmp_path) if request.param == "sqlite" else request.getfixturevalue("postgres")
    async with scene(url) as parts:
        yield parts


async def beat(spine: Spine, crashed: Collection[str] = (), silent: Collection[str] = ()) -> None:
    """Let everybody but the silent tell how they are."""
    at = zulu(spine.clock.now())
    told = {uuid: "crashed" if uuid in crashed else "running" for uuid in EVERYBODY if uuid not in silent}
    await spine.hear(
        *((f"{uuid}/heartbeat", {"timestamp": at, "process_status": status}) for uuid, status in told.items())
    )


async def pass_time(
    spine: Spine,
    minutes: float,
    *crashed: str,
    silent: Collection[str] = (),
    dark: Collection[str] = (),
    answer: str = "completed",
    error_code: str | None = None,
) -> None:
    """Let time pass in steps of 30 s, each with a poll; the devices answer every command of the recovery."""
    for _ in range(round(2 * minutes)):
        spine.clock.advance(30)
        await beat(spine, crashed, silent)
        if dark:
            health = {"timestamp": zulu(spine.clock.now()), "health_metrics": {"screen_on": False}}
            await spine.hear(*((f"{uuid}/health", health) for uuid in dark))
        await spine.watch.look()
        await spine.watch.sweep()
        await spine.recovering.poll()
        await spine.outbox.step()
        for command in await asked_for(spine):
            if command.status is CommandStatus.PUBLISHED and answer:
                await spine.ack(command, answer, error_code=error_code)


def set_clock(spine: Spine, step: timedelta) -> None:
    """Set the host's clock."""
    spine.clock.set_wall_time(spine.clock.now() + step)


async def asked_for(spine: Spine) -> list[ClientCommand]:
    """Return the commands of the recovery, oldest first."""
    async with spine.store.read() as connection:
        return (await commands.search(connection, CommandQuery(source=Source.RECOVERY), 500)).items[::-1]


async def tried(spine: Spine) -> list[Attempt]:
    """Return the attempts for the client, oldest first."""
    async with spine.store.read() as connection:
        return list(await attempts.of_client(connection, U, 100))[::-1]


async def standing(spine: Spine, uuid: str = U) -> StoredDecision:
    async with spine.store.read() as connection:
        return (await decisions.standing(connection, [uuid]))[uuid]


async def phase_of(spine: Spine, uuid: str = U) -> Phase:
    async with spine.store.read() as connection:
        ladder = await ladders.get(connection, uuid)
    return Phase.REST if ladder is None else ladder.phase


async def test_the_ladder_is_climbed_to_its_end_and_calls_for_a_human(spine: Spine) -> None:
    await pass_time(spine, 1, U)
    assert (await standing(spine)).reason is Reason.GRACE
    await pass_time(spine, 44, U)
    assert [command.action for command in await asked_for(spine)] == [
        Action.RESTART_APP,
        Action.RESTART_APP,
        Action.REBOOT_HOST,
    ]
    assert [one.outcome for one in await tried(spine)] == [Outcome.NO_EFFECT] * 3
    assert [one.command_id for one in await tried(spine)] == [
        command.command_id for command in await asked_for(spine)
    ]
    assert (await standing(spine)).reason is Reason.NO_OUTLET
    assert await phase_of(spine) is Phase.NEEDS_HUMAN
    assert {command.client_uuid for command in await asked_for(spine)} == {U}


async def test_a_client_that_is_well_again_ends_its_attempt(spine: Spine) -> None:
    await pass_time(spine, 2, U)
    await pass_time(spine, 4)
    assert [one.outcome for one in await tried(spine)] == [Outcome.HELPED]
    assert (await standing(spine)).reason is Reason.RELAPSE_WATCH
    assert await phase_of(spine) is Phase.WELL
    assert spine.measures.counts["recovered",] == 1


async def test_the_application_of_a_dark_screen_is_restarted(spine: Spine) -> None:
    await pass_time(spine, 5, dark=[U])
    assert (await spine.client(U)).status is Condition.NOT_SHOWING
    assert {(one.client_uuid, one.action) for one in await asked_for(spine)} == {(U, Action.RESTART_APP)}


async def test_a_screen_that_was_switched_off_on_command_is_left_alone_until_it_is_switched_on(
    spine: Spine,
) -> None:
    await spine.hear((f"{U}/discovery", {"uuid": U, "capabilities": ["restart_app", "cec"]}))
    await switch(spine, Action.DISPLAY_OFF)
    await pass_time(spine, 45, dark=[U])
    assert (await spine.client(U)).status is Condition.ONLINE
    assert await asked_for(spine) == []
    assert await tried(spine) == []
    await switch(spine, Action.DISPLAY_ON)
    await pass_time(spine, 5, dark=[U])
    assert {(one.client_uuid, one.action) for one in await asked_for(spine)} == {(U, Action.RESTART_APP)}


async def switch(spine: Spine, action: Action) -> None:
    command = await spine.request(U, action)
    await spine.outbox.step()
    await spine.ack(command, "completed")


async def test_a_crash_between_the_attempt_and_its_command_is_decided_again_and_never_doubled(
    spine: Spine,
) -> None:
    """The attempt is written, its command is not: what a kill in just that moment leaves behind."""
    await pass_time(spine, 0.5, U)
    lost = Attempt(command_id=uuid_of(99), client_uuid=U, rung=Rung.RESTART_APP, decided_at=spine.clock.now())
    async with spine.store.write() as connection:
        await attempts.begin(connection, [lost])
    await pass_time(spine, 2, U)
    closed, again = await tried(spine)
    assert (closed.command_id, closed.outcome, closed.charged) == (uuid_of(99), Outcome.NOT_SENT, False)
    assert [command.command_id for command in await asked_for(spine)] == [again.command_id]
    assert again.rung is Rung.RESTART_APP
    await pass_time(spine, 4)
    assert len(await asked_for(spine)) == 1


async def test_what_was_lost_in_a_crash_is_not_sent_to_a_client_that_came_back(spine: Spine) -> None:
    await pass_time(spine, 0.5, U)
    lost = Attempt(command_id=uuid_of(99), client_uuid=U, rung=Rung.RESTART_APP, decided_at=spine.clock.now())
    async with spine.store.write() as connection:
        await attempts.begin(connection, [lost])
    await pass_time(spine, 5)
    assert await asked_for(spine) == []
    assert [one.outcome for one in await tried(spine)] == [Outcome.NOT_SENT]


async def test_a_dry_run_decides_the_same_and_requests_nothing(tmp_path: Path) -> None:
    decided = []
    for enabled in (True, False):
        folder = tmp_path / str(enabled)
        folder.mkdir()
        async with scene(sqlite_url(folder), replace(POLICY, enabled=enabled)) as spine:
            while (plan := await polled(spine)).decisions[0].verdict.rung is None:
                pass
            decided.append((spine.clock.now(), plan.decisions[0].verdict))
            await pass_time(spine, 5, U)
            assert bool(await asked_for(spine)) is enabled
            assert bool(await tried(spine)) is enabled
            assert (await standing(spine)).would is not enabled
    assert decided[0] == decided[1]


async def polled(spine: Spine) -> Plan:
    spine.clock.advance(30)
    await beat(spine, [U])
    return await spine.recovering.poll()


async def test_a_repeated_decision_is_stored_once_with_its_count(spine: Spine) -> None:
    await pass_time(spine, 45, U)
    first = await standing(spine)
    await pass_time(spine, 30, U)
    later = await standing(spine)
    assert later.id == first.id
    assert (later.times or 0) - (first.times or 0) == 60
    async with spine.store.read() as connection:
        page = await decisions.page(connection, DecisionQuery(client_uuid=U, past=True), 100)
    assert len(page.items) < 20


async def test_an_outage_is_one_incident_with_its_members_and_ends(spine: Spine) -> None:
    await pass_time(spine, 15, U, silent=DARK)
    async with spine.store.read() as connection:
        [incident] = await incidents.under_way(connection)
        members = (await incidents.members(connection, [incident.id], 100))[incident.id]
    assert (incident.kind, incident.members, members) == ("fleet_outage", len(DARK), DARK)
    assert (await standing(spine, DARK[0])).reason is Reason.FLEET_OUTAGE
    assert {command.client_uuid for command in await asked_for(spine)} == {U}
    await pass_time(spine, 15)
    async with spine.store.read() as connection:
        assert await incidents.under_way(connection) == []
        over = await incidents.get(connection, incident.id)
    assert over is not None
    assert over.closing == "over"
    assert {command.client_uuid for command in await asked_for(spine)} == {U}


async def test_a_dismissed_outage_leaves_each_of_its_members_to_itself(spine: Spine) -> None:
    await pass_time(spine, 15, silent=DARK)
    async with spine.store.read() as connection:
        [incident] = await incidents.under_way(connection)
    with pytest.raises(NotFound):
        await spine.recovering.dismiss(4711, OPERATOR)
    await spine.recovering.dismiss(incident.id, OPERATOR, "Everything was unplugged")
    with pytest.raises(Conflict):
        await spine.recovering.dismiss(incident.id, OPERATOR)
    await pass_time(spine, 20, silent=DARK)
    async with spine.store.read() as connection:
        dismissed = await incidents.get(connection, incident.id)
        outages = [one for one in await incidents.under_way(connection) if one.kind == "fleet_outage"]
    assert dismissed is not None
    assert dismissed.closing == "dismissed"
    assert outages == []
    assert (await standing(spine, DARK[0])).reason is not Reason.FLEET_OUTAGE


async def test_a_refusal_is_not_charged_and_a_human_is_called_for_it(spine: Spine) -> None:
    await pass_time(spine, 5, U, answer="failed", error_code="expired")
    [refused] = await tried(spine)
    assert (refused.outcome, refused.error_code, refused.charged) == (Outcome.REFUSED, "expired", False)
    decision = await standing(spine)
    assert decision.reason is Reason.REFUSED
    assert decision.arguments["code"] == "expired"
    assert len(await asked_for(spine)) == 1


@pytest.mark.parametrize("days", [-1, 1])
async def test_a_step_of_the_clock_moves_what_is_stored(spine: Spine, days: int) -> None:
    await pass_time(spine, 3, U, silent=DARK)
    await pass_time(spine, 12, silent=DARK)
    step = timedelta(days=days)

    async def stored() -> list[object]:
        async with spine.store.read() as connection:
            known = await ladders.all_of_them(connection)
            [incident] = await incidents.under_way(connection)
        ladder = known[DARK[0]]
        [attempt] = await tried(spine)
        return [
            ladder.began_at,
            ladder.unwell_since,
            ladder.changed_at,
            attempt.decided_at,
            attempt.accepted_at,
            attempt.ended_at,
            incident.began_at,
        ]

    before = await stored()
    set_clock(spine, step)
    await beat(spine, silent=DARK)
    await spine.recovering.poll()
    assert await stored() == [at + step for at in before]  # type: ignore[operator]
    assert len(await asked_for(spine)) == 1
    await pass_time(spine, 15)
    async with spine.store.read() as connection:
        assert await incidents.under_way(connection) == []


@pytest.mark.parametrize("days", [-1, 1])
async def test_a_clock_that_is_set_during_an_attempt_does_not_stop_the_recovery(
    spine: Spine, days: int
) -> None:
    await pass_time(spine, 2, U)
    assert len(await asked_for(spine)) == 1
    set_clock(spine, timedelta(days=days))
    await pass_time(spine, 45, U)
    assert [one.rung for one in await tried(spine)] == [
        Rung.RESTART_APP,
        Rung.RESTART_APP,
        Rung.REBOOT_HOST,
    ]
    assert await phase_of(spine) is Phase.NEEDS_HUMAN


@pytest.mark.parametrize("days", [-1, 1])
async def test_times_are_moved_once_even_if_the_database_fails_in_between(tmp_path: Path, days: int) -> None:
    async with scene(sqlite_url(tmp_path)) as spine:
        await pass_time(spine, 2, U)
        before = spine.clock.now()
        since = await unwell_since(spine)
        set_clock(spine, timedelta(days=days))
        async with spine.store.write() as connection:
            await connection.exec_driver_sql(
                "CREATE TRIGGER full BEFORE UPDATE OF status_since ON clients"
                " BEGIN SELECT RAISE(ABORT, 'full'); END"
            )
        with pytest.raises(IntegrityError):
            await spine.recovering.poll()
        async with spine.store.write() as connection:
            await connection.exec_driver_sql("DROP TRIGGER full")
        await spine.recovering.poll()
        assert spine.clock.now() - await unwell_since(spine) == before - since


async def unwell_since(spine: Spine) -> datetime:
    async with spine.store.read() as connection:
        ladder = await ladders.get(connection, U)
    assert ladder is not None
    return ladder.unwell_since


@pytest.mark.parametrize("minutes", [2, 9, 25])
@pytest.mark.parametrize("answer", ["", "completed"])
async def test_steps_of_the_clock_by_any_amount_leave_the_same_decisions(
    tmp_path: Path, minutes: int, answer: str
) -> None:
    """What a client did, what was tried, sent and answered, and lockouts.

    All but the deadline of a command in flight, which a small step back may leave (``moved_by_step``).
    """
    chance = Random(minutes)
    policy = replace(POLICY, max_share=1.0)
    lockout = LockoutPolicy(2, timedelta(minutes=15))
    async with scene(sqlite_url(tmp_path), policy) as spine:
        await pass_time(spine, minutes, *EVERYBODY[-6:], silent=DARK, answer=answer)
        for exponent in (0.7, 1.5, 2, 2.7, 3.3, 3.7, 4.5, 5, 7.5):
            before = await outlook(spine, policy, lockout)
            step = timedelta(seconds=chance.choice([-1, 1]) * 10 ** (exponent + chance.random() / 4))
            set_clock(spine, step)
            await spine.watch.sweep()
            now = spine.clock.now()
            await move_times(spine.store, now, step, now)
            assert shifted(await outlook(spine, policy, lockout), -step) == before, step


async def outlook(spine: Spine, policy: RecoveryPolicy, lockout: LockoutPolicy) -> list[object]:
    """Return what would be decided now, and on what."""
    now = spine.clock.now()
    long_ago = now - timedelta(days=1)
    observer = Observer(listening_since=long_ago, started_at=long_ago)
    async with spine.store.read() as connection:
        world = await SnapshotBuilder(policy, lockout).look(connection, observer, now)
    patients = [
        one._replace(command=one.command and one.command._replace(deadline_at=now + timedelta(hours=1)))
        for one in world.snapshot.patients
    ]
    plan = decide(replace(world.snapshot, patients=patients), policy, now)
    return [
        [(one.client_uuid, one.verdict) for one in plan.decisions],
        sorted(patients),
        sorted(world.snapshot.sent),
        sorted(plan.outcomes.items()),
    ]


def shifted(value: object, by: timedelta) -> object:
    """Return the same with every time moved, and rounded as far as reckoning with times wavers."""
    if isinstance(value, datetime):
        return value + by
    if isinstance(value, list):
        return [shifted(one, by) for one in value]
    if isinstance(value, tuple):
        moved = [shifted(one, by) for one in value]
        return value._make(moved) if hasattr(value, "_make") else tuple(moved)
    if isinstance(value, Ladder | Attempt):
        return replace(value, **{one.name: shifted(getattr(value, one.name), by) for one in fields(value)})
    return value


async def test_who_is_acknowledged_begins_from_the_first_rung(spine: Spine) -> None:
    with pytest.raises(NotFound):
        await spine.recovering.acknowledge(uuid_of(404), OPERATOR)
    with pytest.raises(Conflict):
        await spine.recovering.acknowledge(U, OPERATOR)
    await pass_time(spine, 45, U)
    await spine.recovering.acknowledge(U, OPERATOR, "power supply replaced")
    assert await phase_of(spine) is Phase.REST
    before = len(await asked_for(spine))
    await pass_time(spine, 5, U)
    assert (await asked_for(spine))[before].action is Action.RESTART_APP


async def test_a_maintenance_of_those_that_crash_alike_does_not_make_them_single_ones(spine: Spine) -> None:
    """Only a person who dismisses a group does; before and after a maintenance it is tried on a few first."""
    alike = EVERYBODY[-10:]
    await pass_time(spine, 3, *alike)
    assert [one.kind for one in await open_ones(spine)] == [IncidentKind.ALIKE]
    for uuid in alike:
        until = spine.clock.now() + timedelta(seconds=100)
        await spine.fleet.edit(uuid, {"maintenance_until": until}, OPERATOR)
    await pass_time(spine, 1, *alike)
    assert await open_ones(spine) == []
    await pass_time(spine, 3, *alike)
    assert [one.kind for one in await open_ones(spine)] == [IncidentKind.ALIKE]


async def open_ones(spine: Spine) -> list[StoredIncident]:
    async with spine.store.read() as connection:
        return await incidents.under_way(connection)


async def held(spine: Spine) -> bool:
    """Tell whether an acknowledgement of the client is in force."""
    async with spine.store.read() as connection:
        return await acknowledgements.of_client(connection, U, spine.clock.now()) is not None


@pytest.mark.parametrize("condition", ["crashed between two polls", "in maintenance"])
async def test_a_hold_ends_with_the_trouble_also_if_no_poll_saw_it(spine: Spine, condition: str) -> None:
    """A hold that nobody thinks of any more must not keep the recovery from the next trouble."""
    if condition == "in maintenance":
        until = spine.clock.now() + timedelta(seconds=30)
        await spine.fleet.edit(U, {"maintenance_until": until}, OPERATOR)
    else:
        await beat(spine, [U])
    assert (await spine.client(U)).status not in {Condition.ONLINE, Condition.NEVER_SEEN}
    await spine.recovering.acknowledge(U, OPERATOR, recovery=Meanwhile.HOLD)
    assert await held(spine)
    await beat(spine)
    await pass_time(spine, 3)
    assert (await spine.client(U)).status is Condition.ONLINE
    assert not await held(spine)
    await pass_time(spine, 3, U)
    assert [command.action for command in await asked_for(spine)] == [Action.RESTART_APP]


async def test_a_hold_stands_until_the_client_is_well_again_and_not_only_online(spine: Spine) -> None:
    """An application that crashes again and again is online between two crashes."""
    await pass_time(spine, 1, U)
    await spine.recovering.acknowledge(U, OPERATOR, recovery=Meanwhile.HOLD)
    spine.clock.advance(30)
    await beat(spine)
    assert (await spine.client(U)).status is Condition.ONLINE
    spine.clock.advance(61)
    await spine.watch.look()
    await spine.watch.sweep()
    assert await held(spine)
    await pass_time(spine, 3, U)
    assert await held(spine)
    assert await asked_for(spine) == []


async def test_a_hold_whose_time_has_passed_does_not_come_back_with_the_clock(spine: Spine) -> None:
    await pass_time(spine, 1, U)
    until = spine.clock.now() + timedelta(minutes=2)
    await spine.recovering.acknowledge(U, OPERATOR, recovery=Meanwhile.HOLD, until=until)
    await pass_time(spine, 1, U)
    assert (await standing(spine)).reason is Reason.TAKEN_OVER
    await pass_time(spine, 2, U)
    assert not await held(spine)
    set_clock(spine, -timedelta(days=1))
    await pass_time(spine, 3, U)
    assert not await held(spine)
    assert await asked_for(spine) != []


async def test_a_hold_of_a_contradicted_command_outlives_the_ladder(spine: Spine) -> None:
    """A command without its effect is a problem for a day; the ladder is forgotten earlier."""
    command = await spine.request(U)
    await pass_time(spine, 3, U)
    async with spine.store.write() as connection:
        judged = {"verification": Verification.CONTRADICTED, "verified_at": spine.clock.now()}
        same = client_commands.c.command_id == command.command_id
        await connection.execute(update(client_commands).where(same).values(**judged))
    await spine.recovering.acknowledge(U, OPERATOR, recovery=Meanwhile.HOLD)
    await pass_time(spine, 3)
    for passed, stands in ((10, True), (13, True), (2, False)):
        spine.clock.advance(passed * 3600)
        await pass_time(spine, 4)
        assert await phase_of(spine) is Phase.REST
        assert await held(spine) is stands


async def test_what_two_daemons_count_on_a_new_day_is_added_up(spine: Spine) -> None:
    async def count(silences: int) -> None:
        async with spine.store.write() as connection:
            await unwell.note_silences(connection, "2031-05-01", silences, 10.0)
            await asyncio.sleep(0.05)  # both have looked whether the day is there

    await asyncio.gather(count(1), count(2))
    await count(4)
    async with spine.store.read() as connection:
        assert await unwell.silences(connection, "2031-05-01") == (7, 30 / 86_400)


async def test_an_acknowledgement_goes_with_its_client(spine: Spine) -> None:
    await pass_time(spine, 1, U)
    await spine.recovering.acknowledge(U, OPERATOR, recovery=Meanwhile.HOLD)
    await spine.fleet.remove(U, ADMIN)
    with pytest.raises(NotFound):
        await spine.recovering.acknowledge(U, OPERATOR, recovery=Meanwhile.HOLD)
    with pytest.raises(NotFound):
        await spine.recovering.give_back(U, OPERATOR)
    await pass_time(spine, 4, U)
    assert not await held(spine)
    assert await asked_for(spine) != []
