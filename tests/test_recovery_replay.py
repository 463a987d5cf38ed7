"""Replay: the record once more before the judge, with other settings, compared with what is and what was."""

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
from infoscreen.domain.events import TimelineKind
from infoscreen.judge.replay import Replay, Replayed, compare
from infoscreen.storage import clients, past, schema, timeline
from infoscreen.storage.engine import Store
from infoscreen.storage.past import Change, Past, Seen
from infoscreen.storage.timeline import NewEntry
from tests.spine import MORNING, uuid_of

C = Condition
HOUR = timedelta(hours=1)


def spell(number: int, condition: Condition, minute: float, minutes: float) -> list[Change]:
    """Return that a client was unwell for so long."""
    at = MORNING + timedelta(minutes=minute)
    back = at + timedelta(minutes=minutes)
    return [
        Change(at, uuid_of(number), C.ONLINE, condition),
        Change(back, uuid_of(number), condition, C.ONLINE),
    ]


def record(*changes: Change, fleet: int = 12, sites: dict[int, str] | None = None) -> Past:
    everybody = [
        Seen(uuid_of(number), f"screen-{number}", (sites or {}).get(number), C.ONLINE, None, True)
        for number in range(fleet)
    ]
    return Past(
        since=MORNING,
        until=MORNING + timedelta(minutes=30),
        clients={one.uuid: one for one in everybody},
        changes=sorted(changes, key=lambda change: change.at),
        done=[],
    )


async def replayed(of: Past, **settings: object) -> Replayed:
    return await Replay(of, settings).run()


async def test_a_quiet_record_does_nothing() -> None:
    assert (await replayed(record())).acts == []


async def test_a_crash_is_acted_on_for_as_long_as_the_record_says_it_lasted() -> None:
    run = await replayed(record(*spell(1, C.CRASHED, 15, 4)))
    assert run.acts[0].action == "restart_app"
    assert 15 <= (run.acts[0].at - MORNING).total_seconds() / 60 < 17.5
    assert run.acts[0].well_at == MORNING + timedelta(minutes=19)


async def test_a_longer_grace_spares_what_comes_back_by_itself() -> None:
    of = record(*spell(1, C.CRASHED, 15, 4))
    before, after = await replayed(of), await replayed(of, CRASH_RECOVERY_GRACE_SECONDS=600)
    told = compare(of, before, after)
    assert {act.client_uuid for act in told.fewer} == {uuid_of(1)}
    assert told.more == []


async def test_a_dark_site_is_left_alone_in_a_replay_too() -> None:
    dark = range(1, 7)
    changes = [change for number in dark for change in spell(number, C.UNREACHABLE, 12, 12)]
    run = await replayed(record(*changes, sites=dict.fromkeys(dark, "Depot"), fleet=20))
    assert run.acts == []
    assert run.incidents


async def test_an_outlet_is_used_in_a_replay_too() -> None:
    of = record(*spell(1, C.UNREACHABLE, 10, 60))
    longer = replace(of, until=MORNING + timedelta(minutes=50))
    assert (await replayed(longer)).acts == []
    plugged = {uuid: replace(one, outlet=f"plug-{uuid}") for uuid, one in of.clients.items()}
    (act,) = (await replayed(replace(longer, clients=plugged))).acts
    assert (act.action, act.client_uuid) == ("power_cycle", uuid_of(1))


@pytest.fixture
async def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """A database with one client that crashed for five minutes, an hour ago."""
    url = f"sqlite+aiosqlite:///{tmp_path / 'replay.db'}"
    monkeypatch.setenv("DATABASE_URL", url)
    monkeypatch.chdir(tmp_path)
    await schema.upgrade(url)
    store = Store(url)
    at = SystemClock().now() - timedelta(minutes=10)
    told = [(at, "online", "crashed"), (at + timedelta(minutes=5), "crashed", "online")]
    async with store.write() as connection:
        await clients.create(
            connection,
            Client(
                uuid=uuid_of(1), created_at=at - HOUR, status_since=at - HOUR, status=C.ONLINE, name="Foyer"
            ),
        )
        entries = [
            NewEntry(
                client_uuid=uuid_of(1), at=when, kind=TimelineKind.STATUS, data={"from": before, "to": after}
            )
            for when, before, after in told
        ]
        await timeline.add(connection, entries)
    yield url
    await store.close()


async def test_the_record_is_read_from_the_database(database: str) -> None:
    store = Store(database)
    now = SystemClock().now()
    async with store.read() as connection:
        found = await past.since(connection, now - 2 * HOUR, now)
    await store.close()
    assert [(change.before, change.after) for change in found.changes] == [
        (C.ONLINE, C.CRASHED),
        (C.CRASHED, C.ONLINE),
    ]
    assert found.clients[uuid_of(1)].label == "Foyer"


def run_cli(*arguments: str) -> Any:
    return CliRunner().invoke(cli, ["recovery", "replay", *arguments])


async def in_thread(*arguments: str) -> Any:
    """Run the command as from a shell: it has an event loop of its own."""
    return await asyncio.to_thread(run_cli, *arguments)


async def test_the_command_tells_what_would_be_different_and_what_it_cannot_tell(database: str) -> None:
    result = await in_thread("--since", "20m", "--set", "CRASH_RECOVERY_GRACE_SECONDS=600")
    assert result.exit_code == 0, result.output
    assert "Not done any more:" in result.output
    assert "Foyer" in result.output
    assert "What the record cannot show:" in result.output


async def test_the_command_answers_programs_in_json(database: str) -> None:
    result = await in_thread("--since", "20m", "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.output)
    assert told["before"]["acts"][0]["action"] == "restart_app"
    assert (told["really"], told["more"], told["fewer"]) == ([], [], [])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--since", "soon"], "7d, 12h or 30m"),
        (["--set", "STALE_MIN_SECONDS=10"], "cannot be replayed"),
        (["--set", "MQTT_HOST=x"], "KEY=VALUE"),
        (["--set", "CRASH_RECOVERY_GRACE_SECONDS"], "KEY=VALUE"),
        (["--set", "CRASH_RECOVERY_GRACE_SECONDS=-1"], "CRASH_RECOVERY_GRACE_SECONDS"),
    ],
)
async def test_wrong_usage_is_told(database: str, arguments: list[str], words: str) -> None:
    result = await in_thread(*arguments)
    assert result.exit_code == 2
    assert words in result.output
