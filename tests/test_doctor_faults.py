"""``infoscreen doctor`` as a process, beside faults that are really there: sentence, advice, exit code 1."""

import asyncio
import os
import ssl
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from infoscreen.clock import SystemClock
from infoscreen.domain.notifying import ChannelKind
from infoscreen.pki.authority import Authority
from infoscreen.storage import schema
from infoscreen.storage.engine import Store
from infoscreen.storage.notify import channels
from infoscreen.storage.notify.channels import StoredChannel
from tests.disks import fill, mounted
from tests.programs import cannot_run, find_free_port, require
from tests.waiting import DEADLINE_SECONDS

CHECKOUT = Path(__file__).parent.parent


class Installation:
    """A database that is in order, no daemon, and a broker that is not there; faults change what is not."""

    def __init__(self, directory: Path) -> None:
        self.database = directory / "infoscreen.db"
        self.before: list[str] = []
        """What the command is started with."""
        self.variables = {
            "DATABASE_URL": f"sqlite+aiosqlite:///{self.database}",
            "HTTP_PORT": str(find_free_port()),
            "MQTT_PORT": "1",
            "MQTT_USER": "daemon",
            "MQTT_PASSWORD": "never-shown",
        }

    async def doctor(self) -> tuple[int | None, str]:
        """Return the exit code and what was written."""
        running = await asyncio.create_subprocess_exec(
            *(*self.before, sys.executable, "-m", "infoscreen", "doctor"),
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(CHECKOUT), **self.variables},
            cwd=self.database.parent,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await asyncio.wait_for(running.communicate(), 3 * DEADLINE_SECONDS)
        return running.returncode, output.decode()


@asynccontextmanager
async def full_disk(here: Installation) -> AsyncIterator[None]:
    with mounted(here.database.parent / "small", "20M") as disk:
        here.database = disk / "infoscreen.db"
        here.variables["DATABASE_URL"] = f"sqlite+aiosqlite:///{here.database}"
        await schema.upgrade(here.variables["DATABASE_URL"])
        fill(disk)
        yield


@asynccontextmanager
async def wrong_owner(here: Installation) -> AsyncIterator[None]:
    if os.geteuid() != 0:
        cannot_run("only root can give a file away")
    os.chown(here.database, 65_534, 65_534)
    yield


@asynccontextmanager
async def damaged_database(here: Installation) -> AsyncIterator[None]:
    with here.database.open("r+b") as file:
        file.seek(4096 * 3)
        file.write(os.urandom(4096 * 4))
    yield


@asynccontextmanager
async def clock_of_2001(here: Installation) -> AsyncIterator[None]:
    here.before = [require("faketime"), "2001-01-01 00:00:00"]
    yield


@asynccontextmanager
async def no_database(here: Installation) -> AsyncIterator[None]:
    here.variables["DATABASE_URL"] = "postgresql+asyncpg://infoscreen:never-shown@127.0.0.1:1/infoscreen"
    yield


@asynccontextmanager
async def no_fault(here: Installation) -> AsyncIterator[None]:
    yield


@asynccontextmanager
async def printer_on_the_port(here: Installation) -> AsyncIterator[None]:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.0 200 OK\r\nContent-Type: text/html\r\n\r\n<h1>A printer</h1>")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", int(here.variables["HTTP_PORT"])):
        yield


@asynccontextmanager
async def failing_channel(here: Installation) -> AsyncIterator[None]:
    store = Store(f"sqlite+aiosqlite:///{here.database}")
    store.open()
    channel = StoredChannel(
        name="Mail\n",
        kind=ChannelKind.APPRISE,
        target="mailtos://...",
        sealed_url="",
        language="de",
        created_at=SystemClock().now(),
        failing_since=SystemClock().now(),
        last_error="failed 535",
    )
    async with store.write() as connection:
        await channels.add(connection, channel)
    await store.close()
    yield


def certificate_of(days: int) -> Callable[[Installation], AbstractAsyncContextManager[None]]:
    """Return a fault: the broker presents a certificate that was issued so many days ago, for a year."""

    @asynccontextmanager
    async def broker(here: Installation) -> AsyncIterator[None]:
        now = SystemClock().now() - timedelta(days=days)
        authority = Authority.create(here.database.parent / "pki", now)
        pair = authority.issue_server(["localhost"], now)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(pair.certificate, pair.key)
        here.variables |= {
            "MQTT_HOST": "localhost",
            "MQTT_TLS_ENABLED": "true",
            "MQTT_TLS_CA_CERT": str(authority.bundle),
        }
        async with await asyncio.start_server(
            lambda _, writer: writer.close(), "localhost", 0, ssl=context
        ) as server:
            here.variables["MQTT_PORT"] = str(server.sockets[0].getsockname()[1])
            yield

    return broker


@pytest.mark.parametrize(
    ("fault", "said", "advised"),
    [
        (full_disk, "fail  0.0 GB are free", "Make room, or lower RETENTION_DAYS."),
        (wrong_owner, "infoscreen.db belongs to nobody, its directory to root", "chown --reference="),
        (damaged_database, "fail  database is damaged", "restore a backup."),
        (clock_of_2001, "clock is wrong: it says 2001-01-01", "timedatectl set-ntp true"),
        (
            no_database,
            "The database cannot be reached (ECONNREFUSED)",
            "Check DATABASE_URL, and that the database runs",
        ),
        (no_fault, "fail  broker: cannot connect to 127.0.0.1:1", "Start the broker, or correct the MQTT_"),
        (failing_channel, "warn  notifications to Mail\\n fail since", "Correct its address in the panel"),
        (no_fault, "fail  the daemon does not run", "`systemctl start infoscreen`"),
        (no_fault, "fail  nobody can sign in as admin", "Run `infoscreen user add NAME --role admin`."),
        (printer_on_the_port, "fail  something else answers at 127.0.0.1", "Stop it, or set HTTP_PORT."),
        (
            certificate_of(400),
            "the broker's certificate or its CA has expired",
            "Renew it with `infoscreen pki renew`",
        ),
        (certificate_of(-30), "certificate or its CA is not valid yet", "Is this host's clock right?"),
    ],
)
async def test_a_fault_is_named_with_what_to_do(
    tmp_path: Path,
    fault: Callable[[Installation], AbstractAsyncContextManager[None]],
    said: str,
    advised: str,
) -> None:
    here = Installation(tmp_path)
    await schema.upgrade(here.variables["DATABASE_URL"])
    async with fault(here):
        code, output = await here.doctor()
    (found,) = [line for line in output.splitlines() if said in line]
    assert advised in found
    assert code == 1
    assert "Traceback" not in output
    assert "never-shown" not in output
