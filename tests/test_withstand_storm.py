"""``kill -9`` of daemon and broker at any moment, again and again, in full flow: nothing lost or doubled.

What a killed mosquitto 2.0 forgets is excused, and only that. It saves in every turn of its loop, but once it
has acknowledged: of what waits in it for the daemon, the last message of each device may be gone. And what it
has handed to the daemon is no change that it would save: what was on its way is gone when both are killed
together. Commands are not excused, as the daemon asks for their acks again.
"""

import asyncio
import itertools
import os
import signal
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import pytest

from tests.broker import Broker
from tests.daemon import Daemon, installed
from tests.screens import Said, Screen, living
from tests.waiting import until

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(300)]

SEED = int(os.environ.get("STORM_SEED") or Random(os.environ.get("PYTEST_XDIST_TESTRUNUID")).randrange(10**6))
"""Part of the test's name, so that a storm that did harm can be had again, as far as that goes."""

SCREENS = 8
ROUNDS = 10
LULL_SECONDS = 90.0
"""How long it may take until all is well again; before a command is repeated alone 10 s pass."""

UNFINISHED = "SELECT * FROM client_commands WHERE status <> 'completed' OR verification <> 'verified'"

REPORT_SECONDS = 0.03
"""Between two reports of a device, on average."""


class Weather:
    """Kills daemon and broker in every order, and keeps what a killed broker is excused of."""

    def __init__(self, broker: Broker, daemon: Daemon, screens: list[Screen], random: Random) -> None:
        self.excused: set[tuple[str, str]] = set()
        self._broker = broker
        self._daemon = daemon
        self._screens = screens
        self._random = random

    async def rage(self, rounds: int) -> None:
        """Strike so many times, each kind in turn but in random order, and leave both running."""
        kinds = [
            self._daemon_dies,
            self._broker_dies,
            self._daemon_then_broker,
            self._broker_then_daemon,
            self._both_at_once,
        ]
        for _ in range(0, rounds, len(kinds)):
            for strike in self._random.sample(kinds, len(kinds)):
                if self._random.random() < 0.7:
                    await self._daemon.wait_for("/readyz", 200)
                await self._a_moment()
                await strike()
        await self._daemon.wait_for("/readyz", 200)

    async def _daemon_dies(self) -> None:
        await self._daemon.kill()
        await self._a_moment()
        await self._daemon.launch()

    async def _broker_dies(self) -> None:
        await self._broker_alone()
        await self._a_moment()
        await self._broker.start()

    async def _daemon_then_broker(self) -> None:
        await self._daemon.kill()
        # What comes now must be queued, and with that the broker saves what was on its way to the daemon too.
        said = [len(screen.confirmed) + 2 for screen in self._screens]
        await until(
            lambda: all(len(screen.confirmed) >= n for screen, n in zip(self._screens, said, strict=True))
        )
        await self._broker.kill()
        await self._excuse(lambda screen: screen.confirmed[-1:])
        await self._both_start()

    async def _broker_then_daemon(self) -> None:
        await self._broker_alone()
        await self._daemon.kill()
        await self._both_start()

    async def _both_at_once(self) -> None:
        os.kill(self._broker.pid, signal.SIGKILL)
        os.kill(self._daemon.pid, signal.SIGKILL)
        await self._broker.kill()
        await self._daemon.kill()
        await self._excuse(lambda screen: screen.confirmed)
        await self._both_start()

    async def _excuse(self, which: Callable[[Screen], list[Said]]) -> None:
        """Excuse the loss of what has been acknowledged by a broker that is dead now, and is not stored."""
        await until(lambda: not any(screen.connected for screen in self._screens))
        acknowledged = {(screen.uuid, said.name) for screen in self._screens for said in which(screen)}
        self.excused |= acknowledged - stored_reports(self._daemon).keys()

    async def _broker_alone(self) -> None:
        """Kill a broker that the daemon listens to; return when the daemon has taken all that had arrived."""
        await self._daemon.wait_for("/readyz", 200)
        lost = len(self._losses())
        await self._broker.kill()
        await until(lambda: len(self._losses()) > lost)
        await self._excuse(lambda screen: screen.confirmed[-1:])

    def _losses(self) -> list[dict[str, Any]]:
        return [
            line for line in self._daemon.logged("broker_unavailable") if line["connection"] == "listener"
        ]

    async def _both_start(self) -> None:
        starts = [self._broker.start, self._daemon.launch]
        self._random.shuffle(starts)
        for start in starts:
            await self._a_moment()
            await start()

    async def _a_moment(self) -> None:
        await asyncio.sleep(self._random.uniform(0, 1))


class Operator:
    """Restarts applications all the time, and keeps what was asked for."""

    def __init__(self, daemon: Daemon, screens: list[Screen], random: Random) -> None:
        self.taken: dict[str, str] = {}
        """Reasons that were answered with 202, and the command's id."""
        self.unanswered: set[str] = set()
        """Reasons that may or may not have been taken: their answer was lost, or we left before it came."""
        self._daemon = daemon
        self._screens = screens
        self._random = random

    async def work(self) -> None:
        async with self._daemon.program() as api:
            for number in itertools.count():
                await asyncio.sleep(self._random.uniform(0, 0.2))
                await self._order(api, self._random.choice(self._screens).uuid, f"order {number}")

    async def _order(self, api: aiohttp.ClientSession, uuid: str, reason: str) -> None:
        body = {"action": "restart_app", "reason": reason}
        self.unanswered.add(reason)
        try:
            async with api.post(f"/api/clients/{uuid}/commands", json=body) as response:
                answer = await response.json(content_type=None)
        except aiohttp.ClientConnectorError:
            self.unanswered.remove(reason)
            return
        except aiohttp.ClientError:
            return
        self.unanswered.remove(reason)
        if response.status == 202:
            self.taken[reason] = answer["command"]["command_id"]
        else:
            assert response.status == 409, answer


async def report(screen: Screen, random: Random) -> None:
    """Let a device report continuously."""
    for number in itertools.count(1):
        await asyncio.sleep(random.uniform(0, 2 * REPORT_SECONDS))
        await until(lambda: screen.waiting < 10)
        screen.log(f"line {number}")
        if number % 5 == 0:
            screen.beat()
        if number % 20 == 0:
            screen.fail(f"unit-{number}.service")


async def beat(screens: list[Screen]) -> None:
    """Let devices be alive and no more."""
    while True:
        for screen in screens:
            screen.beat()
        await asyncio.sleep(0.5)


def stored_reports(daemon: Daemon) -> Counter[tuple[str, str]]:
    """Return how often each log line and each failed service stands in the timelines."""
    return Counter(
        daemon.rows(
            "SELECT client_uuid, CASE kind WHEN 'log' THEN text ELSE json_extract(data, '$.unit') END"
            " FROM timeline WHERE kind IN ('log', 'service_failed')"
        )
    )


async def all_well(daemon: Daemon, screens: list[Screen]) -> None:
    """Wait until everything that was said has been stored, and every command has ended and is verified."""
    for screen in screens:
        screen.log("the end")  # comes after everything else of this device
    async with asyncio.TaskGroup() as tasks:
        beating = tasks.create_task(beat(screens))
        await until(
            lambda: sum(told[1] == "the end" for told in stored_reports(daemon)) == len(screens),
            within=LULL_SECONDS,
        )
        await until(lambda: not daemon.rows(UNFINISHED), within=LULL_SECONDS)
        beating.cancel()


def judge_reports(daemon: Daemon, screens: list[Screen], excused: set[tuple[str, str]]) -> None:
    """Every log line and every failed service stands in the timeline once."""
    stored = stored_reports(daemon)
    assert [told for told, times in stored.items() if times > 1] == []
    said = {
        (screen.uuid, one.name)
        for screen in screens
        for one in screen.confirmed
        if one.topic.endswith(("/logs/info", "/service_failed"))
    }
    assert len(said) > 100 * len(screens)
    assert said - stored.keys() - excused == set()
    assert stored.keys() - said == set()


def judge_commands(daemon: Daemon, screens: list[Screen], operator: Operator) -> None:
    """Every request that was taken became one command, and every command was carried out once."""
    rows = daemon.rows("SELECT reason, command_id, client_uuid FROM client_commands")
    assert len(operator.taken) > len(screens)
    assert len({reason for reason, _, _ in rows}) == len(rows)
    stored = {reason: command_id for reason, command_id, _ in rows}
    assert stored.items() >= operator.taken.items()
    assert stored.keys() - operator.taken.keys() <= operator.unanswered
    for screen in screens:
        assert sorted(screen.executed) == sorted(one for _, one, uuid in rows if uuid == screen.uuid)
    for _, command_id, _ in rows:
        moves = daemon.rows(
            "SELECT from_status, to_status FROM command_events"
            " WHERE command_id = ? AND from_status IS NOT to_status ORDER BY id",
            command_id,
        )
        assert len(set(moves)) == len(moves), moves
        assert (moves[0], moves[-1][1]) == ((None, "queued"), "completed")
        assert_unbroken(moves)


def judge_timelines(daemon: Daemon) -> None:
    """No change of status or presence is told twice or left out."""
    changes: dict[str, list[tuple[str, str]]] = {}
    told: dict[str, list[str]] = {}
    for uuid, kind, before, after, presence in daemon.rows(
        "SELECT client_uuid, kind, json_extract(data, '$.from'), json_extract(data, '$.to'),"
        " json_extract(data, '$.presence') FROM timeline WHERE kind IN ('status', 'presence') ORDER BY id"
    ):
        if kind == "status":
            changes.setdefault(uuid, []).append((before, after))
        else:
            told.setdefault(uuid, []).append(presence)
    for each in changes.values():
        assert_unbroken(each)
    assert told == {}  # these devices never speak of their presence


def assert_unbroken(moves: Sequence[tuple[str | None, str]]) -> None:
    """Each change begins where the one before it ended."""
    assert [after for _, after in moves[:-1]] == [before for before, _ in moves[1:]], moves


@pytest.mark.parametrize("seed", [SEED])
async def test_nothing_is_lost_or_doubled_however_often_all_is_killed(
    tmp_path: Path, broker: Broker, seed: int
) -> None:
    random = Random(seed)
    uuids = [f"00000000-0000-4000-8000-{number:012d}" for number in range(SCREENS)]
    await broker.add_devices(uuids)
    screens = [Screen(broker, uuid, dawdle=lambda: random.uniform(0, 0.3)) for uuid in uuids]
    settings = {
        "CRASH_RECOVERY_POLL_SECONDS": 0.5,
        "COMMAND_LOCKOUT_THRESHOLD": 1_000,
        "LOG_LINES_PER_MINUTE": 100_000,
    }
    async with installed(tmp_path / "daemon", broker, **settings) as daemon, living(screens):
        weather, operator = Weather(broker, daemon, screens, random), Operator(daemon, screens, random)
        await daemon.start()
        for screen in screens:
            screen.beat()  # what a restart will be seen by must be known before
        await until(lambda: len(daemon.rows("SELECT 1 FROM clients WHERE process_pid > 0")) == len(screens))
        async with asyncio.TaskGroup() as tasks:
            busy = [tasks.create_task(report(screen, random)) for screen in screens]
            busy.append(tasks.create_task(operator.work()))
            await weather.rage(ROUNDS)
            for task in busy:
                task.cancel()
        await all_well(daemon, screens)

        judge_reports(daemon, screens, weather.excused)
        judge_commands(daemon, screens, operator)
        judge_timelines(daemon)
        assert "Traceback" not in daemon.log
