"""A broker that refuses us, is slow, goes dead without a word, or comes back without its memory."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import ClientSession

from infoscreen.provisioning.broker_files import SERVER_ACCOUNT
from infoscreen.provisioning.passwords import password_line
from tests.api import ask
from tests.broker import Broker
from tests.daemon import Daemon, ask_until, installed
from tests.proxy import proxied
from tests.screens import Screen, screen_at
from tests.waiting import until

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(300)]

U = "7d3c1f60-19a4-4b52-8e0d-5b6a7c8d9e01"
DEAD_SECONDS = 90.0
"""A dead line is noticed after two keepalives of 20 s: one until we ask, one in which no answer comes."""


@dataclass
class Scene:
    """A daemon that listens and knows a device, and a program that asks it."""

    broker: Broker
    daemon: Daemon
    screen: Screen
    api: ClientSession

    async def order(self) -> str:
        """Request ``restart_app`` and return the command's id."""
        path, body = f"/api/clients/{U}/commands", {"action": "restart_app"}
        return str((await ask(self.api, "POST", path, json=body, status=202))["command"]["command_id"])

    async def is_done(self, command_id: str) -> None:
        """Wait until the command is completed; it was carried out once.

        The device beats meanwhile: if it missed the command, it gets it again when it is heard 10 s later.
        """
        path = f"/api/commands/{command_id}"
        async with asyncio.TaskGroup() as tasks:
            beating = tasks.create_task(self._beat())
            await ask_until(self.api, path, lambda command: command["status"] == "completed")
            beating.cancel()
        assert self.screen.executed.count(command_id) == 1

    async def _beat(self) -> None:
        while True:
            self.screen.beat()
            await asyncio.sleep(1)

    async def loses_the_broker(self, within: float) -> str:
        """Wait until readiness says that the broker is missing, and return its words."""
        problem = await self.daemon.wait_for("/readyz", 503, within=within)
        assert list(problem["faults"]) == ["broker"]
        return str(problem["faults"]["broker"])

    async def says(self, name: str, lines: int = 30) -> list[str]:
        """Let the device say some lines, and return when the broker has them."""
        said = [f"{name} {number}" for number in range(lines)]
        for line in said:
            self.screen.log(line)
        await until(lambda: not self.screen.waiting)
        return said

    def connected(self, connection: str) -> int:
        """Return how often one of the daemon's connections was made."""
        return sum(line["connection"] == connection for line in self.daemon.logged("broker_connected"))

    def stored(self) -> list[str]:
        rows = self.daemon.rows("SELECT text FROM timeline WHERE kind = 'log' ORDER BY id")
        return [text for (text,) in rows]


@asynccontextmanager
async def scene(tmp_path: Path, broker: Broker, **settings: object) -> AsyncIterator[Scene]:
    async with (
        installed(tmp_path / "daemon", broker, **settings) as daemon,
        screen_at(broker, U) as screen,
        daemon.program() as api,
    ):
        await daemon.start()
        screen.beat()
        await ask_until(api, f"/api/clients?q={U}", lambda page: page["total"])
        yield Scene(broker, daemon, screen, api)
        assert "Traceback" not in daemon.log


def replace_password(broker: Broker, password: str) -> None:
    """Let the broker know the daemon by another password from its next start on."""
    path = broker.files.passwords
    lines = path.read_text(encoding="ascii").splitlines()
    others = [line for line in lines if not line.startswith(f"{SERVER_ACCOUNT}:")]
    path.write_text("\n".join([*others, password_line(SERVER_ACCOUNT, password)]) + "\n", encoding="ascii")


async def test_a_broker_that_refuses_our_password_is_asked_again_and_again_but_ever_more_rarely(
    tmp_path: Path, broker: Broker
) -> None:
    async with scene(tmp_path, broker) as at:
        await broker.stop()
        replace_password(broker, "another")
        await broker.start()
        refused = "the broker refused the connection: not authorized"
        async with asyncio.timeout(60):
            while refused not in await at.loses_the_broker(within=20):  # before, that the connection was lost
                pass
        await until(lambda: at.screen.connected)
        said = await at.says("while it is refused")
        command_id = await at.order()

        def refusals() -> list[tuple[int, float, str]]:
            lines = at.daemon.logged("broker_unavailable")
            return [
                (line["failures"], line["retry_seconds"], line["level"])
                for line in lines
                if line["connection"] == "listener" and refused in line["error"]
            ]

        await until(lambda: refusals()[-1][0] >= 4)
        assert [level for *_, level in refusals()].count("warning") == 1
        assert refusals()[-1][1] >= 2  # seconds until the next try, after at most half was taken off
        assert at.broker.server_password not in at.daemon.log

        await broker.stop()
        replace_password(broker, broker.server_password)
        await broker.start()
        await at.daemon.wait_for("/readyz", 200)
        await until(lambda: len(at.stored()) >= len(said))
        assert at.stored() == said
        await at.is_done(command_id)


async def test_a_broker_that_forgot_everything_is_told_again_what_matters(
    tmp_path: Path, broker: Broker
) -> None:
    async with scene(tmp_path, broker) as at:
        at.screen.fail("infoscreen-app.service")
        failed = f"/api/clients/service_failed?q={U}"
        await ask_until(at.api, failed, lambda page: page["total"])
        said = await at.says("before")
        await until(lambda: len(at.stored()) >= len(said))
        await broker.stop()
        await at.loses_the_broker(within=20)
        command_id = await at.order()
        memory = broker.config.parent / "mosquitto.db"
        memory.unlink()
        await broker.start()
        await at.daemon.wait_for("/readyz", 200)
        # The session for logs is subscribed by itself; what is said before that nobody keeps.
        await until(lambda: at.connected("bulk listener") == 2)
        await until(lambda: at.screen.connected)
        said += await at.says("after")
        await until(lambda: len(at.stored()) >= len(said))
        assert at.stored() == said
        await at.is_done(command_id)
        assert (await ask(at.api, "GET", failed))["total"] == 1  # it was ours to remember
        await ask(at.api, "POST", f"/api/clients/{U}/clear_service_failed")
        await until(lambda: not at.daemon.rows("SELECT 1 FROM clients WHERE service_failed_clear_pending"))
        at.screen.fail("another.service")
        await ask_until(
            at.api,
            failed,
            lambda page: page["items"] and page["items"][0]["service_failed_unit"] == "another.service",
        )


async def test_a_slow_line_is_no_trouble_and_a_dead_one_is_noticed_and_made_anew(
    tmp_path: Path, broker: Broker
) -> None:
    async with proxied(broker.port) as line, scene(tmp_path, broker, MQTT_PORT=line.port) as at:
        line.delay_seconds, line.piece_bytes = 0.2, 700
        said = await at.says("slowly")
        command_id = await at.order()
        await until(lambda: len(at.stored()) >= len(said), within=60)
        await at.is_done(command_id)
        await at.daemon.wait_for("/readyz", 200)
        assert at.daemon.logged("broker_unavailable") == [], "the slow connections were given up"

        line.delay_seconds, line.piece_bytes = 0.0, 65_536
        line.go_dead()
        said += await at.says("while the line is dead")
        command_id = await at.order()
        assert "not listening" in await at.loses_the_broker(within=DEAD_SECONDS)
        assert at.stored() == said[:30]
        line.come_back()
        await at.daemon.wait_for("/readyz", 200)
        await until(lambda: len(at.stored()) >= len(said))
        assert at.stored() == said
        await at.is_done(command_id)
        lost = [one for one in at.daemon.logged("broker_unavailable") if one["connection"] == "listener"]
        assert lost[0]["error"]
