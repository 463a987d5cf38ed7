"""Simulated devices on a real broker; mosquitto's own tools play a server that is not ours."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any
from uuid import uuid4

import pytest

from infoscreen.clock import SystemClock
from infoscreen.domain.commands import Action
from infoscreen.domain.errors import InvalidArguments
from infoscreen.provisioning.broker_files import SERVER_ACCOUNT
from infoscreen.simulator import device_uuids
from infoscreen.simulator import run as simulate
from infoscreen.simulator.connection import DeviceClock, DeviceConnection, Endpoint
from infoscreen.simulator.device import DeviceFault, SimulatedDevice, Tally, Timing
from infoscreen.simulator.faults import FaultPlan
from infoscreen.simulator.fleet import SimulatedFleet
from infoscreen.simulator.identity import identities
from infoscreen.simulator.traffic import Traffic
from infoscreen.wire import topics
from tests.broker import Broker, Subscriber
from tests.waiting import until

pytestmark = pytest.mark.broker

UUID, OTHER = device_uuids(2, "broker")
QUICK = Timing(
    heartbeat=timedelta(seconds=30),
    until_started=timedelta(milliseconds=20),
    app_start=timedelta(milliseconds=50),
    going_down=timedelta(milliseconds=300),
    boot=timedelta(milliseconds=300),
)
COMMANDS = topics.commands(UUID)
ACKS = topics.acks(UUID)
PRESENCE = topics.presence(UUID)


class Server:
    """What a server sees and does that knows nothing but the contract."""

    def __init__(self, broker: Broker, heard: Subscriber) -> None:
        self._broker = broker
        self._heard = heard

    async def next(self, *wanted: str) -> Any:
        """Wait for the next message on one of these topics."""
        while (message := await self._heard.next()).topic not in wanted:
            pass
        return message

    async def acks(self, count: int) -> list[tuple[str, str, str | None]]:
        """Wait for so many acks on each of both topics; return command, status and error code of those."""
        given: dict[str, list[tuple[str, str, str | None]]] = {topic: [] for topic in ACKS}
        while any(len(acks) < count for acks in given.values()):
            message = await self.next(*ACKS)
            assert (message.qos, message.retain) == (1, False)
            ack = json.loads(message.payload)
            assert set(ack) == {"command_id", "status", "error_code", "error_message"}
            given[message.topic].append((ack["command_id"], ack["status"], ack["error_code"]))
        assert given[ACKS[0]] == given[ACKS[1]]
        return given[ACKS[0]]

    async def send(
        self,
        action: Action = Action.RESTART_APP,
        *,
        topic: str = COMMANDS,
        retain: bool = False,
        **changes: Any,
    ) -> str:
        """Send a command, valid but for the changes, and return its id."""
        now = datetime.now(UTC)
        fields = {
            "schema_version": "1.0",
            "command_id": str(uuid4()),
            "client_uuid": UUID,
            "action": action,
            "issued_at": now.isoformat(),
            "expires_at": (now + timedelta(minutes=4)).isoformat(),
            "requested_by": None,
            "reason": None,
        } | changes
        await self._broker.pub(topic, json.dumps(fields), account=SERVER_ACCOUNT, retain=retain)
        return str(fields["command_id"])


class Life:
    """A device being played, and what is known of it from inside."""

    def __init__(self, broker: Broker, timing: Timing = QUICK) -> None:
        self.tally, self.traffic = Tally(), Traffic()
        self._clock = DeviceClock(SystemClock())
        self.device = SimulatedDevice(
            identities([UUID])[0], random=Random(1), timing=timing, tally=self.tally, now=self._clock.now()
        )
        self.connection = DeviceConnection(
            self.device,
            Endpoint(broker.host, broker.port),
            broker.passwords[UUID],
            clock=self._clock,
            random=Random(2),
            traffic=self.traffic,
        )

    def suffer(self, fault: DeviceFault) -> None:
        self.device.suffer(fault, self._clock.now())
        self.connection.wake()

    def relieve(self) -> None:
        self.device.relieve(self._clock.now())
        self.connection.wake()

    @contextlib.asynccontextmanager
    async def lived(self) -> AsyncIterator["Life"]:
        task = asyncio.create_task(self.connection.run())
        try:
            await until(lambda: self.traffic.connected)
            yield self
        finally:
            self.connection.stop()
            await task


@pytest.fixture
async def server(broker: Broker) -> AsyncIterator[Server]:
    """Yield the server, listening before any device says anything."""
    await broker.add_device(UUID)
    async with broker.sub(f"infoscreen/{UUID}/#", *topics.DEVICE_FILTERS, account=SERVER_ACCOUNT) as heard:
        yield Server(broker, heard)


@pytest.fixture
async def life(broker: Broker, server: Server) -> AsyncIterator[Life]:
    """Yield a device that is connected."""
    async with Life(broker).lived() as life:
        yield life


async def test_a_device_says_online_introduces_itself_and_beats(server: Server, life: Life) -> None:
    online = await server.next(PRESENCE)
    assert online.payload == b"online"
    introduced = json.loads((await server.next(topics.discovery(UUID))).payload)
    assert introduced["uuid"] == UUID
    beat = json.loads((await server.next(topics.heartbeat(UUID))).payload)
    assert (beat["uuid"], beat["process_status"]) == (UUID, "running")
    health = json.loads((await server.next(topics.health(UUID))).payload)
    assert health["broker_connection"] == {"broker_reachable": True, "reconnect_count": 0}


async def test_presence_is_retained_and_ends_as_offline_when_the_device_leaves(
    server: Server, broker: Broker
) -> None:
    async with Life(broker).lived():
        await server.next(PRESENCE)
        async with broker.sub(PRESENCE, account=SERVER_ACCOUNT) as late:
            assert (await late.next()).payload == b"online"
    async with broker.sub(PRESENCE, account=SERVER_ACCOUNT) as later:
        offline = await later.next()
        assert (offline.payload, offline.retain) == (b"offline", True)


async def test_a_device_that_falls_silent_leaves_its_last_will(
    server: Server, life: Life, broker: Broker
) -> None:
    assert (await server.next(PRESENCE)).payload == b"online"
    life.suffer(DeviceFault.SILENCE)
    assert (await server.next(PRESENCE)).payload == b"offline"
    await until(lambda: f"Client {UUID} closed its connection" in broker.log)
    life.relieve()
    assert (await server.next(PRESENCE)).payload == b"online"
    health = json.loads((await server.next(topics.health(UUID))).payload)
    assert health["broker_connection"]["reconnect_count"] == 1
    assert health["broker_connection"]["last_disconnect_at"].endswith("Z")
    assert life.traffic.errors == {}


async def test_a_restart_is_acknowledged_on_both_topics(server: Server, life: Life) -> None:
    before = json.loads((await server.next(topics.heartbeat(UUID))).payload)
    command_id = await server.send()
    given = await server.acks(3)
    assert given == [(command_id, status, None) for status in ("accepted", "execution_started", "completed")]
    after = json.loads((await server.next(topics.heartbeat(UUID))).payload)
    assert after["process_pid"] != before["process_pid"]
    assert after["app_started_at"] > before["app_started_at"]


async def test_a_command_on_the_older_topic_is_the_same_command(server: Server, life: Life) -> None:
    command_id = await server.send(topic=topics.command_alias(UUID))
    await server.acks(3)
    await server.send(command_id=command_id)
    assert await server.acks(1) == [(command_id, "completed", None)]
    assert (life.tally.commands, life.tally.duplicates) == (1, 1)


async def test_a_reboot_drops_the_connection_and_is_completed_after_it(server: Server, life: Life) -> None:
    assert (await server.next(PRESENCE)).payload == b"online"
    before = json.loads((await server.next(topics.heartbeat(UUID))).payload)
    command_id = await server.send(Action.REBOOT_HOST)
    assert [status for _, status, _ in await server.acks(2)] == ["accepted", "execution_started"]
    assert (await server.next(PRESENCE)).payload == b"offline"
    assert (await server.next(PRESENCE)).payload == b"online"
    assert await server.acks(1) == [(command_id, "completed", None)]
    after = json.loads((await server.next(topics.heartbeat(UUID))).payload)
    assert after["boot_id"] != before["boot_id"]
    assert after["booted_at"] > before["booted_at"]


async def test_a_shutdown_says_completed_then_goodbye(server: Server, life: Life, broker: Broker) -> None:
    assert (await server.next(PRESENCE)).payload == b"online"
    command_id = await server.send(Action.SHUTDOWN_HOST)
    assert (await server.acks(3))[-1] == (command_id, "completed", None)
    assert (await server.next(PRESENCE)).payload == b"offline"
    await until(lambda: f"Client {UUID} disconnected." in broker.log)
    life.relieve()
    assert (await server.next(PRESENCE)).payload == b"online"


async def test_an_expired_command_is_refused(server: Server, life: Life) -> None:
    expired = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
    command_id = await server.send(Action.REBOOT_HOST, expires_at=expired)
    assert await server.acks(1) == [(command_id, "failed", "expired")]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"client_uuid": OTHER}, "foreign"),
        ({"priority": 1}, "invalid"),
        ({"schema_version": "2.0"}, "invalid"),
    ],
)
async def test_a_command_against_the_contract_is_not_answered(
    server: Server, life: Life, changes: dict[str, Any], reason: str
) -> None:
    await server.send(**changes)
    answered = await server.send(Action.SCREENSHOT)
    # Both came in this order: had the first been answered, its ack would be here.
    assert {command_id for command_id, _, _ in await server.acks(3)} == {answered}
    assert life.tally.ignored == {reason: 1}


async def test_a_retained_command_is_not_carried_out_however_often_the_device_reconnects(
    server: Server, broker: Broker
) -> None:
    await server.send(Action.REBOOT_HOST, retain=True)
    async with Life(broker).lived() as life:
        await until(lambda: life.tally.ignored["retained"] == 1)
        life.suffer(DeviceFault.SILENCE)
        await until(lambda: life.traffic.connected == 0)
        life.relieve()
        await until(lambda: life.tally.ignored["retained"] == 2)
        assert life.tally.commands == 0


async def test_a_screenshot_on_demand_is_a_picture(server: Server, life: Life) -> None:
    command_id = await server.send(Action.SCREENSHOT)
    picture = (await server.next(topics.screenshot(UUID))).payload
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    assert picture.endswith(b"IEND\xaeB`\x82")
    assert (await server.acks(1))[0] == (command_id, "completed", None)


async def test_a_failed_service_waits_at_the_broker(server: Server, life: Life, broker: Broker) -> None:
    life.suffer(DeviceFault.SERVICE_FAILED)
    await server.next(topics.service_failed(UUID))
    async with broker.sub(topics.service_failed(UUID), account=SERVER_ACCOUNT) as late:
        report = await late.next()
    assert report.retain
    assert json.loads(report.payload)["unit"] == "infoscreen-app.service"


async def test_a_command_sent_while_the_device_was_away_waits_in_its_session(
    server: Server, life: Life
) -> None:
    life.suffer(DeviceFault.SILENCE)
    await until(lambda: life.traffic.connected == 0)
    command_id = await server.send()
    life.relieve()
    assert (await server.acks(3))[-1] == (command_id, "completed", None)


@pytest.mark.slow
async def test_acks_that_the_broker_was_not_there_for_are_sent_when_it_is_back(
    server: Server, life: Life, broker: Broker
) -> None:
    command_id = await server.send()
    await until(lambda: life.tally.commands)
    await broker.kill()
    await until(lambda: life.tally.acks == 3)
    await broker.start()
    # The subscriber lost its connection too; it comes back by itself.
    async with broker.sub(*ACKS, account=SERVER_ACCOUNT) as heard:
        while json.loads((await heard.next()).payload) != {
            "command_id": command_id,
            "status": "completed",
            "error_code": None,
            "error_message": None,
        }:
            pass
    assert life.traffic.errors


async def test_a_wrong_password_is_tried_again_and_counted(server: Server, broker: Broker) -> None:
    broker.passwords[UUID] = "wrong"
    life = Life(broker)
    task = asyncio.create_task(life.connection.run())
    await until(lambda: sum(life.traffic.errors.values()) == 2)
    life.connection.stop()
    await task
    assert "not authorized" in " ".join(life.traffic.errors)
    assert life.traffic.connections == 0


async def test_a_fleet_starts_suffers_its_faults_and_says_goodbye(broker: Broker) -> None:
    uuids = device_uuids(30, "fleet")
    passwords = await broker.add_devices(uuids)
    fleet = SimulatedFleet(
        identities(uuids),
        passwords,
        Endpoint(broker.host, broker.port),
        SystemClock(),
        timing=Timing(heartbeat=timedelta(milliseconds=500)),
        faults=FaultPlan(
            {DeviceFault.CRASH: 0.1, DeviceFault.SILENCE: 0.1},
            timedelta(0),
            relief_after=timedelta(milliseconds=500),
        ),
        start_within=timedelta(milliseconds=500),
    )
    stop = asyncio.Event()
    task = asyncio.create_task(fleet.run(stop))
    async with broker.sub("infoscreen/+/presence", account=SERVER_ACCOUNT) as heard:
        await until(lambda: fleet.traffic.connections >= 30 and fleet.traffic.connected == 30)
        await until(lambda: fleet.tally.faults == {"crash": 3, "silence": 3})
        stop.set()
        await task
        last: dict[str, bytes] = {}
        while list(last.values()).count(b"offline") < 30:
            message = await heard.next()
            last[message.topic] = message.payload
    assert fleet.traffic.connected == 0
    assert fleet.traffic.acked == fleet.traffic.sent
    assert fleet.traffic.errors == {}


def test_a_simulation_by_the_clock_ends_with_figures(tmp_path: Path, free_port: int) -> None:
    broker = Broker(tmp_path / "broker", free_port)
    uuids = device_uuids(5, "figures")

    async def prepare() -> None:
        await broker.start()
        await broker.add_devices(uuids)

    asyncio.run(prepare())
    try:
        credentials = tmp_path / "devices"
        credentials.write_text("".join(f"{uuid} {broker.passwords[uuid]}\n" for uuid in uuids))
        done = simulate(5, port=free_port, credentials=credentials, heartbeat_seconds=0.2, duration_seconds=2)
    finally:
        asyncio.run(broker.stop())
    assert done.devices == done.connections == 5
    assert done.sent == done.acked == done.puback.count > 25
    assert done.unacknowledged == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "credentials for 0 devices, wanted are 1"),
        ("not-a-uuid secret\n", "line 1"),
        (f"# devices\n{UUID}\n", "line 2"),
        (f"{UUID.upper()} secret\n", "line 1"),
    ],
)
def test_credentials_that_are_no_good_are_named(tmp_path: Path, text: str, words: str) -> None:
    credentials = tmp_path / "devices"
    credentials.write_text(text)
    with pytest.raises(InvalidArguments, match=words):
        simulate(1, credentials=credentials)


def test_one_way_of_getting_passwords_is_needed(tmp_path: Path) -> None:
    for given in ({}, {"credentials": tmp_path / "devices", "password": "secret"}):
        with pytest.raises(InvalidArguments, match="either a file of credentials or one password"):
            simulate(1, **given)


@pytest.mark.parametrize("given", [{"cert": "x"}, {"key": "x"}, {"insecure": True}])
def test_what_only_makes_sense_with_tls_is_refused_without_a_ca(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidArguments, match="--ca"):
        simulate(1, **{"password": "secret", **given})
