"""``infoscreen doctor``, beside a daemon and a broker that are really there."""

import asyncio
import signal
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientError, ClientSession

from infoscreen.doctor import CheckStatus, examine, line
from infoscreen.domain.accounts import Role
from infoscreen.provisioning.broker_files import PROBE_ACCOUNT
from infoscreen.services.accounts import CLI, Accounts
from infoscreen.services.passwords import Passwords
from infoscreen.storage import schema
from infoscreen.storage.engine import Store
from tests.broker import Broker
from tests.commands import CommandLine
from tests.fakes import FakeClock
from tests.programs import find_free_port
from tests.waiting import DEADLINE_SECONDS
from tests.web import PASSWORD, QUICK_HASHER


@pytest.fixture
def http_port() -> int:
    """Not ``free_port``, which is the broker's."""
    return find_free_port()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, http_port: int) -> CommandLine:
    directory = tmp_path / "work"
    directory.mkdir()
    line = CommandLine(directory, monkeypatch)
    line.give(f"DATABASE_URL=sqlite+aiosqlite:///{directory}/infoscreen.db", f"HTTP_PORT={http_port}")
    return line


@pytest.fixture
async def store(here: CommandLine) -> Any:
    url = f"sqlite+aiosqlite:///{here.directory}/infoscreen.db"
    await schema.upgrade(url)
    store = Store(url)
    yield store
    await store.close()


@pytest.fixture
async def admin(store: Store) -> None:
    passwords = Passwords(QUICK_HASHER)
    await Accounts(store, FakeClock(), passwords).add_user("anna", PASSWORD, Role.ADMIN, CLI)
    passwords.close()


def know_broker(here: CommandLine, broker: Broker) -> None:
    here.give(
        f"MQTT_PORT={broker.port}",
        f"MQTT_USER={broker.server_user}",
        f"MQTT_PASSWORD={broker.server_password}",
        f"MQTT_PROBE_PASSWORD={broker.passwords[PROBE_ACCOUNT]}",
    )


async def found(verdict: CheckStatus) -> list[str]:
    return [finding.what for finding in await examine() if finding.verdict is verdict]


async def test_on_an_empty_machine_it_says_what_to_do(here: CommandLine, http_port: int) -> None:
    lines = [line(finding) for finding in await examine()]
    assert any(text.startswith("fail  MQTT_USER is not set") for text in lines)
    assert any(text.startswith("fail") and "Run `infoscreen db upgrade`." in text for text in lines)
    assert any(
        f"fail  the daemon does not run: nobody listens at 127.0.0.1:{http_port}" in text for text in lines
    )


async def test_settings_that_cannot_be_read_end_the_examination_early(here: CommandLine) -> None:
    here.give("HTTP_PORT=high")
    assert "HTTP_PORT=high (environment): allowed is a port, 1 to 65535" in await found(CheckStatus.FAIL)


async def test_its_exit_code_tells_whether_something_failed(here: CommandLine) -> None:
    process = await here.start("doctor", "--json")
    out, _ = await asyncio.wait_for(process.communicate(), DEADLINE_SECONDS)
    assert process.returncode == 1
    assert b'"verdict": "fail"' in out


@pytest.mark.broker
@pytest.mark.usefixtures("admin")
async def test_it_finds_nothing_wrong_where_nothing_is(here: CommandLine, broker: Broker) -> None:
    know_broker(here, broker)
    assert [what for what in await found(CheckStatus.FAIL) if "does not run" not in what] == []
    well = await found(CheckStatus.OK)
    assert "settings are right" in well
    assert "database is migrated, whole and can be written" in well
    assert "there is an admin who can sign in" in well
    assert f"broker at 127.0.0.1:{broker.port} lets the daemon in" in well
    assert "broker requires an account" in well
    assert "the broker's ACL is in force" in well


@pytest.mark.broker
@pytest.mark.usefixtures("store")
async def test_it_finds_a_wrong_password_and_a_missing_admin(here: CommandLine, broker: Broker) -> None:
    know_broker(here, broker)
    here.give("MQTT_PASSWORD=not-this-one")
    failed = await found(CheckStatus.FAIL)
    assert failed[0] == "nobody can sign in as admin"
    assert "refused the connection" in failed[1]
    assert "not-this-one" not in str(failed)


@pytest.mark.broker
@pytest.mark.usefixtures("admin")
async def test_it_finds_a_broker_that_lets_in_anybody(here: CommandLine, broker: Broker) -> None:
    know_broker(here, broker)
    await broker.stop()
    broker.reconfigure("allow_anonymous false", "allow_anonymous true")
    await broker.start()
    assert (await found(CheckStatus.FAIL))[0] == "broker accepts connections without an account"


@pytest.mark.broker
@pytest.mark.usefixtures("admin")
async def test_it_finds_an_acl_that_is_not_in_force(here: CommandLine, broker: Broker) -> None:
    know_broker(here, broker)
    broker.files.acl.unlink()
    await broker.reload()
    assert "the broker's ACL is not in force: devices can do anything" in await found(CheckStatus.FAIL)
    here.give("MQTT_PROBE_PASSWORD=guessed")
    assert any("cannot be checked" in failed for failed in await found(CheckStatus.FAIL))


@pytest.mark.usefixtures("admin")
async def test_it_finds_a_broker_that_is_not_there(here: CommandLine) -> None:
    here.give("MQTT_PORT=1", "MQTT_USER=daemon", "MQTT_PASSWORD=hidden")
    failed = await found(CheckStatus.FAIL)
    assert "cannot connect to 127.0.0.1:1" in failed[0]
    assert "the daemon does not run" in failed[1]


@pytest.mark.usefixtures("admin")
async def test_it_finds_something_else_on_the_port(here: CommandLine, http_port: int) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.0 200 OK\r\nContent-Type: text/html\r\n\r\n<h1>A printer</h1>")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(answer, "127.0.0.1", http_port):
        assert f"something else answers at 127.0.0.1:{http_port}" in await found(CheckStatus.FAIL)


@pytest.mark.usefixtures("store")
async def test_it_finds_an_address_that_is_not_this_host(here: CommandLine) -> None:
    here.give("HTTP_HOST=no-such-host.invalid")
    assert any("cannot listen on no-such-host.invalid" in what for what in await found(CheckStatus.FAIL))


@pytest.mark.slow
@pytest.mark.usefixtures("admin")
async def test_it_meets_a_daemon_that_serves_without_a_broker_until_told_to_stop(
    here: CommandLine, http_port: int
) -> None:
    here.give("MQTT_USER=daemon", "MQTT_PASSWORD=hidden", "MQTT_PORT=1", "LOG_FORMAT=json")
    process = await here.start("serve")
    try:
        async with ClientSession() as session, asyncio.timeout(DEADLINE_SECONDS):
            while not await answers(session, f"http://127.0.0.1:{http_port}/healthz"):
                assert process.returncode is None
        assert f"daemon answers at 127.0.0.1:{http_port}" in await found(CheckStatus.OK)
        second = await here.start("serve")
        _, err = await asyncio.wait_for(second.communicate(), DEADLINE_SECONDS)
        assert second.returncode == 1
        assert f"Cannot listen on 127.0.0.1:{http_port}".encode() in err
        process.send_signal(signal.SIGTERM)
        out, err = await asyncio.wait_for(process.communicate(), DEADLINE_SECONDS)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert (process.returncode, out) == (0, b"")
    assert all(text.startswith(b"{") for text in err.splitlines()), err.decode()


async def answers(session: ClientSession, url: str) -> bool:
    try:
        async with session.get(url) as response:
            return response.status == 200
    except ClientError:
        await asyncio.sleep(0.05)
        return False


@pytest.mark.broker
async def test_simulate_plays_devices_for_a_while_and_prints_figures(
    here: CommandLine, broker: Broker
) -> None:
    devices = await broker.add_devices(f"00000000-0000-4000-8000-{number:012d}" for number in range(3))
    lines = "".join(f"{uuid} {password}\n" for uuid, password in devices.items())
    (here.directory / "devices").write_text(lines)
    process = await here.start(
        *("simulate", "--clients", "3", "--port", str(broker.port), "--credentials", "devices"),
        *("--heartbeat", "0.2", "--start-within", "0.1", "--duration", "1.5", "--fault", "crash=0.5"),
    )
    out, err = await asyncio.wait_for(process.communicate(), DEADLINE_SECONDS)
    assert process.returncode == 0, err.decode()
    assert b"devices" in out


def test_simulate_refuses_a_fault_that_does_not_exist(here: CommandLine) -> None:
    done = here.run("simulate", "--clients", "3", "--fault", "boredom=0.5", "--password", "x")
    assert done.code == 2
    assert "is no fault; there are crash" in done.err
