"""While the daemon is away, one device's bulk fills its own queue at the broker and nobody else's."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from benchmarks.line import line
from infoscreen.clock import SystemClock
from infoscreen.mqtt.dropped import TOPIC, Dropped
from infoscreen.mqtt.listener import Listener
from infoscreen.mqtt.listening import ListeningClient
from infoscreen.mqtt.publisher import BrokerPublisher
from infoscreen.wire import topics
from infoscreen.wire.topics import BULK_FILTERS, DEVICE_FILTERS, STATE_FILTERS
from tests.api import ask
from tests.broker import Broker
from tests.daemon import ask_until, installed
from tests.doors import Shelf, address_of, eventually, listening, running
from tests.fakes import FakeClock
from tests.holding import locked
from tests.spine import uuid_of
from tests.waiting import until

pytestmark = [pytest.mark.broker, pytest.mark.slow]

FLOODER, OTHERS = uuid_of(666), [uuid_of(number) for number in range(1, 11)]
QUEUE = 500
PICTURE = b"\xff\xd8\xff" + bytes(2_000) + b"\xff\xd9"
NOW = "2026-03-02T07:00:00Z"


@pytest.fixture
async def broker(tmp_path: Path, free_port: int) -> AsyncIterator[Broker]:
    """Yield a broker with short queues, that tells often how many messages it dropped."""
    made = Broker(tmp_path / "broker", free_port, save_every_change=False)
    text = made.files.rules.read_text()
    text, changed = re.subn(r"max_queued_messages \d+", f"max_queued_messages {QUEUE}", text)
    text, also_changed = re.subn(r"max_inflight_messages \d+", f"max_inflight_messages {QUEUE}", text)
    assert (changed, also_changed) == (1, 1)
    made.files.rules.write_text(f"{text}\nsys_interval 1\n")
    await made.add_devices([FLOODER, *OTHERS])
    try:
        await made.start()
        yield made
    finally:
        await made.stop()


async def publish(broker: Broker, uuid: str, topic: str, *payloads: bytes) -> None:
    async with line(broker.port, uuid, uuid, broker.passwords[uuid]) as device:
        for payload in payloads:
            await device.room()
            device.publish(topic, payload)
        await device.settled()


def told(**fields: object) -> bytes:
    return json.dumps({"timestamp": NOW, **fields}).encode()


async def test_screenshots_of_one_push_no_acks_of_others_out_of_the_queue(
    tmp_path: Path, broker: Broker
) -> None:
    async with installed(tmp_path / "daemon", broker) as daemon, daemon.program() as api:
        await daemon.start()
        for uuid in (FLOODER, *OTHERS):
            await publish(broker, uuid, topics.heartbeat(uuid), told())
        await ask_until(api, "/api/clients", lambda page: len(page["items"]) == 1 + len(OTHERS))
        commands = {}
        for uuid in OTHERS:
            answer = await ask(
                api, "POST", f"/api/clients/{uuid}/commands", json={"action": "restart_app"}, status=202
            )
            commands[uuid] = answer["command"]["command_id"]
        for command_id in commands.values():
            await ask_until(
                api, f"/api/commands/{command_id}", lambda command: command["status"] == "published"
            )
        assert await daemon.stop() == 0
        await publish(broker, FLOODER, topics.screenshot(FLOODER), *[PICTURE] * 4 * QUEUE)
        for uuid, command_id in commands.items():
            ack = json.dumps({"command_id": command_id, "status": "completed"}).encode()
            await publish(broker, uuid, topics.acks(uuid)[0], ack)
        await daemon.start()
        for command_id in commands.values():
            await ask_until(
                api, f"/api/commands/{command_id}", lambda command: command["status"] == "completed"
            )
        overview = await ask_until(
            api, "/api/monitoring/overview", lambda overview: overview["broker"]["dropped"] > 0
        )
        assert overview["broker"]["dropped_at"] is not None
        assert len(daemon.logged("broker_dropped")) == 1
        async with api.get("/metrics") as metrics:
            assert re.search(r"infoscreen_broker_dropped_messages [1-9]", await metrics.text())
        assert await daemon.stop() == 0


async def test_an_older_session_is_rid_of_bulk_and_nothing_it_holds_is_lost(broker: Broker) -> None:
    address = address_of(broker)
    async with ListeningClient(address, None, 10**6) as before:
        asking = asyncio.ensure_future(before.subscribe_all(DEVICE_FILTERS))
        assert await before.answered(asking)
    await say_screenshot(broker, b"in the old queue")
    shelf, bulk_shelf = Shelf(), Shelf()
    clock = SystemClock()
    bulk = Listener(address_of(broker, "-bulk"), clock, bulk_shelf.store, BULK_FILTERS, role="bulk listener")
    listener = Listener(address, clock, shelf.store, STATE_FILTERS, moved=BULK_FILTERS, moved_to=bulk)
    async with listening(bulk), listening(listener):
        await eventually(lambda: b"in the old queue" in shelf.payloads)
        await eventually(lambda: listener.has_moved)
        await say_screenshot(broker, b"new")
        await eventually(lambda: b"new" in bulk_shelf.payloads)
        await publish(broker, FLOODER, topics.heartbeat(FLOODER), b"last")
        await eventually(lambda: b"last" in shelf.payloads)
    assert b"new" not in shelf.payloads


async def say_screenshot(broker: Broker, payload: bytes) -> None:
    await publish(broker, FLOODER, topics.screenshot(FLOODER), payload)


async def test_memory_is_bounded_while_the_database_is_held_and_pictures_pour_in(
    tmp_path: Path, free_port: int
) -> None:
    broker = Broker(tmp_path / "broker", free_port, save_every_change=False)
    await broker.add_devices([FLOODER, OTHERS[0]])
    await broker.start()
    budget = 32 * 2**20
    large, largest = bytes(1_000_000), b"\xff\xd8\xff" + bytes(512 * 1024 - 5) + b"\xff\xd9"
    try:
        async with (
            installed(tmp_path / "daemon", broker, MQTT_BUFFER_BYTES=budget) as daemon,
            daemon.program() as api,
        ):
            await daemon.start()
            await publish(broker, OTHERS[0], topics.heartbeat(OTHERS[0]), told())
            await ask_until(api, "/api/clients", lambda page: len(page["items"]) == 1)
            async with locked(daemon.database):
                await publish(broker, FLOODER, topics.screenshot(FLOODER), *[large, largest] * 100)
                await publish(broker, OTHERS[0], topics.heartbeat(OTHERS[0]), told(hostname="still here"))
                held = [0.0]

                async def measured() -> None:
                    async with daemon.visitor() as visitor, visitor.get("/metrics") as answer:
                        found = re.findall(
                            r'infoscreen_mqtt_(\w+)\{session="bulk"\} (\S+)', await answer.text()
                        )
                    values = {name: float(value) for name, value in found}
                    held.append(values["held_bytes"])
                    paused.append(values["paused"])

                paused: list[float] = []
                async with asyncio.timeout(20):
                    while not any(paused):
                        await measured()
                        await asyncio.sleep(0.05)
                await measured()
                assert max(held) <= budget / 2 + 2**20
                assert resident(daemon.pid) < 250
            path = f"/api/clients/{OTHERS[0]}"
            await ask_until(api, path, lambda client: client["hostname"] == "still here")
            await until(lambda: daemon.rows("SELECT 1 FROM screenshots"))
            assert resident(daemon.pid) < 250
            assert await daemon.stop() == 0
            assert "Traceback" not in daemon.log
    finally:
        await broker.stop()


def resident(pid: int) -> float:
    """Return the resident memory of a process in MiB."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


async def test_the_daemons_account_may_read_what_the_broker_dropped(broker: Broker) -> None:
    dropped = Dropped(SystemClock())
    readings: list[bytes] = []
    note = dropped.note
    dropped.note = lambda payload: (readings.append(payload), note(payload))[1]  # type: ignore[method-assign]
    publisher = BrokerPublisher(address_of(broker), SystemClock(), dropped=dropped)
    async with running(publisher.run):
        await eventually(lambda: readings)
    assert TOPIC.startswith("$SYS/")
    assert (dropped.total, dropped.at) == (0, None)


def test_a_loss_is_told_once_and_shown_for_a_day(clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    dropped = Dropped(clock)
    for reading in (b"0", b"0", b"7", b"9", b"not a number", b"9"):
        dropped.note(reading)
    assert (dropped.total, dropped.at) == (9, clock.now())
    assert [vars(record)["messages"] for record in caplog.records] == [7]
    clock.advance(24 * 3600 + 1)
    assert dropped.at is None
    dropped.note(b"2")  # the broker was restarted, and has dropped two since
    assert (dropped.total, dropped.at) == (2, clock.now())
    assert [vars(record)["messages"] for record in caplog.records] == [7, 2]
