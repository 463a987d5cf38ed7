"""Failed logins, the canary and takeovers: what the daemon notices of its broker."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NoReturn

import pytest

from infoscreen.clock import SystemClock
from infoscreen.domain.errors import BrokerUnavailable, SessionTakenOver
from infoscreen.mqtt import diagnosis
from infoscreen.mqtt.connection import TAKEN_OVER_FOR, BrokerAddress, Reconnecting
from infoscreen.mqtt.login_log import LINES_PER_ADDRESS, WINDOW, LoginLog
from infoscreen.mqtt.monitor import BrokerMonitor
from infoscreen.mqtt.publisher import BrokerPublisher
from infoscreen.provisioning.broker_files import PROBE_ACCOUNT
from tests import brokers
from tests.broker import Broker, RefusedByBroker
from tests.daemon import Daemon, ask_until, installed
from tests.doors import running
from tests.fakes import FakeClock
from tests.programs import find_free_port
from tests.waiting import DEADLINE_SECONDS, until

DEVICE = "3f2504e0-4f89-41d3-9a0c-0305e82c3301"
OTHER = "9b2c1d4e-7a66-4f0e-8d51-6c1b2a3f4e5d"


@pytest.fixture(params=brokers.programs())
async def site(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Broker]:
    """Yield a broker of either version that knows two devices."""
    program = brokers.program(request.param)
    broker = Broker(tmp_path / "broker", find_free_port(), program=program)
    await broker.add_devices([DEVICE, OTHER])
    async with broker.running():
        yield broker


def address_at(site: Broker, account: str = Broker.server_user) -> BrokerAddress:
    return BrokerAddress(site.host, site.port, account, site.passwords[account], account)


@asynccontextmanager
async def watching(site: Broker) -> AsyncIterator[BrokerMonitor]:
    clock = SystemClock()
    monitor = BrokerMonitor(address_at(site), clock, probe=address_at(site, PROBE_ACCOUNT), alarm_from=5)
    async with running(monitor.run):
        yield monitor


# Lines of the log.


def opened(peer: str, port: int = 8883) -> str:
    return f"New connection from {peer} on port {port}."


def logged_in(peer: str, name: str = "x") -> str:
    return f"New client connected from {peer} as {name} (p2, c1, k60, u'{name}')."


OLD = "Client <unknown> disconnected, not authorised."
NEWER = f"Client {DEVICE} disconnected, not authorised."


def heard(lines: list[str], clock: FakeClock, stamp: str = "1795771495: ") -> LoginLog:
    refused = LoginLog(clock, alarm_from=3)
    for line in lines:
        refused.note(f"{stamp}{line}".encode())
    return refused


@pytest.mark.parametrize("stamp", ["1795771495: ", "2026-11-27T09:51:58: ", "2026-11-27T09:51:58+0100: ", ""])
@pytest.mark.parametrize("failure", [OLD, NEWER])
@pytest.mark.parametrize("host", ["192.0.2.7", "2001:db8::7", "::1"])
def test_a_failed_login_gets_the_address_of_the_only_open_connection(
    clock: FakeClock, host: str, failure: str, stamp: str
) -> None:
    found = heard(
        [opened("192.0.2.1:1"), logged_in("192.0.2.1:1"), opened(f"{host}:4711"), failure], clock, stamp
    )
    assert (found.shown().recent, found.shown().address) == (1, host)


def test_version_2_1_says_the_address_itself(clock: FakeClock) -> None:
    lines = [opened("192.0.2.1:1"), opened("192.0.2.7:2")]
    lines += ["Client evil [192.0.2.7:2] disconnected: not authorised."]
    assert heard(lines, clock).shown().address == "192.0.2.7"
    lines = ["Client evil [2001:db8::7:4711] disconnected: not authorised."]
    assert heard(lines, clock).shown().address == "2001:db8::7"


def test_who_is_just_connecting_is_not_blamed(clock: FakeClock) -> None:
    lines = [opened("192.0.2.1:1"), opened("192.0.2.7:2"), OLD, logged_in("192.0.2.1:1")]
    found = heard(lines, clock)
    assert (found.shown().recent, found.shown().address) == (1, None)


def test_many_connections_of_one_address_are_one_suspect(clock: FakeClock) -> None:
    lines = [opened(f"192.0.2.7:{port}") for port in range(1, 9)] + [OLD] * 8
    found = heard(lines, clock).shown()
    assert (found.recent, found.address, found.alarm) == (8, "192.0.2.7", True)


@pytest.mark.parametrize(
    "name",
    [
        "x [192.0.2.9:1] disconnected: not authorised.",
        "x, not authorised.",
        "New connection from 192.0.2.9:1 on port 1.",
        "x as y (p2, c1)",
    ],
)
def test_a_client_id_cannot_put_the_blame_on_somebody_else(clock: FakeClock, name: str) -> None:
    for ending in (" disconnected, not authorised.", " [192.0.2.7:2] disconnected: not authorised."):
        found = heard([opened("192.0.2.7:2"), f"Client {name}{ending}"], clock).shown()
        assert (found.recent, found.address) == (1, "192.0.2.7")
    connected = f"New client connected from 192.0.2.7:2 as {name} (p2, c1, k60, u'x')."
    assert (
        heard([opened("192.0.2.7:2"), connected, f"Client {name} closed its connection."], clock)
        .shown()
        .recent
        == 0
    )


def test_old_failures_and_old_connections_are_forgotten(clock: FakeClock) -> None:
    found = heard([opened("192.0.2.1:1")], clock)
    clock.advance(60)
    for line in (opened("192.0.2.7:2"), OLD):
        found.note(line.encode())
    assert found.shown().address == "192.0.2.7"
    clock.advance(WINDOW.total_seconds() + 1)
    assert found.shown().recent == 0


def test_a_flood_of_failures_is_bounded_in_lines_and_memory(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        found = heard([opened("192.0.2.7:2"), OLD] * 500, clock)
        for number in range(20_000):
            found.note(opened(f"10.{number % 200}.{number // 200 % 200}.1:{number}").encode())
    assert (
        len([line for line in caplog.messages if line == "mqtt auth failure from 192.0.2.7"])
        == LINES_PER_ADDRESS
    )
    assert found.shown().recent == 500
    assert len(found._open) <= 10_000


# On real brokers.


@pytest.mark.broker
async def test_wrong_passwords_are_counted_with_their_address(
    site: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    async with watching(site) as monitor:
        await until(lambda: monitor.health().acl == "in_force")
        right, site.passwords[DEVICE] = site.passwords[DEVICE], "guessed"
        with caplog.at_level(logging.WARNING):
            for _ in range(6):
                with pytest.raises(RefusedByBroker):
                    await site.pub(f"infoscreen/{DEVICE}/heartbeat", b"{}")
            await until(lambda: monitor.health().failed_logins == 6)
        site.passwords[DEVICE] = right
        await site.pub(f"infoscreen/{DEVICE}/heartbeat", b"{}")
        health = monitor.health()
    assert (health.failed_logins_address, health.failed_logins_alarm) == ("127.0.0.1", True)
    assert caplog.messages.count("mqtt auth failure from 127.0.0.1") == 6


@pytest.mark.broker
@pytest.mark.parametrize("damage", ["missing", "broken"])
async def test_the_canary_finds_an_acl_that_a_reload_has_switched_off(site: Broker, damage: str) -> None:
    """mosquitto 2.0 fails open; should a version fail closed, this test says so."""
    async with watching(site) as monitor:
        await until(lambda: monitor.health().acl == "in_force")
        acl = site.files.acl.read_bytes()
        site.files.acl.unlink()
        if damage == "broken":
            site.files.acl.write_text("pattern\n")
        await site.reload()
        await until(lambda: monitor.health().acl == "open")
        since = monitor.health().acl_open_since
        site.files.acl.write_bytes(acl)
        await site.reload()
        await until(lambda: monitor.health().acl == "in_force")
    assert since is not None
    assert monitor.health().acl_open_since is None


@pytest.mark.broker
async def test_a_reload_with_nothing_wrong_is_checked_too(site: Broker) -> None:
    async with watching(site) as monitor:
        await until(lambda: monitor.health().acl == "in_force")
        first = monitor.health().acl_checked_at
        await site.reload()
        await until(lambda: monitor.health().acl_checked_at != first)
        assert monitor.health().acl == "in_force"


@pytest.mark.broker
async def test_a_monitor_that_ends_leaves_no_task_behind(site: Broker) -> None:
    before = asyncio.all_tasks()
    async with watching(site) as monitor:
        await until(lambda: monitor.health().acl == "in_force")
    await until(lambda: asyncio.all_tasks() == before)


@pytest.mark.broker
async def test_the_canary_is_no_message_of_a_device(site: Broker) -> None:
    async with site.sub("infoscreen/+/commands", account=DEVICE) as device, watching(site) as monitor:
        await until(lambda: monitor.health().acl == "in_force")
        await site.pub(f"infoscreen/{DEVICE}/commands", b"real", account=site.server_user)
        assert (await device.next()).payload == b"real"


def takeovers(daemon: Daemon) -> int:
    return sum(line["connection"] == "listener" for line in daemon.logged("broker_taken_over"))


@pytest.mark.broker
@pytest.mark.slow
async def test_two_daemons_with_one_client_id_say_so_and_back_off(tmp_path: Path, site: Broker) -> None:
    async with (
        installed(tmp_path / "one", site) as one,
        installed(tmp_path / "two", site) as two,
        one.program() as api,
    ):
        await one.start()
        await two.launch()
        await until(lambda: takeovers(one) > 1, within=90)
        await ask_until(api, "/api/monitoring/overview", lambda seen: seen["broker"]["taken_over_at"])
        ready = await one.wait_for("/readyz", 503)
        assert "broker" in ready["faults"]
        async with one.visitor() as visitor, visitor.get("/metrics") as answer:
            assert "infoscreen_mqtt_taken_over 1.0" in await answer.text()
        said = one.logged("broker_taken_over")
        assert said[0]["client_id"].startswith("infoscreen-server")
        pauses = [line["retry_seconds"] for line in said if line["connection"] == "listener"]
        assert min(pauses) >= 5


@pytest.mark.broker
async def test_over_mqtt_5_one_takeover_is_enough_to_know(site: Broker) -> None:
    publishers = [BrokerPublisher(address_at(site), SystemClock()) for _ in range(2)]
    async with running(publishers[0].run):
        await until(lambda: publishers[0].connected)
        async with running(publishers[1].run):
            await until(lambda: not publishers[0].connected)
            await until(lambda: "MQTT_CLIENT_ID" in str(publishers[0].last_error))


# Takeovers, without a broker.


async def outcomes(
    clock: FakeClock, endings: list[tuple[float | None, BrokerUnavailable]], *, listens: bool = True
) -> Reconnecting:
    """Make connections that last so long, None for not at all, and end like that.

    ``listens``: somebody listens at the broker's port after each end.
    """
    waiting = asyncio.Event()

    async def answers(address: BrokerAddress) -> bool:
        return listens

    async def connection() -> NoReturn:
        if not endings:
            waiting.set()
            await asyncio.Event().wait()
        lasts, error = endings.pop(0)
        if lasts is not None:
            link.up()
            clock.advance(lasts)
        raise error

    link = Reconnecting("listener", BrokerAddress("h", 1, "u", "p", "c"), clock, lambda: None, answers)
    async with running(lambda: link.run(connection)):
        while not waiting.is_set():
            await clock.wait_for_sleepers()
            clock.advance(400)
            await asyncio.sleep(0)
    return link


CLOSED = BrokerUnavailable("the connection was lost: closed by the other side")
REFUSED = BrokerUnavailable("cannot connect: Connection refused")
TAKEN = SessionTakenOver("taken")


@pytest.mark.parametrize(
    ("endings", "recognised"),
    [
        ([(1, CLOSED)] * 4, True),
        ([(1, CLOSED)] * 3, False),  # once may be our own connection, half dead
        ([(1, TAKEN)] * 2, True),
        ([(60, TAKEN)] * 2, True),
        ([(1, TAKEN)], False),
        ([(1, CLOSED), (None, REFUSED)] * 5, False),  # a broker that restarts again and again
        ([(60, CLOSED)] * 5, False),
        ([(None, REFUSED)] * 9, False),
    ],
)
async def test_being_closed_right_after_connecting_again_and_again_is_a_takeover(
    clock: FakeClock, endings: list[tuple[float | None, BrokerUnavailable]], recognised: bool
) -> None:
    link = await outcomes(clock, list(endings))
    assert (link.taken_over_at is not None) is recognised


async def test_a_broker_that_is_killed_again_and_again_is_no_takeover(clock: FakeClock) -> None:
    link = await outcomes(clock, [(1, CLOSED)] * 9, listens=False)
    assert link.taken_over_at is None
    assert link.last_error == str(CLOSED)


@pytest.mark.broker
async def test_whether_anybody_listens_is_told(site: Broker) -> None:
    address = address_at(site)
    assert await diagnosis.answers(address)
    await site.kill()
    assert not await diagnosis.answers(address)


async def test_a_takeover_is_shown_for_a_while(clock: FakeClock) -> None:
    link = await outcomes(clock, [(1, TAKEN)] * 2)
    clock.advance(TAKEN_OVER_FOR.total_seconds())
    assert link.taken_over_at is None


@pytest.mark.parametrize("times", [2, 4, 6, 9])
async def test_a_takeover_is_over_once_the_other_one_would_have_come_back(
    clock: FakeClock, times: int
) -> None:
    """It waits as long as we do, give or take a doubling, and 300 s at most."""
    link = await outcomes(clock, [(1, TAKEN)] * times)
    longest = min(10 * 2**times, 300)
    link.up()
    clock.advance(longest)
    assert link.taken_over_at is not None
    clock.advance(16)
    assert link.taken_over_at is None


class UnexpectedTrouble(Exception):
    """Stands for a mistake of ours."""


@pytest.mark.broker
async def test_an_unexpected_error_in_the_check_of_the_acl_ends_the_part_and_is_not_lost(
    tmp_path: Path, broker: Broker
) -> None:
    def fails() -> None:
        raise UnexpectedTrouble

    probe = address_at(broker, PROBE_ACCOUNT)
    monitor = BrokerMonitor(address_at(broker), SystemClock(), probe=probe, alarm_from=5, on_change=fails)
    async with asyncio.timeout(DEADLINE_SECONDS):
        with pytest.raises(UnexpectedTrouble):
            await monitor.run()
