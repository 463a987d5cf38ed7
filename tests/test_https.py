"""https without a proxy: the versions it speaks, and a certificate that is replaced while it runs."""

import asyncio
import contextlib
import os
import signal
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiohttp import ClientSession, TCPConnector, web

from infoscreen.domain.errors import CannotStart
from infoscreen.pki.authority import Authority, Pair
from infoscreen.web.https import Https
from tests.broker import Broker
from tests.daemon import installed
from tests.waiting import until

NOW = datetime.now(UTC)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.create(tmp_path / "pki", NOW)


@asynccontextmanager
async def served(https: Https) -> AsyncIterator[int]:
    async def hello(request: web.Request) -> web.Response:
        return web.Response(text="hello")

    app = web.Application()
    app.router.add_get("/", hello)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=https.context)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def pair_of(authority: Authority, *names: str) -> Pair:
    return authority.issue_server(names, NOW, label="panel")


async def shown(port: int, authority: Authority, name: str | None) -> str:
    """Return the serial number of the certificate that a new connection is shown."""
    context = ssl.create_default_context(cafile=authority.bundle)
    context.check_hostname = name is not None
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name or "")
    try:
        return str(writer.get_extra_info("peercert")["serialNumber"])
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def test_a_renewed_certificate_is_shown_to_new_connections_and_old_ones_go_on(
    authority: Authority,
) -> None:
    pair = pair_of(authority, "localhost", "127.0.0.1")
    https = Https(pair.certificate, pair.key)
    async with served(https) as port:
        trust = TCPConnector(ssl=ssl.create_default_context(cafile=authority.bundle), limit=1)
        async with ClientSession(f"https://localhost:{port}", connector=trust) as session:
            async with session.get("/") as response:
                assert response.status == 200
            before = {await shown(port, authority, name) for name in ("localhost", "127.0.0.1", None)}
            pair_of(authority, "localhost", "127.0.0.1")
            assert await https.renew(pair.certificate, pair.key)
            after = {await shown(port, authority, name) for name in ("localhost", "127.0.0.1", None)}
            assert len(before) == len(after) == 1
            assert before != after
            async with session.get("/") as response:
                assert await response.text() == "hello"


async def test_files_that_do_not_fit_leave_the_certificate_from_before(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    pair = pair_of(authority, "localhost")
    https = Https(pair.certificate, pair.key)
    other = authority.issue_server(["localhost"], NOW, label="other")
    async with served(https) as port:
        before = await shown(port, authority, "localhost")
        pair.key.write_bytes(other.key.read_bytes())
        assert not await https.renew(pair.certificate, pair.key)
        pair.certificate.unlink()
        assert not await https.renew(pair.certificate, pair.key)
        assert await shown(port, authority, "localhost") == before
    assert [record.levelname for record in caplog.records if "https" in record.getMessage()] == ["ERROR"] * 2


async def test_older_versions_of_tls_are_refused(authority: Authority) -> None:
    pair = pair_of(authority, "localhost")
    async with served(Https(pair.certificate, pair.key)) as port:
        context = ssl.create_default_context(cafile=authority.bundle)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        _, writer = await asyncio.open_connection("localhost", port, ssl=context)
        assert writer.get_extra_info("ssl_object").version() == "TLSv1.2"
        writer.close()


def test_files_that_cannot_be_used_are_named(authority: Authority, tmp_path: Path) -> None:
    pair = pair_of(authority, "localhost")
    for certificate, key in (
        (tmp_path / "no.crt", pair.key),
        (pair.certificate, authority.directory / "ca.key"),
    ):
        with pytest.raises(CannotStart, match="HTTP_TLS_CERTFILE=") as refused:
            Https(certificate, key)
        assert str(certificate) in str(refused.value)


@pytest.mark.broker
async def test_the_daemon_serves_https_and_takes_up_a_renewed_certificate_on_sighup(
    authority: Authority, tmp_path: Path, broker: Broker
) -> None:
    pair = pair_of(authority, "localhost", "127.0.0.1")
    files = {"HTTP_TLS_CERTFILE": pair.certificate, "HTTP_TLS_KEYFILE": pair.key}
    async with installed(tmp_path / "daemon", broker, **files) as daemon:
        await daemon.launch()

        async def now_shown() -> str | None:
            with contextlib.suppress(OSError):
                return await shown(daemon.port, authority, "localhost")
            return None

        async def changed_from(before: str | None) -> str | None:
            for _ in range(1_200):
                if (found := await now_shown()) not in (None, before):
                    return found
                await asyncio.sleep(0.05)
            raise AssertionError("no other certificate")

        first = await changed_from(None)
        pair_of(authority, "localhost", "127.0.0.1")
        # It listens before it handles signals.
        await until(lambda: daemon.logged("broker_connected"), within=60)
        os.kill(daemon.pid, signal.SIGHUP)
        await changed_from(first)
        trust = ssl.create_default_context(cafile=authority.bundle)
        connector = TCPConnector(ssl=trust)
        async with (
            ClientSession(f"https://localhost:{daemon.port}", connector=connector) as session,
            session.get("/login") as response,
        ):
            assert response.status == 200
        assert daemon.logged("https_renewed")
