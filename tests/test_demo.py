"""The demo as people run it: a process that prints where to look, and leaves nothing behind."""

import asyncio
import contextlib
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from infoscreen.demo.mailbox import mailbox
from infoscreen.demo.plan import find_mosquitto, http_port
from infoscreen.domain.errors import CannotStart
from tests.programs import require
from tests.waiting import until

pytestmark = [pytest.mark.broker, pytest.mark.slow]

START_SECONDS = 120
PARTS = ("serve", "simulate", "mosquitto", "helper")
CLIENTS = 12


@dataclass
class Demo:
    """A running demo; ``url``, ``password`` and ``mailbox`` are what it printed."""

    process: asyncio.subprocess.Process
    url: str
    password: str
    mailbox: str

    @property
    def children(self) -> dict[str, int]:
        """Return the process ids of its parts by what they are."""
        return dict(_children(self.process.pid))

    @contextlib.asynccontextmanager
    async def signed_in(self) -> AsyncIterator[aiohttp.ClientSession]:
        async with aiohttp.ClientSession(
            self.url,
            cookie_jar=aiohttp.CookieJar(unsafe=True),
            headers={"Sec-Fetch-Site": "same-origin"},
        ) as session:
            login = {"username": "admin", "password": self.password}
            async with session.post("/api/auth/login", json=login) as response:
                assert response.status == 200, await response.text()
            yield session

    async def end(self, number: signal.Signals = signal.SIGINT) -> int:
        """Send the signal and return the exit status."""
        self.process.send_signal(number)
        return await asyncio.wait_for(self.process.wait(), START_SECONDS)


def _children(pid: int) -> Iterator[tuple[str, int]]:
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            command = stat.with_name("cmdline").read_bytes().decode().split("\0")
            if int(fields[1]) == pid:
                name = next((word for word in PARTS if word in " ".join(command)), "?")
                yield name, int(stat.parent.name)


def _is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def _left_in(path: Path) -> list[str]:
    return [one.name for one in path.iterdir()]


@contextlib.asynccontextmanager
async def start(
    tmp_path: Path, *arguments: str, environment: dict[str, str] | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Start the demo as a process; kill it in the end if it still runs."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "infoscreen", "demo", "--clients", str(CLIENTS), *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(tmp_path), **(environment or {})},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@contextlib.asynccontextmanager
async def demo(
    tmp_path: Path, *arguments: str, environment: dict[str, str] | None = None
) -> AsyncIterator[Demo]:
    """Run the demo until it has printed its invitation; its temporary directory is in ``tmp_path``."""
    require("mosquitto")
    async with start(tmp_path, *arguments, environment=environment) as process:
        assert process.stdout is not None
        text = ""
        async with asyncio.timeout(START_SECONDS):
            while "Ctrl-C" not in text:
                line = await process.stdout.readline()
                if not line:
                    _, errors = await process.communicate()
                    raise AssertionError(f"the demo ended: {text}{errors.decode()}")
                text += line.decode()
        found = re.search(r"(http://\S+)/\n\s+user\s+admin\n\s+password\s+(\S+)\n", text)
        assert found is not None, text
        box = re.search(r"mail or chat are shown at\n\n\s+(http://\S+)/\n", text)
        assert box is not None, text
        yield Demo(process, found[1], found[2], box[1])


async def test_the_demo_shows_named_clients_that_fall_ill_and_are_recovered(tmp_path: Path) -> None:
    async with demo(tmp_path) as running, running.signed_in() as session:
        async with asyncio.timeout(START_SECONDS):
            seen: set[str] = set()
            while not seen >= {"online", "crashed", "service_failed", "unreachable", "hung"}:
                async with session.get("/api/clients", params={"limit": 500}) as response:
                    clients = (await response.json())["items"]
                # Not all at once: those that fell ill first are well again before the last ones do.
                seen |= {client["status"] for client in clients}
                await asyncio.sleep(0.2)
        assert len(clients) == CLIENTS
        assert len({client["name"] for client in clients}) == CLIENTS
        assert len({client["site"] for client in clients}) == 5
        async with session.get("/") as page:
            assert page.status == 200
            failed = next(client for client in clients if client["service_failed_at"] is not None)
            assert failed["name"] in await page.text()
        async with session.get("/api/recovery") as response:
            assert (await response.json())["mode"] == "active"
        async with session.post("/api/channels/1/test", json={}) as response:
            tested = await response.json()
        assert tested["ok"], tested
        async with session.get(running.mailbox) as response:
            assert "Test message from infoscreen" in await response.text()
        assert await running.end() == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_a_signal_ends_the_demo_and_leaves_nothing_behind(
    tmp_path: Path, number: signal.Signals
) -> None:
    async with demo(tmp_path) as running:
        children = running.children
        assert set(children) == set(PARTS)
        assert _left_in(tmp_path) != []
        assert await running.end(number) == 0
        assert [name for name, pid in children.items() if not _is_gone(pid)] == []
        assert _left_in(tmp_path) == []


async def test_a_signal_during_the_start_leaves_nothing_behind(tmp_path: Path) -> None:
    async with start(tmp_path) as process:
        children = await until(lambda: dict(_children(process.pid)))
        process.terminate()
        assert await asyncio.wait_for(process.wait(), START_SECONDS) == 0
        assert [name for name, pid in children.items() if not _is_gone(pid)] == []
        assert _left_in(tmp_path) == []


async def test_two_demos_run_beside_each_other_and_take_different_ports(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    async with demo(tmp_path / "one") as one, demo(tmp_path / "two") as two:
        assert one.url != two.url
        for running in (one, two):
            async with running.signed_in() as session, session.get("/readyz") as response:
                assert response.status == 200
        assert one.password != two.password
        assert [await one.end(), await two.end()] == [0, 0]


@pytest.mark.parametrize("part", PARTS)
async def test_a_part_that_dies_is_named_with_its_last_words(tmp_path: Path, part: str) -> None:
    names = {"mosquitto": "broker", "serve": "daemon", "simulate": "simulation", "helper": "helper"}
    async with demo(tmp_path) as running:
        children = running.children
        os.kill(children[part], signal.SIGKILL)
        _, errors = await asyncio.wait_for(running.process.communicate(), START_SECONDS)
        assert running.process.returncode == 1
        assert f"Error: The {names[part]} ended with exit status -9." in errors.decode()
        assert "Traceback" not in errors.decode()
        if part in ("mosquitto", "serve"):
            assert "\n    " in errors.decode()
        assert [name for name, pid in children.items() if not _is_gone(pid)] == []
        assert _left_in(tmp_path) == []


async def test_a_killed_demo_leaves_no_process_behind(tmp_path: Path) -> None:
    require("setpriv")
    async with demo(tmp_path) as running:
        children = running.children
        running.process.kill()
        await running.process.wait()
        await until(lambda: all(_is_gone(pid) for pid in children.values()))


async def test_settings_of_the_surroundings_do_not_reach_the_demo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / ".env").write_text("HTTP_PORT=none\n")
    monkeypatch.setenv("PYTHONPATH", str(Path.cwd()))
    monkeypatch.chdir(tmp_path / "elsewhere")
    strange = {"MQTT_HOST": "192.0.2.1", "DATABASE_URL": "nonsense", "mqtt_tls_enabled": "true"}
    async with demo(tmp_path, environment=strange) as running:
        async with running.signed_in():
            pass
        assert await running.end() == 0


async def test_a_kept_directory_goes_on_with_its_database_and_a_new_password(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    passwords = set()
    for _ in range(2):
        async with demo(kept, "--directory", str(kept)) as running:
            async with running.signed_in() as session, session.get("/api/audit") as response:
                acts = [entry["action"] for entry in (await response.json())["items"]]
            passwords.add(running.password)
            assert await running.end() == 0
    assert len(passwords) == 2
    assert {"user.add", "user.password"} <= set(acts)


async def test_a_port_that_was_asked_for_and_is_in_use_is_an_error(tmp_path: Path, free_port: int) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", free_port))
        taken.listen()
        async with start(tmp_path, "--port", str(free_port)) as process:
            _, errors = await asyncio.wait_for(process.communicate(), START_SECONDS)
        assert process.returncode == 1
        assert f"Port {free_port} cannot be had" in errors.decode()
        assert "Traceback" not in errors.decode()


def test_without_mosquitto_the_demo_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CannotStart, match="apt-get install mosquitto"):
        find_mosquitto([str(tmp_path)])


def test_the_usual_port_is_replaced_when_it_is_in_use_and_an_asked_one_is_not(
    free_port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with http_port(None, free_port) as usual:
        assert usual == free_port
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", free_port))
        taken.listen()
        with http_port(None, free_port) as other:
            assert other != free_port
        assert f"Port {free_port} cannot be had" in capsys.readouterr().err
        with pytest.raises(CannotStart, match=str(free_port)), http_port(free_port):
            pass


def test_a_demo_that_does_not_listen_yet_keeps_its_port_from_another(free_port: int) -> None:
    with http_port(None, free_port):
        with http_port(None, free_port) as other:
            assert other != free_port
        with pytest.raises(CannotStart, match="another demo"), http_port(free_port):
            pass
    with http_port(free_port) as again:
        assert again == free_port


async def test_the_mailbox_shows_messages_once_and_as_text() -> None:
    async with mailbox() as address, aiohttp.ClientSession() as session:
        message = {
            "message_id": "1",
            "title": "<b>Outage</b>",
            "text": "one\ntwo",
            "url": "javascript:x",
            "acknowledge_url": "http://127.0.0.1/link?t=1",
        }
        for _ in range(2):
            async with session.post(f"{address}/take", json=message) as answer:
                assert answer.status == 204
        for wrong in (b"{", b"[]", b"\xff"):
            async with session.post(f"{address}/take", data=wrong) as answer:
                assert answer.status in (400, 415), wrong
        async with session.get(address) as answer:
            page = await answer.text()
    assert page.count("&lt;b&gt;Outage") == 1
    assert "javascript:" not in page
    assert 'href="http://127.0.0.1/link?t=1"' in page
