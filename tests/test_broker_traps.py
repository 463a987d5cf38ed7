"""What mosquitto 2.0 does that nobody expects, on both versions; should one mend it, a test here says so."""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest

from infoscreen.provisioning import broker_process, devices
from infoscreen.wire import topics
from tests import brokers
from tests.broker import Broker, RefusedByBroker
from tests.programs import find_free_port

pytestmark = pytest.mark.broker

DEVICE = "3f2504e0-4f89-41d3-9a0c-0305e82c3301"
OTHER = "9b2c1d4e-7a66-4f0e-8d51-6c1b2a3f4e5d"
HEARTBEAT = topics.heartbeat(DEVICE)
SESSION = Broker.server_user


@pytest.fixture(params=brokers.programs())
async def site(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Broker]:
    """Yield a broker of either version that knows two devices and holds a session for the daemon."""
    program = brokers.program(request.param)
    broker = Broker(tmp_path / "broker", find_free_port(), program=program)
    await broker.add_devices([DEVICE, OTHER])
    async with broker.running():
        async with broker.sub(HEARTBEAT, account=broker.server_user, session=SESSION):
            pass
        yield broker


async def queued(site: Broker) -> list[bytes]:
    """Return what waits for the daemon, up to a last message."""
    async with site.sub(HEARTBEAT, account=site.server_user, session=SESSION) as daemon:
        await site.pub(HEARTBEAT, b"last")
        found: list[bytes] = []
        while b"last" not in found:
            found.append((await daemon.next()).payload)
        return found[:-1]


async def test_a_reload_alone_costs_an_absent_daemon_nothing(site: Broker) -> None:
    await site.pub(HEARTBEAT, b"before")
    await site.reload()
    await site.pub(HEARTBEAT, b"after")
    assert await queued(site) == [b"before", b"after"]


async def test_a_restart_alone_costs_an_absent_daemon_nothing(site: Broker) -> None:
    await site.pub(HEARTBEAT, b"before")
    await site.restart()
    await site.pub(HEARTBEAT, b"after")
    assert await queued(site) == [b"before", b"after"]


async def test_a_reload_after_a_restart_costs_an_absent_daemon_what_comes_then(site: Broker) -> None:
    """So nothing of ours reloads while the daemon is away: see ``broker_process.daemon_is_connected``."""
    await site.pub(HEARTBEAT, b"before")
    await site.restart()
    await site.reload()
    await site.pub(HEARTBEAT, b"lost")
    await site.restart()  # which reads the rules for the session again
    await site.pub(HEARTBEAT, b"after")
    assert await queued(site) == [b"before", b"after"]


async def test_whether_the_daemon_is_there_is_seen_from_its_connections(site: Broker) -> None:
    assert not broker_process.daemon_is_connected(site.files)
    async with (
        site.sub(HEARTBEAT, account=site.server_user),
        site.sub(HEARTBEAT, account=site.server_user),
    ):
        assert not broker_process.daemon_is_connected(site.files)
        async with site.sub(HEARTBEAT, account=site.server_user):
            assert broker_process.daemon_is_connected(site.files)


async def test_an_account_added_while_the_broker_reads_its_files_is_accepted(site: Broker) -> None:
    """mosquitto forgets a SIGHUP that arrives while it carries out another one."""
    with site.files.acl.open("a") as rules:  # the time to read them grows with the square of their number
        rules.writelines(f"user {number:05}\ntopic read {number}\n" for number in range(8000))
    for _ in range(3):
        assert await asyncio.to_thread(broker_process.reload, site.files)
        added = str(uuid4())
        with devices.adding(site.files, [added], replace=True) as accounts:
            pass
        site.passwords.update(accounts.passwords)
        assert await asyncio.to_thread(broker_process.reload, site.files)
        await site.pub(topics.heartbeat(added), b"{}")


async def test_a_broker_with_a_broken_acl_file_does_not_start(site: Broker) -> None:
    await site.stop()
    site.files.acl.write_text("pattern\n")
    with pytest.raises(RuntimeError, match="did not start"):
        await site.start()
    site._process = None


async def test_a_missing_password_file_locks_everybody_out(site: Broker) -> None:
    content = site.files.passwords.read_bytes()
    site.files.passwords.unlink()
    await site.reload()
    with pytest.raises(RefusedByBroker):
        await site.pub(HEARTBEAT, b"{}")
    site.files.passwords.write_bytes(content)
    await site.reload()
    await site.pub(HEARTBEAT, b"{}")


async def test_a_broken_line_of_the_password_file_locks_one_out_and_nobody_says_so(site: Broker) -> None:
    lines = site.files.passwords.read_text().splitlines(keepends=True)
    broken = [f"{DEVICE}:nonsense\n" if line.startswith(DEVICE) else line for line in lines]
    site.files.passwords.write_text("".join(broken))
    await site.reload()
    with pytest.raises(RefusedByBroker):
        await site.pub(HEARTBEAT, b"{}")
    await site.pub(topics.heartbeat(OTHER), b"{}")


async def test_a_forbidden_subscription_is_granted_and_a_forbidden_publication_acknowledged(
    site: Broker,
) -> None:
    async with site.sub(topics.commands(OTHER), account=DEVICE):
        pass
    await site.pub(topics.heartbeat(OTHER), b"forged", account=DEVICE)
    assert await queued(site) == []


async def test_on_a_listener_with_free_client_ids_one_account_can_end_anothers_connection(
    site: Broker,
) -> None:
    """Why devices have a listener of their own."""
    async with site.sub(topics.commands(DEVICE), account=DEVICE, session="same") as victim:
        async with site.sub(topics.commands(OTHER), account=OTHER, session="same"):
            pass
        assert site.log.count("already connected, closing old connection") >= 1
        assert victim is not None


@pytest.mark.parametrize("setting", ["per_listener_settings true"])
async def test_settings_per_listener_cost_an_absent_daemon_its_queue_in_one_version_at_least(
    tmp_path: Path, setting: str
) -> None:
    """Why mosquitto.conf leaves them off."""
    found = {}
    for name in brokers.programs():
        broker = Broker(tmp_path / name.replace(" ", "-"), find_free_port(), program=brokers.program(name))
        text = broker.files.rules.read_text()
        rules = [line for line in text.splitlines() if not line.startswith(("allow_", "password_", "acl_"))]
        mine = [line for line in text.splitlines() if line.startswith(("allow_", "password_", "acl_"))]
        place = next(number for number, line in enumerate(rules) if line.startswith("listener "))
        changed = [setting, *rules[: place + 1], *mine, *rules[place + 1 :]]
        broker.files.rules.write_text("\n".join(changed) + "\n")
        await broker.add_device(DEVICE)
        async with broker.running():
            async with broker.sub(HEARTBEAT, account=broker.server_user, session=SESSION):
                pass
            await broker.reload()
            await broker.pub(HEARTBEAT, b"after")
            found[name] = await queued(broker)
    assert [] in found.values(), found


async def test_a_killed_broker_does_not_come_back_with_an_open_acl(site: Broker) -> None:
    await site._end(signal.SIGKILL)
    await site.start()
    await site.pub(topics.heartbeat(OTHER), b"forged", account=DEVICE)
    assert await queued(site) == []
