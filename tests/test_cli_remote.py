"""``clients``, ``show`` and ``send``, against the web application with a token."""

import asyncio
from pathlib import Path

import pytest
from aiohttp import web

from infoscreen.clock import SystemClock
from infoscreen.domain.accounts import Role
from infoscreen.domain.commands import ClientCommand, CommandStatus
from infoscreen.pki.authority import Authority
from infoscreen.services.accounts import CLI
from infoscreen.storage import commands
from infoscreen.storage.commands import CommandQuery
from infoscreen.web.https import Https
from tests.commands import CommandLine, Done
from tests.spine import Spine, uuid_of
from tests.waiting import DEADLINE_SECONDS
from tests.web import Site

U, V = uuid_of(1), uuid_of(2)


class Remote:
    """The command line, run in a thread so that the server can answer it."""

    def __init__(self, line: CommandLine) -> None:
        self.line = line

    async def run(self, *arguments: str) -> Done:
        return await asyncio.wait_for(asyncio.to_thread(self.line.run, *arguments), DEADLINE_SECONDS)

    async def ok(self, *arguments: str) -> Done:
        done = await self.run(*arguments)
        assert done.code == 0, done
        return done

    async def refused(self, *arguments: str) -> str:
        done = await self.run(*arguments)
        assert (done.code, done.out) == (1, ""), done
        (reason,) = done.err.splitlines()
        return reason


async def sign_in(remote: Remote, site: Site, role: Role) -> None:
    user = await site.user(role)
    made = await site.parts.accounts.create_token(user.id, "cli", role, CLI)
    remote.line.give(f"INFOSCREEN_URL={site.url}", f"INFOSCREEN_TOKEN={made.secret}")


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Remote:
    directory = tmp_path / "work"
    directory.mkdir()
    return Remote(CommandLine(directory, monkeypatch))


@pytest.fixture
async def remote(stranger: Remote, site: Site) -> Remote:
    """An operator's."""
    await sign_in(stranger, site, Role.OPERATOR)
    return stranger


async def test_clients_are_listed_and_filtered(remote: Remote, site: Site) -> None:
    await site.spine.beat(U, hostname="lobby", process_status="running")
    await site.spine.beat(V, hostname="canteen", process_status="crashed")
    rows = [row.split() for row in (await remote.ok("clients")).out.splitlines()]
    assert [(row[0], row[1], row[-1]) for row in rows[1:]] == [
        ("crashed", "canteen", V),
        ("online", "lobby", U),
    ]
    only = (await remote.ok("clients", "--status", "online", "--status", "hung", "--json")).json
    assert [client["uuid"] for client in only] == [U]
    assert (await remote.run("clients", "--status", "sleepy")).code == 2


async def test_all_pages_are_listed(remote: Remote, site: Site) -> None:
    await site.spine.hear(
        *((f"{uuid_of(number)}/presence", "online") for number in range(1, 503)),
    )
    assert len((await remote.ok("clients", "--json")).json) == 502


async def test_what_a_device_says_cannot_steer_the_terminal(remote: Remote, site: Site) -> None:
    name = "evil\x1b[2Jhost\u202egpj.exe"
    await site.spine.beat(U, hostname=name)
    for command in (("clients",), ("show", U)):
        shown = (await remote.ok(*command)).out
        assert r"evil\x1b[2Jhost\u202egpj.exe" in shown
        assert shown.replace("\n", "").isprintable()
    told = await remote.ok("show", U, "--json")
    assert told.out.replace("\n", "").isprintable()
    assert told.json["hostname"] == name


async def test_one_client_is_shown(remote: Remote, site: Site) -> None:
    await site.spine.beat(U, hostname="lobby")
    shown = (await remote.ok("show", U)).out
    assert "hostname" in shown
    assert "lobby" in shown
    assert (await remote.ok("show", U, "--json")).json["hostname"] == "lobby"
    assert f"There is no client {V}." in await remote.refused("show", V)
    assert (await remote.run("show", "lobby")).code == 2


async def test_a_command_is_sent_with_its_reason(remote: Remote, site: Site) -> None:
    await site.spine.beat(U)
    command_id, status = (await remote.ok("send", U, "restart_app", "--reason", "frozen")).out.split()
    assert status == "queued"
    stored = await only_command(site.spine)
    assert (stored.command_id, stored.reason) == (command_id, "frozen")


async def test_a_second_command_is_refused_with_the_id_of_the_first(remote: Remote, site: Site) -> None:
    await site.spine.beat(U)
    first = (await remote.ok("send", U, "reboot_host", "--json")).json["command_id"]
    assert first in await remote.refused("send", U, "reboot_host")


async def test_waiting_tells_every_state_and_ends_well_when_the_command_completes(
    remote: Remote, site: Site
) -> None:
    await site.spine.beat(U)
    waiting = asyncio.create_task(remote.run("send", U, "restart_app", "--wait"))
    command = await published(site.spine)
    for status in ("accepted", "execution_started", "completed"):
        await site.spine.ack(command, status)
    done = await waiting
    assert done.code == 0
    first, *rest = done.out.splitlines()
    assert first == f"{command.command_id} queued"
    assert [line.split()[1] for line in rest] == [
        "publish_in_progress",
        "published",
        "accepted",
        "execution_started",
        "completed",
    ]


async def test_waiting_ends_with_1_when_the_command_fails(remote: Remote, site: Site) -> None:
    await site.spine.beat(U)
    waiting = asyncio.create_task(remote.run("send", U, "restart_app", "--wait", "--json"))
    await site.spine.ack(await published(site.spine), "failed", error_code="no_unit")
    done = await waiting
    assert done.code == 1
    assert (done.json["status"], done.json["error_code"]) == ("failed", "no_unit")
    assert done.json["events"][-1]["to"] == "failed"


async def test_waiting_ends_with_1_when_the_command_expires(remote: Remote, site: Site) -> None:
    await site.spine.beat(U)
    waiting = asyncio.create_task(remote.run("send", U, "restart_app", "--wait"))
    command = await published(site.spine)
    site.spine.clock.advance(300)
    await site.spine.watch.sweep()
    done = await waiting
    assert done.code == 1
    assert "expired" in done.out.splitlines()[-1]
    assert (await site.spine.command(command)).status is CommandStatus.EXPIRED


async def test_a_viewer_may_look_but_not_send(stranger: Remote, site: Site) -> None:
    await sign_in(stranger, site, Role.VIEWER)
    await site.spine.beat(U)
    await stranger.ok("show", U)
    assert "the role Operator" in await stranger.refused("send", U, "reboot_host")


async def test_a_wrong_token_is_refused_without_being_repeated(stranger: Remote, site: Site) -> None:
    reason = await stranger.refused("clients", "--url", str(site.url), "--token", "isc_not-this-one")
    assert "not-this-one" not in reason


async def test_a_server_that_is_not_there_is_one_line(stranger: Remote, free_port: int) -> None:
    url = f"http://127.0.0.1:{free_port}"
    assert f"Cannot reach {url}" in await stranger.refused("clients", "--url", url, "--token", "x")
    done = await stranger.run("clients", "--url", "panel.example", "--token", "x")
    assert (done.code, "no URL" in done.err) == (2, True)


async def test_another_kind_of_server_is_one_line(stranger: Remote, free_port: int) -> None:
    async def page(request: web.Request) -> web.Response:
        return web.Response(text="<h1>A printer</h1>", content_type="text/html")

    async def elsewhere(request: web.Request) -> web.Response:
        raise web.HTTPMovedPermanently("https://panel.example/api/clients")

    app = web.Application()
    app.router.add_get("/api/clients", page)
    app.router.add_get("/moved/api/clients", elsewhere)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", free_port).start()
        url = f"http://127.0.0.1:{free_port}"
        assert "does not answer like infoscreen" in await stranger.refused(
            "clients", "--url", url, "--token", "x"
        )
        assert "sends on to https://panel.example" in await stranger.refused(
            "clients", "--url", f"{url}/moved", "--token", "x"
        )
    finally:
        await runner.cleanup()


async def all_commands(spine: Spine) -> list[ClientCommand]:
    async with spine.store.read() as connection:
        return (await commands.search(connection, CommandQuery(), 10)).items


async def only_command(spine: Spine) -> ClientCommand:
    (command,) = await all_commands(spine)
    return command


async def published(spine: Spine) -> ClientCommand:
    """Wait until the command was requested, and publish it."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        with spine.bus.subscribe() as changes:
            while not await all_commands(spine):
                await changes.next()
    await spine.outbox.step()
    return await only_command(spine)


async def test_a_private_ca_is_trusted_when_it_is_given(stranger: Remote, tmp_path: Path) -> None:
    now = SystemClock().now()
    authority, other = (Authority.create(tmp_path / name, now) for name in ("pki", "other"))
    pair = authority.issue_server(["localhost"], now)

    async def nobody(request: web.Request) -> web.Response:
        return web.json_response({"items": [], "next_cursor": None})

    app = web.Application()
    app.router.add_get("/api/clients", nobody)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=Https(pair.certificate, pair.key).context)
        await site.start()
        port = runner.addresses[0][1]
        stranger.line.give(f"INFOSCREEN_URL=https://localhost:{port}", "INFOSCREEN_TOKEN=x")
        assert "certificate" in await stranger.refused("clients")
        assert (await stranger.ok("clients", "--json", "--ca", str(authority.bundle))).json == []
        assert "certificate" in await stranger.refused("clients", "--ca", str(other.bundle))
        assert (await stranger.run("clients", "--ca", str(pair.key))).code == 2
        stranger.line.give(f"INFOSCREEN_URL=https://127.0.0.1:{port}", f"INFOSCREEN_CA={authority.bundle}")
        assert "certificate" in await stranger.refused("clients")  # not for this name
        stranger.line.give(f"INFOSCREEN_URL=http://127.0.0.1:{port}")
        done = await stranger.run("clients")
        assert (done.code, "https" in done.err) == (2, True)
    finally:
        await runner.cleanup()
