"""The daemon's spine on a real database file, with time and broker in the test's hand."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from infoscreen.domain.accounts import Actor, Role
from infoscreen.domain.clients import Client
from infoscreen.domain.commands import Action, ClientCommand, Source, Timeouts
from infoscreen.domain.hours import HoursPolicy
from infoscreen.domain.lockout import LockoutPolicy
from infoscreen.domain.presence import StalePolicy
from infoscreen.domain.recovery import Observer, RecoveryPolicy
from infoscreen.services.bulk import Bulk
from infoscreen.services.bus import Bus
from infoscreen.services.commanding import Commanding, CommandPolicy
from infoscreen.services.fleet import Fleet
from infoscreen.services.hours import Hours
from infoscreen.services.ingest import Ingest, IngestPolicy
from infoscreen.services.outbox import Outbox
from infoscreen.services.ports import Incoming
from infoscreen.services.recovery.loop import Recovering
from infoscreen.services.recovery.pauses import Pausing
from infoscreen.services.releasing import Releasing
from infoscreen.services.schedules import Schedules
from infoscreen.services.sites import Sites
from infoscreen.services.watching import Watch, WatchPolicy
from infoscreen.storage import clients, command_history, commands
from infoscreen.storage.engine import Store
from infoscreen.storage.tables import metadata
from tests.fakes import CountingMeasures, FakeClock, FakeLink, FakePublisher
from tests.template import with_tables

OPERATOR = Actor(1, "olga", Role.OPERATOR, "session")
MORNING = datetime(2026, 3, 2, 7, 0, tzinfo=UTC)
ADMIN = Actor(2, "anton", Role.ADMIN, "session")
STALE = StalePolicy(45, 180)
TIMEOUTS = Timeouts(timedelta(seconds=120), timedelta(seconds=600), timedelta(seconds=120))
PER_SECOND = 5.0
POLICY = CommandPolicy(timedelta(seconds=240), TIMEOUTS, LockoutPolicy(3, timedelta(seconds=900)))


def uuid_of(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012d}"


def zulu(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")


@dataclass
class Spine:
    store: Store
    clock: FakeClock
    bus: Bus
    link: FakeLink
    publisher: FakePublisher
    measures: CountingMeasures
    ingest: Ingest
    commanding: Commanding
    bulk: Bulk
    releasing: Releasing
    outbox: Outbox
    watch: Watch
    schedules: Schedules
    sites: Sites
    fleet: Fleet
    pausing: Pausing
    recovering: Recovering

    async def hear(self, *messages: tuple[str, Any], retain: bool = False) -> None:
        """Receive one batch: each is a topic below ``infoscreen/`` and bytes, text or what becomes JSON."""
        batch = [
            Incoming(
                f"infoscreen/{topic}",
                body
                if isinstance(body, bytes)
                else body.encode()
                if isinstance(body, str)
                else json.dumps(body).encode(),
                retain,
            )
            for topic, body in messages
        ]
        await self.ingest.handle(batch, self.clock.now())

    async def beat(self, uuid: str, **told: Any) -> None:
        await self.hear((f"{uuid}/heartbeat", {"timestamp": zulu(self.clock.now()), **told}))

    async def ack(self, command: ClientCommand, status: str, **told: Any) -> None:
        """Send an ack on both topics, as every field device does."""
        body = {
            "command_id": command.command_id,
            "status": status,
            "error_code": None,
            "error_message": None,
            **told,
        }
        await self.hear(
            (f"{command.client_uuid}/commands/ack", body), (f"{command.client_uuid}/command/ack", body)
        )

    async def request(self, uuid: str, action: Action = Action.REBOOT_HOST, **more: Any) -> ClientCommand:
        actor = more.pop("actor", OPERATOR)
        return await self.commanding.request(uuid, action, source=Source.OPERATOR, actor=actor, **more)

    async def client(self, uuid: str) -> Client:
        async with self.store.read() as connection:
            found = await clients.get(connection, uuid)
        assert found is not None
        return found

    async def command(self, command: ClientCommand) -> ClientCommand:
        async with self.store.read() as connection:
            found = await commands.get(connection, command.command_id)
        assert found is not None
        return found

    async def history(self, command: ClientCommand) -> list[tuple[str | None, str, int]]:
        async with self.store.read() as connection:
            lines = await command_history.events(connection, command.command_id)
        return [
            (line.from_status and line.from_status.value, line.to_status.value, line.times) for line in lines
        ]


@asynccontextmanager
async def open_spine(
    url: str,
    *,
    auto_register: bool = True,
    recovery: RecoveryPolicy | None = None,
    clock: FakeClock | None = None,
) -> AsyncIterator[Spine]:
    """Put the parts together on an empty database; it has listened for an hour."""
    store = Store(url)
    if url.endswith(":memory:"):
        async with store.write() as connection:
            await connection.run_sync(metadata.create_all)
    else:
        await with_tables(url)
    clock = clock or FakeClock(MORNING)
    bus, measures, wake, publisher = Bus(), CountingMeasures(), asyncio.Event(), FakePublisher()
    link = FakeLink(clock, clock.now() - timedelta(hours=1))
    ingest_policy = IngestPolicy(STALE, TIMEOUTS, auto_register)
    watch_policy = WatchPolicy(STALE, TIMEOUTS, timedelta(seconds=15), timedelta(days=90))
    commanding = Commanding(store, clock, bus, POLICY, measures, wake)
    bulk = Bulk(store, clock, commanding, expiry=POLICY.expiry, per_second=PER_SECOND)
    started_at = clock.now() - timedelta(hours=1)
    schedules = Schedules(store, clock, Hours(), HoursPolicy())

    def observer() -> Observer:
        return Observer(listening_since=link.state.listening_since, started_at=started_at)

    try:
        yield Spine(
            store=store,
            clock=clock,
            bus=bus,
            link=link,
            publisher=publisher,
            measures=measures,
            ingest=Ingest(store, clock, bus, ingest_policy, measures, lambda: link.state),
            commanding=commanding,
            bulk=bulk,
            releasing=Releasing(
                store, clock, commanding, bulk, publisher, expiry=POLICY.expiry, per_second=PER_SECOND
            ),
            outbox=Outbox(store, clock, bus, publisher, link, measures, wake, alias=False),
            watch=Watch(store, clock, bus, link, watch_policy, measures, schedules),
            schedules=schedules,
            sites=Sites(store, clock, bus, schedules),
            fleet=Fleet(store, clock, bus, link, wake, schedules),
            pausing=Pausing(store, clock, bus),
            recovering=Recovering(
                store,
                clock,
                bus,
                commanding,
                measures,
                recovery or RecoveryPolicy(),
                POLICY.lockout,
                observer,
            ),
        )
    finally:
        await store.close()


def sqlite_url(folder: Path) -> str:
    return f"sqlite+aiosqlite:///{folder / 'test.db'}"
