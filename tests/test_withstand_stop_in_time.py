"""A stop takes 5 s at most, whatever goes on: slow requests, unread streams, no database, no broker."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from infoscreen.domain.accounts import Role
from tests.broker import Broker
from tests.daemon import Daemon, installed
from tests.holding import locked
from tests.screens import screen_at
from tests.waiting import until

pytestmark = [pytest.mark.broker, pytest.mark.slow]

U = "4f0c2a18-7b3d-4e65-8c91-5d2e6f7a8b09"
STOP_SECONDS = 6.5
"""The design's 5 s, and time for the end of a Python process on a loaded machine."""


@asynccontextmanager
async def open_request(daemon: Daemon, head: str, body: bytes = b"") -> AsyncIterator[asyncio.StreamReader]:
    """Send the beginning of a request and read no answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", daemon.port, limit=2_048)
    token = await daemon.token(Role.ADMIN)
    writer.write(f"{head}\r\nHost: x\r\nAuthorization: Bearer {token}\r\n".encode() + body)
    await writer.drain()
    try:
        yield reader
    finally:
        writer.close()


SLOW_BODY = ("POST /api/commands HTTP/1.1", b"Content-Type: application/json\r\nContent-Length: 500\r\n\r\n{")
SLOW_HEAD = ("GET /api/clients HTTP/1.1", b"X-Slow: ")
STREAM = ("GET /api/events HTTP/1.1", b"\r\n")


async def test_it_stops_in_time_with_slow_requests_and_streams_that_nobody_reads(
    tmp_path: Path, broker: Broker
) -> None:
    async with installed(tmp_path / "daemon", broker) as daemon, AsyncExitStack() as stack:
        await daemon.start()
        for head, body in (SLOW_BODY, SLOW_HEAD, STREAM) * 5:
            reader = await stack.enter_async_context(open_request(daemon, head, body))
            if (head, body) == STREAM:
                assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        assert await daemon.stop(within=STOP_SECONDS) == 0
        assert "Traceback" not in daemon.log
        assert daemon.logged("stop_cut_off") == []


async def test_it_stops_in_time_while_requests_wait_for_a_lock(tmp_path: Path, broker: Broker) -> None:
    body = b'{"username": "admin", "password": "not the password"}'
    head = b"Content-Type: application/json\r\nContent-Length: " + str(len(body)).encode() + b"\r\n\r\n"
    async with installed(tmp_path / "daemon", broker) as daemon, screen_at(broker, U) as screen:
        await daemon.start()
        async with (
            open_request(daemon, "POST /api/auth/login HTTP/1.1", head + body),
            locked(daemon.database, "IMMEDIATE"),
            open_request_without_account(daemon, head + body),
        ):
            screen.log("one")
            await until(lambda: not screen.waiting)
            assert await daemon.stop(within=STOP_SECONDS) == 0
        assert "Traceback" not in daemon.log


@asynccontextmanager
async def open_request_without_account(daemon: Daemon, rest: bytes) -> AsyncIterator[None]:
    _, writer = await asyncio.open_connection("127.0.0.1", daemon.port)
    writer.write(b"POST /api/auth/login HTTP/1.1\r\nHost: x\r\n" + rest)
    await writer.drain()
    try:
        yield
    finally:
        writer.close()


async def test_it_stops_in_time_without_broker_and_database(tmp_path: Path, broker: Broker) -> None:
    async with installed(tmp_path / "daemon", broker) as daemon:
        await daemon.start()
        os.kill(broker.pid, signal.SIGSTOP)
        try:
            async with locked(daemon.database, "EXCLUSIVE"):
                assert await daemon.stop(within=STOP_SECONDS) == 0
        finally:
            os.kill(broker.pid, signal.SIGCONT)
        assert "Traceback" not in daemon.log


async def test_many_logins_in_line_do_not_hold_a_stop_up(tmp_path: Path, broker: Broker) -> None:
    """Each takes a thread for a while; threads are waited for when a process ends."""
    async with installed(tmp_path / "daemon", broker) as daemon, AsyncExitStack() as stack:
        await daemon.start()
        for number in range(40):
            body = f'{{"username": "nobody{number}", "password": "not the password"}}'.encode()
            _, writer = await asyncio.open_connection("127.0.0.1", daemon.port)
            stack.callback(writer.close)
            kind = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write(f"POST /api/auth/login HTTP/1.1\r\nHost: x\r\n{kind}".encode() + body)
            await writer.drain()
        assert await daemon.stop(within=STOP_SECONDS) == 0
        assert "Traceback" not in daemon.log
