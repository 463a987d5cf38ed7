"""``kill -9`` of daemon and broker in every state of a command: it goes on where it was, and runs once."""

import os
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from infoscreen.wire import topics
from tests.api import ask
from tests.broker import Broker
from tests.daemon import Daemon, ask_until, installed
from tests.screens import STEPS, Screen, screen_at
from tests.waiting import until

pytestmark = [pytest.mark.broker, pytest.mark.slow]

U = "9c1f7e3a-52d4-4c0b-8a76-0d2b4f6a8c01"

JOURNEY = [
    (None, "queued"),
    ("queued", "publish_in_progress"),
    ("publish_in_progress", "published"),
    ("published", "accepted"),
    ("accepted", "execution_started"),
    ("execution_started", "completed"),
]

SKIPPING_PUBLISHED = [("publish_in_progress", "accepted"), *JOURNEY[4:]]
"""A device may answer before the broker's PUBACK has arrived."""

QUICK = {"CRASH_RECOVERY_POLL_SECONDS": 0.2}


@dataclass
class Scene:
    """A device, a broker, a daemon and a program that asks it."""

    broker: Broker
    daemon: Daemon
    screen: Screen
    api: ClientSession

    async def order(self, **more: Any) -> str:
        """Request ``restart_app`` and return the command's id."""
        body = {"action": "restart_app", **more}
        answer = await ask(self.api, "POST", f"/api/clients/{U}/commands", json=body, status=202)
        return str(answer["command"]["command_id"])

    async def reaches(self, command_id: str, status: str) -> dict[str, Any]:
        """Wait until the command has the status, and return it."""
        path = f"/api/commands/{command_id}"
        return dict(await ask_until(self.api, path, lambda command: command["status"] == status))

    async def steps(self, command_id: str, step: str) -> None:
        """Let the device take a step; return when the broker has both its acks."""
        self.screen.release(step)
        await until(lambda: self.screen.answers.get(command_id) == step and not self.screen.waiting)


@pytest.fixture
async def scene(tmp_path: Path, broker: Broker) -> AsyncIterator[Scene]:
    """A running daemon that knows a device, which answers no command before it is released."""
    async with (
        installed(tmp_path / "daemon", broker, **QUICK) as daemon,
        screen_at(broker, U) as screen,
        daemon.program() as api,
    ):
        await daemon.start()
        screen.hold(*STEPS)
        screen.beat()
        await ask_until(api, f"/api/clients?q={U}", lambda page: page["total"])
        yield Scene(broker, daemon, screen, api)


def moves(command: dict[str, Any]) -> list[tuple[str | None, str]]:
    """Return a command's changes of status, in order."""
    return [(event["from"], event["to"]) for event in command["events"] if event["from"] != event["to"]]


class Crash:
    """Kills daemon, broker or both, and starts them again."""

    def __init__(self, scene: Scene, victims: str) -> None:
        self._scene = scene
        self._daemon_dies = victims in ("daemon", "both")
        self._broker_dies = victims in ("broker", "both")

    async def __call__(self, command_id: str = "", step: str = "") -> None:
        """Kill, let the device take a step of a command as soon as it can, and start again."""
        if self._daemon_dies:
            await self._scene.daemon.kill()
        if step:
            await self._scene.steps(command_id, step)
        if self._broker_dies:
            await self._scene.broker.settle()
            await self.broker()
        await self.start()

    async def broker(self) -> None:
        """Kill the broker; return when a living daemon has noticed."""
        await self._scene.broker.kill()
        if not self._daemon_dies:
            await self._scene.daemon.wait_for("/readyz", 503)

    async def start(self) -> None:
        """Start what does not run, and wait until all are connected."""
        if self._broker_dies:
            await self._scene.broker.start()
        if self._daemon_dies:
            await self._scene.daemon.launch()
        await self._scene.daemon.wait_for("/readyz", 200)
        await until(lambda: self._scene.screen.connected)


@pytest.mark.parametrize("victims", ["daemon", "broker", "both"])
async def test_a_command_outlives_being_killed_in_every_state(scene: Scene, victims: str) -> None:
    crash = Crash(scene, victims)
    command_id = await scene.order()
    await scene.reaches(command_id, "published")
    await crash()
    await scene.reaches(command_id, "published")
    for step in STEPS:
        await crash(command_id, step)
        await scene.reaches(command_id, step)
    await crash()
    scene.screen.beat()  # as a new process, which is the evidence
    path = f"/api/commands/{command_id}"
    done = await ask_until(scene.api, path, lambda command: command["verification"] == "verified")
    assert moves(done) == JOURNEY
    assert scene.screen.executed == [command_id]


async def test_a_command_queued_without_a_broker_outlives_the_daemon(scene: Scene) -> None:
    scene.screen.release(*STEPS)
    await scene.broker.kill()
    await scene.daemon.wait_for("/readyz", 503)
    command_id = await scene.order()
    await scene.daemon.kill()
    await scene.daemon.launch()
    await scene.daemon.wait_for("/readyz", 503)
    await scene.reaches(command_id, "queued")
    await scene.broker.start()
    assert moves(await scene.reaches(command_id, "completed")) == JOURNEY
    assert scene.screen.heard == {command_id: 1}


@pytest.mark.parametrize("broker_has_it", [True, False])
async def test_a_daemon_killed_while_it_publishes_publishes_the_same_command_again(
    scene: Scene, broker_has_it: bool
) -> None:
    scene.screen.release(*STEPS)
    os.kill(scene.broker.pid, signal.SIGSTOP)  # takes bytes, and answers nothing
    command_id = await scene.order()
    await scene.reaches(command_id, "publish_in_progress")
    await scene.daemon.kill()
    if broker_has_it:
        os.kill(scene.broker.pid, signal.SIGCONT)
        await until(lambda: scene.screen.heard[command_id])
    else:
        await scene.broker.kill()
        await scene.broker.start()
    await scene.daemon.start()
    done = await scene.reaches(command_id, "completed")
    assert moves(done) in (JOURNEY, [*JOURNEY[:2], *SKIPPING_PUBLISHED])
    assert scene.screen.executed == [command_id]


async def test_a_command_given_up_while_nobody_looked_is_corrected_by_a_late_ack(scene: Scene) -> None:
    command_id = await scene.order(expires_in=2)
    expires_at = (await scene.reaches(command_id, "published"))["expires_at"]
    await scene.daemon.kill()
    await until(lambda: datetime.now(UTC) > datetime.fromisoformat(expires_at))
    await scene.daemon.start()
    await scene.reaches(command_id, "expired")
    await scene.daemon.kill()
    for step in STEPS:
        await scene.steps(command_id, step)
    await scene.daemon.start()
    done = await scene.reaches(command_id, "completed")
    assert done["late"] is True
    assert moves(done) == [*JOURNEY[:3], ("published", "expired"), ("expired", "completed")]
    assert scene.screen.executed == [command_id]


async def test_what_was_withdrawn_or_locked_out_stays_so(scene: Scene) -> None:
    await scene.broker.kill()
    await scene.daemon.wait_for("/readyz", 503)
    withdrawn = await scene.order()
    await ask(scene.api, "POST", f"/api/commands/{withdrawn}/cancel")
    await scene.daemon.kill()
    await scene.broker.start()
    await scene.daemon.start()
    scene.screen.release(*STEPS)
    for _ in range(3):
        await scene.reaches(await scene.order(), "completed")
    body = {"action": "reboot_host"}
    refused = await ask(scene.api, "POST", f"/api/clients/{U}/commands", json=body, status=423)
    await scene.daemon.kill()
    await scene.daemon.start()
    again = await ask(scene.api, "POST", f"/api/clients/{U}/commands", json=body, status=423)
    assert again["locked_until"] == refused["locked_until"]
    assert (await scene.reaches(withdrawn, "cancelled"))["published_at"] is None
    assert (await scene.reaches(refused["command"]["command_id"], "blocked_safety"))["published_at"] is None
    assert len(scene.screen.heard) == 3


async def test_a_failure_cleared_without_a_broker_is_cleared_there_after_a_kill(scene: Scene) -> None:
    scene.screen.fail("infoscreen-app.service")
    failed = f"/api/clients/service_failed?q={U}"
    await ask_until(scene.api, failed, lambda page: page["total"])
    await scene.broker.settle()
    await scene.broker.kill()
    await scene.daemon.wait_for("/readyz", 503)
    await ask(scene.api, "POST", f"/api/clients/{U}/clear_service_failed")
    await scene.daemon.kill()
    await scene.broker.start()
    await scene.daemon.start()
    await until(lambda: not scene.daemon.rows("SELECT 1 FROM clients WHERE service_failed_clear_pending"))
    topic, server = topics.service_failed(U), scene.broker.server_user
    async with scene.broker.sub(topic, account=server) as newcomer:
        await scene.broker.pub(topic, "end", account=server)
        assert (await newcomer.next()).payload == b"end"
    assert (await ask(scene.api, "GET", failed))["total"] == 0
