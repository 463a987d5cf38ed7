"""The live view: what viewers are told, when, and what becomes of slow, revoked and surplus ones."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from yarl import URL

import infoscreen
from infoscreen.domain.accounts import Actor, Role
from infoscreen.domain.commands import Action
from infoscreen.domain.errors import TooManyStreams
from infoscreen.domain.events import (
    BrokerChanged,
    ClientChanged,
    ClientRemoved,
    CommandChanged,
    RecoveryChanged,
)
from infoscreen.services.accounts import CLI
from infoscreen.services.bus import Bus, Overflow
from infoscreen.storage import accounts as rows
from infoscreen.storage.engine import Store
from infoscreen.storage.tables import metadata
from infoscreen.web.live import (
    MOST_ALERTS,
    MOST_PER_FLUSH,
    MOST_PER_USER,
    MOST_VIEWERS,
    MOST_WAITING_BYTES,
    RELOAD,
    LiveFeed,
    Viewer,
)
from tests.api import ask
from tests.spine import ADMIN, Spine, open_spine, sqlite_url, uuid_of, zulu
from tests.waiting import DEADLINE_SECONDS
from tests.web import Site, serving

U, V = uuid_of(1), uuid_of(2)
Told = list[tuple[str, Any]]


@pytest.fixture
async def spine(tmp_path: Path) -> AsyncIterator[Spine]:
    async with open_spine(sqlite_url(tmp_path)) as parts:
        yield parts


@pytest.fixture
def feed(spine: Spine) -> LiveFeed:
    """A feed that flushes when the test says so."""
    return LiveFeed(spine.store, spine.bus, spine.link, spine.clock)


def parsed(frames: bytes) -> Told:
    """Split server-sent events as a browser does, comments dropped."""
    told: Told = []
    for block in frames.decode().replace("\r\n", "\n").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if fields:
            told.append((fields["event"], json.loads(fields["data"])))
    return told


async def told(viewer: Viewer) -> Told:
    """Return what waits for the viewer now."""
    return parsed(await viewer.take(0))


async def names_told(viewer: Viewer) -> list[str]:
    return [name for name, _ in await told(viewer)]


class Stream:
    """An open event stream, read one event at a time."""

    def __init__(self, response: Any) -> None:
        self._response = response
        self._unread: Told = []

    async def next(self) -> tuple[str, Any]:
        """Return the next event; raise ``EOFError`` when the stream has ended."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not self._unread:
                block = b""
                while not block.endswith((b"\n\n", b"\r\n\r\n")):
                    line = await self._response.content.readline()
                    if not line:
                        raise EOFError
                    block += line
                self._unread = parsed(block)
        return self._unread.pop(0)

    async def until(self, event: str) -> Any:
        """Return the data of the next event of that name."""
        while True:
            name, data = await self.next()
            if name == event:
                return data

    async def ends(self) -> None:
        """Read to the end."""
        with suppress(EOFError):
            while True:
                await self.next()


@asynccontextmanager
async def watching(visitor: ClientSession, query: str = "") -> AsyncIterator[Stream]:
    async with visitor.get(f"/api/events{query}") as response:
        assert response.status == 200, await response.text()
        yield Stream(response)


async def wait_for_viewers(live: LiveFeed, count: int) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while len(live._viewers) != count:  # noqa: ASYNC110 - the feed has no event for it, only tests ask
            await asyncio.sleep(0.01)


async def beat_together(spine: Spine, uuids: list[str]) -> None:
    at = zulu(spine.clock.now())
    await spine.hear(*((f"{uuid}/heartbeat", {"timestamp": at}) for uuid in uuids))


# What is told.


async def test_a_stream_begins_with_the_state_of_the_whole(site: Site) -> None:
    await site.spine.beat(U)
    async with watching(await site.browser(Role.VIEWER)) as stream:
        name, hello = await stream.next()
    assert name == "hello"
    assert hello["generated_at"] == zulu(site.spine.clock.now())
    assert hello["version"] == infoscreen.__version__
    assert (hello["totals"]["online"], hello["totals"]["crashed"]) == (1, 0)
    assert hello["broker"]["connected"] is True


async def test_an_outage_is_told_as_one_and_its_clients_raise_no_alert_of_their_own(
    spine: Spine, feed: LiveFeed
) -> None:
    dark, late, well = [uuid_of(number) for number in range(1, 5)], uuid_of(5), uuid_of(6)
    for _ in range(3):
        await beat_together(spine, [*dark, late, well])
        spine.clock.advance(50)
    spine.clock.advance(100)
    await beat_together(spine, [late, well])
    spine.clock.advance(40)
    await spine.watch.look()
    with feed.join(ADMIN) as viewer:
        await spine.recovering.poll()
        await feed.flush([RecoveryChanged()])
        [(name, data)] = await told(viewer)
        assert name == "recovery"
        assert [(one["kind"], one["site"]) for one in data["incidents"]] == [("fleet_outage", None)]
        spine.clock.advance(600)  # a rhythm of 150 s has been learned since
        await spine.watch.look()
        assert (await spine.client(late)).status == "unreachable"
        await feed.flush([ClientChanged(late, alert=True)])
        assert "alerts" not in await names_told(viewer)
        await spine.beat(well, process_status="crashed")
        await feed.flush([ClientChanged(well, alert=True)])
        assert "alerts" in await names_told(viewer)


async def test_one_that_falls_silent_long_after_an_outage_has_begun_raises_its_own_alert(
    spine: Spine, feed: LiveFeed
) -> None:
    dark, later = [uuid_of(number) for number in range(1, 5)], uuid_of(5)
    await beat_together(spine, [*dark, later])
    for _ in range(90):
        spine.clock.advance(60)
        await spine.beat(later)
    await spine.watch.look()
    await spine.recovering.poll()
    spine.clock.advance(1800)
    await spine.watch.look()
    assert (await spine.client(later)).status == "unreachable"
    with feed.join(ADMIN) as viewer:
        await feed.flush([ClientChanged(later, alert=True), RecoveryChanged()])
        tellings = await told(viewer)
    [incidents] = [data["incidents"] for name, data in tellings if name == "recovery"]
    assert [one["kind"] for one in incidents] == ["fleet_outage"]
    assert "alerts" in [name for name, _ in tellings]


async def test_a_stream_is_never_cached_or_held_back(site: Site) -> None:
    viewer = await site.program(Role.VIEWER)
    async with viewer.get("/api/events") as response:
        assert response.content_type == "text/event-stream"
        assert response.headers["Cache-Control"] == "no-cache"
        assert response.headers["X-Accel-Buffering"] == "no"
        assert response.headers["X-Content-Type-Options"] == "nosniff"


async def test_a_changed_client_is_told_in_the_shape_of_the_list(site: Site) -> None:
    viewer = await site.program(Role.VIEWER)
    async with watching(viewer) as stream:
        await stream.until("hello")
        await site.spine.beat(U, hostname="lobby")
        (client,) = await stream.until("clients")
    assert client == (await ask(viewer, "GET", "/api/clients"))["items"][0]


async def test_a_command_is_told_in_the_shape_of_the_list(site: Site) -> None:
    await site.spine.beat(U)
    viewer = await site.program(Role.VIEWER)
    async with watching(viewer) as stream:
        await stream.until("hello")
        await site.spine.request(U)
        (command,) = await stream.until("commands")
    assert command == (await ask(viewer, "GET", "/api/commands"))["items"][0]


async def test_a_client_that_falls_ill_is_an_alert_and_changes_the_totals(
    spine: Spine, feed: LiveFeed
) -> None:
    await spine.beat(U)
    with feed.join(ADMIN) as viewer:
        await feed.flush([ClientChanged(U)])
        assert await names_told(viewer) == ["clients", "totals"]
        await spine.beat(U, process_status="crashed")
        await feed.flush([ClientChanged(U, alert=True)])
        events = dict(await told(viewer))
    assert [client["status"] for client in events["alerts"]] == ["crashed"]
    assert events["clients"] == events["alerts"]
    assert (events["totals"]["online"], events["totals"]["crashed"]) == (0, 1)


async def test_totals_are_told_only_when_they_have_changed(spine: Spine, feed: LiveFeed) -> None:
    await spine.beat(U)
    with feed.join(ADMIN) as viewer:
        await feed.flush([ClientChanged(U)])
        await viewer.take(0)
        await spine.beat(U)
        await feed.flush([ClientChanged(U)])
        assert await names_told(viewer) == ["clients"]


async def test_the_state_of_the_broker_is_told_when_it_changes(spine: Spine, feed: LiveFeed) -> None:
    with feed.join(ADMIN) as viewer:
        spine.link.listening_since = None
        await feed.flush([BrokerChanged(connected=False)])
        ((name, broker),) = await told(viewer)
    assert (name, broker["connected"], broker["listening_since"]) == ("broker", False, None)


async def test_a_removed_client_is_told_by_its_identifier(spine: Spine, feed: LiveFeed) -> None:
    await spine.beat(U)
    await spine.fleet.remove(U, ADMIN)
    with feed.join(ADMIN) as viewer:
        await feed.flush([ClientChanged(U), ClientRemoved(U)])
        events = dict(await told(viewer))
    assert (events.keys(), events["removed"]) == ({"removed", "totals"}, [U])


async def test_many_changes_of_one_client_are_told_once(site: Site) -> None:
    viewer = await site.program(Role.VIEWER)
    async with watching(viewer) as stream:
        await stream.until("hello")
        for pid in range(1, 50):
            await site.spine.beat(U, process_pid=pid)
        told_pids = []
        while not told_pids or told_pids[-1] != 49:
            told_pids += [client["process_pid"] for client in await stream.until("clients")]
    assert len(told_pids) < 49


async def test_a_viewer_who_picked_clients_hears_of_those_and_of_every_alert(
    spine: Spine, feed: LiveFeed
) -> None:
    for uuid in (U, V):
        await spine.beat(uuid)
    mine, other = await spine.request(U, Action.RESTART_APP), await spine.request(V, Action.RESTART_APP)
    changes = [ClientChanged(U), ClientChanged(V, alert=True)]
    changes += [CommandChanged(mine.command_id, U), CommandChanged(other.command_id, V)]
    with feed.join(ADMIN, [U]) as picky, feed.join(ADMIN) as curious:
        await feed.flush(changes)
        picked, everything = dict(await told(picky)), dict(await told(curious))
    assert [client["uuid"] for client in picked["clients"]] == [U]
    assert [command["command_id"] for command in picked["commands"]] == [mine.command_id]
    assert [client["uuid"] for client in picked["alerts"]] == [V]
    assert {client["uuid"] for client in everything["clients"]} == {U, V}
    assert len(everything["commands"]) == 2
    assert picked["totals"] == everything["totals"]


async def test_clients_are_picked_in_the_query_in_any_spelling(site: Site) -> None:
    viewer = await site.program(Role.VIEWER)
    async with watching(viewer, f"?client_uuid={U.replace('-', '')},{uuid_of(3)}&client_uuid={V}") as stream:
        await stream.until("hello")
        for number in (1, 2, 3, 4):
            await site.spine.beat(uuid_of(number))
        seen: set[str] = set()
        while len(seen) < 3:
            seen |= {client["uuid"] for client in await stream.until("clients")}
    assert seen == {U, V, uuid_of(3)}


async def test_what_all_viewers_want_is_rendered_once(spine: Spine, feed: LiveFeed) -> None:
    await spine.beat(U)
    with feed.join(ADMIN) as one, feed.join(ADMIN) as other:
        await feed.flush([ClientChanged(U)])
        assert one._waiting[0] is other._waiting[0]


# When there is too much to tell.


async def test_the_clients_of_a_big_fleet_take_turns(spine: Spine, feed: LiveFeed) -> None:
    uuids = [uuid_of(number) for number in range(1, 2 * MOST_PER_FLUSH + 11)]
    await beat_together(spine, uuids)
    with feed.join(ADMIN) as viewer:
        turns = []
        await feed.flush([ClientChanged(uuid) for uuid in uuids])
        while events := dict(await told(viewer)):
            turns.append({client["uuid"] for client in events["clients"]})
            await feed.flush([])
    assert [len(turn) for turn in turns] == [MOST_PER_FLUSH, MOST_PER_FLUSH, 10]
    assert set().union(*turns) == set(uuids)


async def test_whoever_picked_a_client_does_not_wait_for_its_turn(spine: Spine, feed: LiveFeed) -> None:
    uuids = [uuid_of(number) for number in range(1, 2 * MOST_PER_FLUSH + 1)]
    await beat_together(spine, uuids)
    with feed.join(ADMIN), feed.join(ADMIN, uuids[-3:]) as picky:
        await feed.flush([ClientChanged(uuid) for uuid in uuids])
        events = dict(await told(picky))
    assert {client["uuid"] for client in events["clients"]} == set(uuids[-3:])


async def test_turns_go_on_without_further_changes(site: Site) -> None:
    uuids = [uuid_of(number) for number in range(1, MOST_PER_FLUSH + 11)]
    viewer = await site.program(Role.VIEWER)
    async with watching(viewer) as stream:
        await stream.until("hello")
        await beat_together(site.spine, uuids)
        seen: set[str] = set()
        while len(seen) < len(uuids):
            seen |= {client["uuid"] for client in await stream.until("clients")}
    assert seen == set(uuids)


async def test_a_viewer_is_told_to_reload_when_more_changed_than_the_bus_kept(feed: LiveFeed) -> None:
    with feed.join(ADMIN) as curious, feed.join(ADMIN, [U]) as picky:
        await feed.flush([Overflow(), ClientChanged(U)])
        assert await told(curious) == await told(picky) == [("reload", {})]


async def test_an_outage_of_the_fleet_is_told_by_a_reload(feed: LiveFeed) -> None:
    with feed.join(ADMIN) as viewer:
        await feed.flush([ClientChanged(uuid_of(number), alert=True) for number in range(MOST_ALERTS + 1)])
        assert await told(viewer) == [("reload", {})]


async def test_a_slow_viewer_loses_what_waits_and_is_told_to_reload(feed: LiveFeed) -> None:
    with feed.join(ADMIN) as slow:
        half = b"x" * (MOST_WAITING_BYTES // 2)
        slow.put(half)
        slow.put(half)
        slow.put(b"y")
        assert await slow.take(0) == RELOAD
        slow.put(b"z")
        assert await slow.take(0) == b"z"


async def test_what_happens_while_nobody_watches_is_not_kept(spine: Spine, feed: LiveFeed) -> None:
    await spine.beat(U)
    await feed.flush([ClientChanged(U)])
    with feed.join(ADMIN) as viewer:
        await feed.flush([])
        assert await told(viewer) == []


async def test_what_could_not_be_read_is_made_up_for_by_a_reload(spine: Spine, tmp_path: Path) -> None:
    folder = tmp_path / "not there yet"
    store = Store(sqlite_url(folder), create=True)
    feed = LiveFeed(store, Bus(), spine.link, spine.clock)
    with feed.join(ADMIN) as viewer:
        await feed.flush([ClientChanged(U)])
        assert await told(viewer) == []
        folder.mkdir()
        async with store.engine.begin() as connection:
            await connection.run_sync(metadata.create_all)
        await feed.flush([])
        assert await told(viewer) == [("reload", {})]
        await feed.flush([])
        assert await told(viewer) == []
    await store.close()


# Who may watch, and for how long.


async def test_nobody_watches_without_signing_in(site: Site) -> None:
    problem = await ask(await site.browser(), "GET", "/api/events", status=401)
    assert problem["type"] == "unauthenticated"


@pytest.mark.parametrize(
    "query", ["client_uuid=lobby", "x=1", "client_uuid=" + ",".join(map(uuid_of, range(201)))]
)
async def test_a_wrong_stream_is_refused(site: Site, query: str) -> None:
    problem = await ask(await site.program(Role.VIEWER), "GET", f"/api/events?{query}", status=422)
    assert problem["errors"][0]["field"].startswith(query[:1])


async def test_one_stream_too_many_is_refused_until_another_ends(site: Site) -> None:
    site.parts.live._most_viewers = 1
    viewer = await site.program(Role.VIEWER)
    async with watching(viewer) as stream:
        await stream.until("hello")
        async with viewer.get("/api/events") as response:
            assert (response.status, response.headers["Retry-After"]) == (503, "30")
            problem = await response.json(content_type="application/problem+json")
            assert problem["type"] == "too-many-streams"


@pytest.mark.parametrize("ending", ["logout", "elsewhere", "password", "disabled", "removed"])
async def test_the_streams_of_an_ended_session_end_at_once(site: Site, ending: str) -> None:
    browser, accounts, user = (
        await site.browser(Role.VIEWER),
        site.parts.accounts,
        await site.user(Role.VIEWER),
    )
    async with watching(browser) as stream:
        await stream.until("hello")
        match ending:
            case "logout":
                await ask(browser, "POST", "/api/auth/logout", status=204)
            case "elsewhere":
                (session,) = await accounts.sessions(user.id)
                await accounts.end_session(user.id, session.id, ADMIN)
            case "password":
                await accounts.set_password(user.id, "another password", CLI)
            case "disabled":
                await accounts.change_user(user.id, CLI, disabled=True)
            case "removed":
                await accounts.remove_user(user.id, CLI)
        await stream.ends()
    await wait_for_viewers(site.parts.live, 0)


async def test_the_stream_of_a_revoked_token_ends_at_once_and_no_other(site: Site) -> None:
    accounts, user = site.parts.accounts, await site.user(Role.VIEWER)
    made = await accounts.create_token(user.id, "t", Role.VIEWER, CLI)
    program = await site.visitor({"Authorization": f"Bearer {made.secret}"})
    async with watching(program) as stream, watching(await site.browser(Role.VIEWER)) as other:
        await stream.until("hello")
        await other.until("hello")
        await accounts.revoke_token(made.token.id, CLI)
        await stream.ends()
        site.spine.bus.publish(BrokerChanged(connected=True))
        await other.until("broker")


async def test_a_session_that_ended_in_another_process_ends_its_stream_at_the_next_keepalive(
    site: Site,
) -> None:
    async with watching(await site.browser(Role.VIEWER)) as stream:
        await stream.until("hello")
        async with site.parts.store.write() as connection:
            await rows.remove_sessions_of(connection, (await site.user(Role.VIEWER)).id)
        site.spine.clock.advance(site.parts.live.keepalive_seconds)
        site.spine.bus.publish(BrokerChanged(connected=True))
        await stream.ends()


async def test_one_user_takes_no_more_than_a_share_and_operators_find_room(site: Site) -> None:
    live = site.parts.live
    somebody = Actor(7, "kiosk", Role.VIEWER, "token")
    with contextlib.ExitStack() as stack:
        for _ in range(MOST_PER_USER):
            stack.enter_context(live.join(somebody))
        with pytest.raises(TooManyStreams, match="streams_of_user"), live.join(somebody):
            pass
        stack.enter_context(live.join(replace(somebody, via="session")))
        with contextlib.suppress(TooManyStreams):
            for number in range(MOST_VIEWERS):
                stack.enter_context(live.join(Actor(100 + number, "x", Role.VIEWER, "session")))
        with (
            pytest.raises(TooManyStreams, match="streams_open"),
            live.join(Actor(9999, "x", Role.VIEWER, "session")),
        ):
            pass
        stack.enter_context(live.join(Actor(10_000, "olga", Role.OPERATOR, "session")))


async def test_a_stream_outlives_its_keepalives(site: Site) -> None:
    async with watching(await site.browser(Role.VIEWER)) as stream:
        await stream.until("hello")
        for _ in range(3):
            site.spine.clock.advance(site.parts.live.keepalive_seconds)
            site.spine.bus.publish(BrokerChanged(connected=True))
            await stream.until("broker")


async def test_a_quiet_stream_says_every_two_seconds_that_it_is_not_dead(site: Site) -> None:
    assert site.parts.live.heartbeat_seconds <= 2
    site.parts.live.heartbeat_seconds = 0.05
    async with watching(await site.browser(Role.VIEWER)) as stream:
        await stream.until("hello")
        for _ in range(3):
            await stream.until("alive")


async def test_a_viewer_who_goes_away_is_forgotten(site: Site) -> None:
    async with watching(await site.browser(Role.VIEWER)) as stream:
        await stream.until("hello")
    async with asyncio.timeout(DEADLINE_SECONDS):
        while site.parts.live._viewers:
            site.spine.bus.publish(BrokerChanged(connected=True))
            await asyncio.sleep(0.01)


async def test_every_stream_ends_when_the_daemon_stops(tmp_path: Path) -> None:
    async with serving(tmp_path) as site:
        viewer = await site.program(Role.VIEWER)
        async with watching(viewer) as one, watching(viewer, f"?client_uuid={U}") as other:
            await one.until("hello")
            await other.until("hello")
            site.spine.bus.close()
            await one.ends()
            await other.ends()
            async with watching(viewer) as late:
                await late.ends()


async def test_a_viewer_who_takes_nothing_does_not_hold_up_the_stop(tmp_path: Path) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS), serving(tmp_path) as site:
        user = await site.user(Role.VIEWER)
        made = await site.parts.accounts.create_token(user.id, "stuck", Role.VIEWER, CLI)
        connection = stuck_connection(site.url, made.secret)
        await wait_for_viewers(site.parts.live, 1)
        (viewer,) = site.parts.live._viewers
        # So much that no buffer on the way holds it: sending blocks, and what comes then has to wait.
        while not viewer._waiting:
            viewer.put(b": " + b"x" * 1_000_000 + b"\n\n")
            await asyncio.sleep(0.05)
    connection.close()


def stuck_connection(url: URL, token: str) -> socket.socket:
    """Ask for the events and never read them."""
    assert url.host is not None
    assert url.port is not None
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    connection.connect((url.host, url.port))
    head = f"GET /api/events HTTP/1.1\r\nHost: {url.host}\r\nAuthorization: Bearer {token}\r\n\r\n"
    connection.sendall(head.encode())
    return connection
