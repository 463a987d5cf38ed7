"""Replay: the rules over the record with other settings, compared with what is and what was."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from infoscreen.cli import cli
from infoscreen.clock import SystemClock
from infoscreen.domain.clients import Client, Condition
from infoscreen.domain.events import Kind
from infoscreen.domain.recovery import RecoveryPolicy
from infoscreen.services.replaying import Replay, Replayed, compare
from infoscreen.storage import clients, schema, timeline
from infoscreen.storage import history as record
from infoscreen.storage.engine import Store
from infoscreen.storage.history import Change, History
from infoscreen.storage.timeline import NewEntry
from tests.spine import MORNING, POLICY, uuid_of

DAY = timedelta(days=1)
SETTINGS = RecoveryPolicy()
C = Condition


def client(number: int, **more: Any) -> Client:
    values = {"status": C.ONLINE, "status_since": MORNING - DAY, "persistent_session": True, **more}
    return Client(uuid=uuid_of(number), created_at=MORNING - DAY, last_alive=MORNING, **values)


def spell(number: int, condition: Condition, minute: float, minutes: float) -> list[Change]:
    """Return that a client was unwell for so long."""
    at = MORNING + timedelta(minutes=minute)
    back = at + timedelta(minutes=minutes)
    return [
        Change(at, uuid_of(number), C.ONLINE, condition),
        Change(back, uuid_of(number), condition, C.ONLINE),
    ]


def history(*changes: Change, fleet: int = 30, sites: dict[int, str] | None = None) -> History:
    everybody = [client(number, site=(sites or {}).get(number)) for number in range(fleet)]
    return History(
        since=MORNING,
        until=MORNING + DAY,
        clients={one.uuid: one for one in everybody},
        changes=sorted(changes, key=lambda change: change.at),
        commands=[],
        attempts=[],
        pauses=[],
        blind=[],
    )


def replayed(of: History, **changes: Any) -> Replayed:
    return Replay(of, replace(SETTINGS, **changes), POLICY.lockout).run()


def actions(of: Replayed) -> list[tuple[float, str]]:
    """Return when after the begin, in minutes, and what."""
    return [((act.at - MORNING).total_seconds() / 60, act.action) for act in of.acts]


def test_a_quiet_record_takes_no_time_and_does_nothing() -> None:
    run = replayed(history())
    assert (run.acts, run.polls) == ([], 1)


def test_a_crash_climbs_the_ladder_for_as_long_as_the_record_says_it_lasted() -> None:
    run = replayed(history(*spell(1, C.CRASHED, 60, 4)))
    assert actions(run) == [(61.0, "restart_app"), (63.0, "restart_app")]
    assert run.acts[0].well_at == MORNING + timedelta(minutes=64)
    assert run.gave_up == []


def test_a_client_that_stays_down_ends_with_a_call_for_help() -> None:
    run = replayed(history(*spell(1, C.HUNG, 60, 600)))
    assert [action for _, action in actions(run)] == ["reboot_host"]
    assert run.gave_up == [uuid_of(1)[:8]]


def test_a_longer_grace_spares_what_comes_back_by_itself() -> None:
    of = history(*spell(1, C.CRASHED, 60, 4), *spell(2, C.CRASHED, 300, 30))
    before, after = replayed(of), replayed(of, grace=timedelta(minutes=10))
    told = compare(of, before, after)
    assert [act.client_uuid for act in told.fewer] == [uuid_of(1)] * 2
    assert told.more == []
    assert next((old.at, new.at) for old, new in told.moved) == (
        MORNING + timedelta(minutes=301),
        MORNING + timedelta(minutes=310),
    )


def test_a_dark_site_is_left_alone_in_a_replay_too() -> None:
    dark = range(1, 7)
    changes = [change for number in dark for change in spell(number, C.UNREACHABLE, 60, 120)]
    run = replayed(history(*changes, sites=dict.fromkeys(dark, "Depot")))
    assert run.acts == []
    assert [incident.site for incident in run.incidents] == ["Depot"]


def test_without_changes_both_runs_are_the_same() -> None:
    of = history(*spell(1, C.CRASHED, 60, 4), *spell(2, C.UNREACHABLE, 100, 300))
    told = compare(of, replayed(of), replayed(of))
    assert (told.more, told.fewer, told.moved) == ([], [], [])
    assert told.limits


@pytest.fixture
async def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """A database with one client that crashed for five minutes, an hour ago."""
    url = f"sqlite+aiosqlite:///{tmp_path / 'replay.db'}"
    monkeypatch.setenv("DATABASE_URL", url)
    monkeypatch.chdir(tmp_path)
    await schema.upgrade(url)
    store = Store(url)
    at = SystemClock().now() - timedelta(hours=1)
    told = [(at, "online", "crashed"), (at + timedelta(minutes=5), "crashed", "online")]
    async with store.write() as connection:
        await clients.create(connection, client(1, name="Foyer"))
        entries = [
            NewEntry(client_uuid=uuid_of(1), at=when, kind=Kind.STATUS, data={"from": before, "to": after})
            for when, before, after in told
        ]
        await timeline.add(connection, entries)
    yield url
    await store.close()


async def test_the_record_is_read_from_the_database(database: str) -> None:
    store = Store(database)
    now = SystemClock().now()
    async with store.read() as connection:
        found = await record.since(connection, now - DAY, now)
    await store.close()
    assert [(change.before, change.after) for change in found.changes] == [
        (C.ONLINE, C.CRASHED),
        (C.CRASHED, C.ONLINE),
    ]


def run_cli(*arguments: str) -> Any:
    return CliRunner().invoke(cli, ["recovery", "replay", *arguments])


async def in_thread(*arguments: str) -> Any:
    """Run the command as from a shell: it has an event loop of its own."""
    return await asyncio.to_thread(run_cli, *arguments)


async def test_the_command_tells_what_would_be_different_and_what_it_cannot_tell(database: str) -> None:
    result = await in_thread("--since", "1d", "--set", "CRASH_RECOVERY_GRACE_SECONDS=600")
    assert result.exit_code == 0, result.output
    assert "Not done any more:" in result.output
    assert "Foyer" in result.output
    assert "What the record cannot show:" in result.output


async def test_the_command_answers_programs_in_json(database: str) -> None:
    result = await in_thread("--since", "1d", "--json", "--set", "RECOVERY_RESTART_ATTEMPTS=1")
    assert result.exit_code == 0, result.output
    told = json.loads(result.output)
    assert [act["attempt"] for act in told["fewer"]] == [2]
    assert [act["action"] for act in told["more"]] == ["reboot_host"]
    assert told["really"] == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--since", "soon"], "7d, 12h or 30m"),
        (["--set", "STALE_MIN_SECONDS=10"], "cannot be replayed"),
        (["--set", "MQTT_HOST=x"], "KEY=VALUE"),
        (["--set", "CRASH_RECOVERY_GRACE_SECONDS"], "KEY=VALUE"),
        (["--set", "CRASH_RECOVERY_GRACE_SECONDS=-1"], "allowed is seconds"),
    ],
)
async def test_wrong_usage_is_told(database: str, arguments: list[str], words: str) -> None:
    result = await in_thread(*arguments)
    assert result.exit_code == 2
    assert words in result.output
