"""The recovery with nothing faked: real daemon, mosquitto and devices; only the settings are quick."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from infoscreen.simulator.device import DeviceFault
from tests.api import ask
from tests.broker import Broker
from tests.daemon import Daemon, ask_until, installed
from tests.devices import QUICK, Devices, devices_at
from tests.screens import Screen, living
from tests.spine import uuid_of
from tests.waiting import until

pytestmark = [pytest.mark.broker, pytest.mark.slow]

STALE_SECONDS = 3.0
POLL_SECONDS = 0.5
SETTINGS = {
    "CRASH_RECOVERY_ENABLED": "true",
    "CRASH_RECOVERY_POLL_SECONDS": POLL_SECONDS,
    "CRASH_RECOVERY_GRACE_SECONDS": 1,
    "HEARTBEAT_STALE_SECONDS": STALE_SECONDS,
    "STALE_MIN_SECONDS": STALE_SECONDS,
    "RECOVERY_OBSERVER_GRACE_SECONDS": 2 * STALE_SECONDS,
    "BOOT_GRACE_SECONDS": 1,
    "CREDIBLE_ABSENCE_SECONDS": 10,
    "RECOVERED_SECONDS": 1,
    "RELAPSE_SECONDS": 60,
    "COMMAND_EXPIRY_SECONDS": 30,
    # A loaded machine may need its time for what takes a device none.
    "RESTART_APP_TIMEOUT_SECONDS": 30,
    "REBOOT_TIMEOUT_SECONDS": 30,
}


@dataclass
class Scene:
    """A broker, a daemon that recovers, devices, and a program that asks."""

    broker: Broker
    daemon: Daemon
    devices: Devices
    api: ClientSession

    async def all_are(self, status: str, count: int | None = None) -> None:
        """Wait until so many clients (all of them by default) have the status."""
        wanted = len(self.devices.all) if count is None else count
        path = "/api/monitoring/overview?limit=1"
        await ask_until(self.api, path, lambda answer: answer["totals"][status] == wanted, within=90)

    async def sees(self) -> None:
        """Wait until the recovery has listened for long enough to judge."""
        await self.polls_pass(1)  # what it said last may be from before a restart
        await ask_until(self.api, "/api/recovery?limit=1", _sees, within=90)

    @property
    def asked_for(self) -> list[tuple[str, str]]:
        """Return client and action of every command that the recovery has requested."""
        found = self.daemon.rows(
            "SELECT client_uuid, action FROM client_commands WHERE source = 'recovery' ORDER BY created_at"
        )
        return [(str(uuid), str(action)) for uuid, action in found]

    @property
    def polls(self) -> int:
        """Return how often the recovery has decided."""
        return int(self.daemon.rows("SELECT COALESCE(MAX(number), 0) FROM recovery_polls")[0][0])

    async def polls_pass(self, count: int) -> None:
        """Wait until the recovery has decided so many times more."""
        target = self.polls + count
        await until(lambda: self.polls >= target, every=0.05, within=90)


def _sees(answer: Any) -> bool:
    return answer["polled_at"] is not None and not answer["holds"]


@asynccontextmanager
async def scene(folder: Path, broker: Broker, count: int, **settings: object) -> AsyncIterator[Scene]:
    """Bring up everything and wait until all clients are online and the recovery sees."""
    async with (
        installed(folder / "daemon", broker, **(SETTINGS | settings)) as daemon,
        daemon.program() as api,
    ):
        await daemon.start()
        timing = replace(QUICK, heartbeat=timedelta(seconds=0.5 if count < 50 else 1))
        async with devices_at(broker, count, timing) as devices:
            running = Scene(broker, daemon, devices, api)
            await running.all_are("online")
            await running.sees()
            yield running


async def test_an_outage_of_the_broker_for_ten_stale_periods_leads_to_not_a_single_command(
    tmp_path: Path, broker: Broker
) -> None:
    # Devices that reconnect at once: the simulator's wait up to 45 s, which is long for settings this quick.
    uuids = [uuid_of(number) for number in range(12)]
    await broker.add_devices(uuids)
    screens = [Screen(broker, uuid) for uuid in uuids]
    async with (
        installed(tmp_path / "daemon", broker, **SETTINGS) as daemon,
        daemon.program() as api,
        living(screens),
        beating(screens),
    ):
        await daemon.start()
        here = Scene(broker, daemon, Devices([], broker, QUICK), api)
        await here.all_are("online", len(screens))
        await here.sees()
        await broker.stop()
        await daemon.wait_for("/readyz", 503)
        blind = await ask_until(api, "/api/recovery?limit=1", lambda answer: answer["holds"])
        assert [hold["reason"] for hold in blind["holds"]] == ["broker_disconnected"]
        # What is waited for is the passing of time itself: ten times what makes a client stale.
        await here.polls_pass(int(10 * STALE_SECONDS / POLL_SECONDS))
        await broker.start()
        await daemon.wait_for("/readyz", 200)
        await here.all_are("online", len(screens))
        await here.sees()
        await here.polls_pass(10)
        assert here.asked_for == []
        assert [screen.heard for screen in screens] == [Counter()] * len(screens)
        incidents = await ask(api, "GET", "/api/incidents")
        assert all(incident["ended_at"] is not None for incident in incidents["items"])


@asynccontextmanager
async def beating(screens: Sequence[Screen]) -> AsyncIterator[None]:
    """Let devices send a heartbeat twice a second, as long as they are connected."""

    async def beat() -> None:
        while True:
            for screen in screens:
                if screen.connected and not screen.waiting:
                    screen.beat()
            await asyncio.sleep(0.5)

    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(beat())
        yield
        task.cancel()


async def test_a_daemon_that_is_killed_during_a_recovery_goes_on_and_does_nothing_twice(
    tmp_path: Path, broker: Broker
) -> None:
    async with scene(tmp_path, broker, 6) as here:
        victim = here.devices[0]
        victim.suffer(DeviceFault.CRASH)
        await until(lambda: here.asked_for, within=60)
        await here.daemon.kill()
        await here.daemon.start()
        await here.all_are("online")
        await here.sees()
        outcomes = "SELECT rung, outcome FROM recovery_attempts WHERE ended_at IS NOT NULL"
        assert await until(lambda: here.daemon.rows(outcomes), within=60) == [(1, "helped")]
        assert here.asked_for == [(victim.uuid, "restart_app")]
        assert victim.tally.commands == 1


async def test_a_daemon_that_is_killed_between_decision_and_command_does_not_double_it(
    tmp_path: Path, broker: Broker
) -> None:
    """The attempt stands, its command does not: what a kill in just that moment leaves behind."""
    async with scene(tmp_path, broker, 6) as here:
        victim = here.devices[0]
        victim.suffer(DeviceFault.CRASH)
        await until(lambda: here.asked_for, within=60)
        await here.daemon.kill()
        [[command_id]] = here.daemon.rows("SELECT command_id FROM client_commands")
        here.daemon.change("DELETE FROM client_commands")
        here.daemon.change(
            "UPDATE recovery_attempts SET published_at = NULL, ended_at = NULL, outcome = NULL"
        )
        victim.suffer(DeviceFault.CRASH)
        await here.daemon.start()
        outcomes = "SELECT command_id, outcome FROM recovery_attempts ORDER BY id"
        await until(lambda: here.daemon.rows(outcomes)[0] == (command_id, "not_sent"), within=60)
        await here.all_are("online")
        assert Counter(here.asked_for)[victim.uuid, "restart_app"] == 1


async def test_three_in_a_hundred_of_300_devices_crash_and_each_is_restarted_once(
    tmp_path: Path, broker: Broker
) -> None:
    async with scene(tmp_path, broker, 300) as here:
        victims = [here.devices[number] for number in range(0, 270, 30)]
        for victim in victims:
            victim.suffer(DeviceFault.CRASH)
        await until(lambda: len(set(here.asked_for)) == len(victims), within=90)
        await here.all_are("online")
        assert Counter(here.asked_for) == Counter((victim.uuid, "restart_app") for victim in victims)
        assert [victim.tally.commands for victim in victims] == [1] * len(victims)


async def test_a_dark_site_is_one_incident_and_the_rest_of_the_fleet_is_recovered_meanwhile(
    tmp_path: Path, broker: Broker
) -> None:
    async with scene(tmp_path, broker, 40) as here:
        dark, crashed = here.devices.all[:6], here.devices[20]
        for device in dark:
            await ask(here.api, "PATCH", f"/api/clients/{device.uuid}", json={"site": "Depot"})
        # The silence of a client whose rhythm is unknown tells nothing.
        await until(lambda: here.daemon.rows("SELECT min(heartbeats) FROM clients")[0][0] > 5)
        for device in dark:
            device.suffer(DeviceFault.SILENCE)
        await here.all_are("unreachable", len(dark))
        crashed.suffer(DeviceFault.CRASH)
        path = "/api/recovery?limit=1"
        answer = await ask_until(here.api, path, lambda answer: answer["incidents"], within=60)
        await until(lambda: here.asked_for == [(crashed.uuid, "restart_app")], within=60)
        [incident] = answer["incidents"]
        assert (incident["kind"], incident["site"]) == ("site_outage", "Depot")
        await ask_until(here.api, "/api/incidents", lambda page: page["items"][0]["members"] == len(dark))
        why = await ask(here.api, "GET", f"/api/clients/{dark[0].uuid}/explain")
        assert why["decision"]["reason"] == "site_outage"
        for device in dark:
            device.relieve()
        await here.all_are("online")
        # It ends after ten calm minutes, which the tests of the rules wait for.
        await ask_until(here.api, path, lambda answer: answer["incidents"][0]["calm_since"], within=60)
        assert here.asked_for == [(crashed.uuid, "restart_app")]
        incidents = (await ask(here.api, "GET", "/api/incidents"))["items"]
        outages = [(one["kind"], one["site"]) for one in incidents if one["kind"] != "observer"]
        assert outages == [("site_outage", "Depot")], incidents
