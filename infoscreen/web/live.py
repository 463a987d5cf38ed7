"""The live view: what changed, read and rendered once, handed to every open event stream.

Nobody waits for a viewer here. One that does not keep up loses what waits for it and is told to reload; the
ordinary heartbeats of a big fleet are told in turn, a few hundred clients a second: nobody could read more.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from pydantic import BaseModel, TypeAdapter

import infoscreen
from infoscreen.clock import Clock
from infoscreen.domain.accounts import Actor, Role
from infoscreen.domain.clients import STALE, Client, Condition
from infoscreen.domain.error_codes import ErrorCode
from infoscreen.domain.errors import StoreUnavailable, TooManyStreams
from infoscreen.domain.events import (
    AccessChanged,
    BrokerChanged,
    ClientChanged,
    ClientRemoved,
    CommandChanged,
    Event,
    RecoveryChanged,
)
from infoscreen.domain.recovery import OUTAGES, network_of
from infoscreen.domain.recovery.coincidence import WINDOWS
from infoscreen.progress import FOR_EVER, expect_within
from infoscreen.services.bus import Bus, BusClosed, Overflow, Subscription
from infoscreen.services.ports import Link
from infoscreen.storage import client_totals, clients, commands
from infoscreen.storage.engine import Connection, Store
from infoscreen.storage.recovery import incidents
from infoscreen.storage.recovery.incidents import StoredIncident
from infoscreen.web.api import models

FLUSH_SECONDS = 0.25
"""At most so often is anything told (http contract)."""

HEARTBEAT_SECONDS = 2.0
"""A stream is never silent for longer, so that a page knows within 5 s that it is dead."""

KEEPALIVE_SECONDS = 15.0
"""How often the access of a viewer is checked."""

MOST_VIEWERS = 500
RESERVED_PART = 5
"""One stream of so many is for operators and admins: viewers never keep those out who must act."""

MOST_PER_USER = 50
"""Streams of one user's browsers; those of the same user's API tokens are counted apart."""

MOST_PER_FLUSH = 100
"""So many clients, and commands, are told at once to viewers who want all; the rest takes its turn."""

MOST_ALERTS = 500
"""If more clients than this fail at once, viewers are told to reload."""

TOGETHER = timedelta(seconds=max(WINDOWS))
"""Who was heard last at another time than this around an outage's beginning is not silent because of it."""

MOST_WAITING_BYTES = 2 * 1024 * 1024
RENDERED_IN_A_ROW = 50
"""Number after which the event loop gets a turn."""

log = logging.getLogger(__name__)


def frame(event: str, data: bytes) -> bytes:
    """Return one server-sent event; ``data`` is JSON without line breaks."""
    return b"event: " + event.encode() + b"\ndata: " + data + b"\n\n"


RELOAD = frame("reload", b"{}")


class Viewer:
    """What waits to be sent to one event stream. Bounded: too much is replaced by one ``reload``."""

    def __init__(self, only: frozenset[str], actor: Actor) -> None:
        """Begin with nothing; ``only`` are the clients that ``actor`` wants to hear of, empty for all."""
        self.only = only
        self.actor = actor
        self.is_doubted = False
        """True if the access may have ended; checked before anything is sent."""
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._something = asyncio.Event()
        self._limit: asyncio.Timeout | None = None
        self._ended = False

    def put(self, frames: bytes) -> None:
        """Add frames; never waits."""
        if self._size + len(frames) > MOST_WAITING_BYTES:
            self._waiting.clear()
            self._size = 0
            frames = RELOAD
        self._waiting.append(frames)
        self._size += len(frames)
        self._something.set()

    async def take(self, seconds: float) -> bytes:
        """Return all that waits, or nothing when nothing comes for so long."""
        try:
            async with asyncio.timeout(max(seconds, 0)):
                await self._something.wait()
        except TimeoutError:
            return b""
        frames = b"".join(self._waiting)
        self._waiting.clear()
        self._size = 0
        self._something.clear()
        return frames

    def doubt(self) -> None:
        """Have the actor's access checked at once."""
        self.is_doubted = True
        self._something.set()

    def end(self) -> None:
        """End the stream at once, even one that is stuck in sending."""
        self._ended = True
        if self._limit is not None and not self._limit.expired():
            self._limit.reschedule(0)  # long past on the clock of any loop

    @asynccontextmanager
    async def until_end(self) -> AsyncIterator[None]:
        """Run the block until it is done or the stream is ended, whichever comes first."""
        try:
            async with asyncio.timeout(0 if self._ended else None) as self._limit:
                yield
        except TimeoutError:
            if self._limit is None or not self._limit.expired():
                raise
        finally:
            self._limit = None


@dataclass(slots=True)
class _Changes:
    """The events of one flush by what they are about; ``commands`` maps to the client of each."""

    clients: set[str] = field(default_factory=set)
    alerts: set[str] = field(default_factory=set)
    removed: set[str] = field(default_factory=set)
    commands: dict[str, str] = field(default_factory=dict)
    broker: bool = False
    recovery: bool = False
    too_many: bool = False

    def add(self, change: Event | Overflow) -> None:
        match change:
            case ClientChanged(uuid=uuid, alert=alert):
                self.clients.add(uuid)
                if alert:
                    self.alerts.add(uuid)
            case ClientRemoved(uuid=uuid):
                self.removed.add(uuid)
            case CommandChanged(command_id=command_id, client_uuid=uuid):
                self.commands[command_id] = uuid
            case BrokerChanged():
                self.broker = True
            case AccessChanged():
                pass  # not told to anybody; flush() has the access of those concerned checked
            case RecoveryChanged():
                self.recovery = True
            case Overflow():
                self.too_many = True


@dataclass(frozen=True, slots=True)
class _Rendered:
    """JSON of what was read, by identifier; ``totals`` is None when no client changed.

    ``folded`` are clients whose trouble is part of an incident that is told already.
    """

    clients: Mapping[str, bytes]
    commands: Mapping[str, bytes]
    totals: bytes | None
    incidents: bytes | None
    folded: frozenset[str]


class LiveFeed:
    """Follows the bus and tells the viewers. One task, ``run``, belongs to the daemon's task group."""

    def __init__(
        self,
        store: Store,
        bus: Bus,
        link: Link,
        clock: Clock,
        *,
        keepalive_seconds: float = KEEPALIVE_SECONDS,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
        most_viewers: int = MOST_VIEWERS,
    ) -> None:
        """Nothing runs yet."""
        self.keepalive_seconds = keepalive_seconds
        self.heartbeat_seconds = heartbeat_seconds
        self._store = store
        self._bus = bus
        self._link = link
        self._clock = clock
        self._most_viewers = most_viewers
        self._viewers: set[Viewer] = set()
        self._clients_in_turn: dict[str, None] = {}
        self._commands_in_turn: dict[str, None] = {}
        self._last_totals = b""
        self._missed = False
        self._closed = False

    @contextmanager
    def join(self, actor: Actor, only: Collection[str] = ()) -> Iterator[Viewer]:
        """Hear of changes for as long as the block lasts; raise ``TooManyStreams`` when it is too crowded."""
        self._refuse_too_many(actor)
        viewer = Viewer(frozenset(only), actor)
        if self._closed:
            viewer.end()
        self._viewers.add(viewer)
        try:
            yield viewer
        finally:
            self._viewers.discard(viewer)

    def _refuse_too_many(self, actor: Actor) -> None:
        whose = (actor.user_id, actor.via)
        theirs = sum((one.actor.user_id, one.actor.via) == whose for one in self._viewers)
        reserved = 0 if actor.role.may(Role.OPERATOR) else self._most_viewers // RESERVED_PART
        if theirs >= MOST_PER_USER:
            raise TooManyStreams(ErrorCode.STREAMS_OF_USER, streams=theirs)
        if len(self._viewers) >= self._most_viewers - reserved:
            raise TooManyStreams(ErrorCode.STREAMS_OPEN, streams=len(self._viewers))

    async def hello(self) -> bytes:
        """Return the first event of a stream; raise ``StoreUnavailable``."""
        async with self._store.read() as connection:
            totals = await client_totals.totals(connection)
        hello = models.Hello(
            generated_at=self._clock.now(),
            version=infoscreen.__version__,
            totals=totals,
            broker=models.BrokerModel.model_validate(self._link.state),
        )
        return frame("hello", _json(hello))

    async def run(self) -> None:
        """Send changes to the viewers until the bus is closed, then end their streams and return."""
        with self._bus.subscribe() as subscription:
            try:
                while True:
                    expect_within(FOR_EVER)
                    events = await self._next(subscription)
                    expect_within()
                    await self.flush(events)
                    await subscription.pause(FLUSH_SECONDS)
            except BusClosed:
                log.debug("the live view ends", extra={"event": "live_ended", "viewers": len(self._viewers)})
            finally:
                self._closed = True
                for viewer in self._viewers:
                    viewer.end()

    async def flush(self, events: Collection[Event | Overflow]) -> None:
        """Tell the viewers of these events, and of clients and commands whose turn it is."""
        if not self._viewers:
            self._forget()
            return
        users = {event.user_id for event in events if isinstance(event, AccessChanged)}
        for viewer in self._viewers:
            if viewer.actor.user_id in users:
                viewer.doubt()
        changes = _Changes()
        for event in events:
            changes.add(event)
        try:
            if self._missed or changes.too_many or len(changes.alerts) > MOST_ALERTS:
                await self._reload()
            else:
                await self._tell(changes)
        except StoreUnavailable:
            # What was not told now would never be told: the viewers reload once the database is back.
            self._missed = True

    async def _next(self, subscription: Subscription) -> frozenset[Event | Overflow]:
        """Return what changed, waiting for it only when there is nothing else to tell."""
        if not (self._missed or self._clients_in_turn or self._commands_in_turn):
            return await subscription.next()
        try:
            async with asyncio.timeout(0):
                return await subscription.next()
        except TimeoutError:
            return frozenset()

    async def _reload(self) -> None:
        async with self._store.read() as connection:
            totals = _json_totals(await client_totals.totals(connection))
        self._forget()
        self._last_totals = totals
        for viewer in self._viewers:
            viewer.put(RELOAD)

    async def _tell(self, changes: _Changes) -> None:
        viewers = tuple(self._viewers)
        if any(not viewer.only for viewer in viewers):
            self._clients_in_turn.update(dict.fromkeys(changes.clients - changes.alerts))
            self._commands_in_turn.update(dict.fromkeys(changes.commands))
        picked = frozenset[str]().union(*(viewer.only for viewer in viewers))
        picked_commands = {one for one, client_uuid in changes.commands.items() if client_uuid in picked}
        turn = changes.alerts | _take(self._clients_in_turn, MOST_PER_FLUSH)
        turn_commands = _take(self._commands_in_turn, MOST_PER_FLUSH)
        async with self._store.read() as connection:
            rendered = await self._render(
                connection,
                turn | (changes.clients & picked),
                turn_commands | picked_commands,
                changes,
            )
        for_all = self._frames_for_all(changes, rendered)
        unpicked = (
            _frames("clients", rendered.clients, turn)
            + _frames("commands", rendered.commands, turn_commands)
            + for_all
        )
        for viewer in viewers:
            own = _frames_of_picked(viewer.only, changes, rendered) + for_all if viewer.only else unpicked
            if own:
                viewer.put(own)

    async def _render(
        self,
        connection: Connection,
        uuids: Collection[str],
        command_ids: Collection[str],
        changes: _Changes,
    ) -> _Rendered:
        now, since = self._clock.now(), self._link.state.listening_since
        rendered: dict[str, bytes] = {}
        known = await clients.get_many(connection, uuids)
        for client in known.values():
            rendered[client.uuid] = _json(models.ClientModel.of(client, now, since))
            if len(rendered) % RENDERED_IN_A_ROW == 0:
                await asyncio.sleep(0)
        found = await commands.get_many(connection, command_ids)
        rendered_commands = {one: _json(models.CommandModel.of(command)) for one, command in found.items()}
        totals = None
        if changes.clients or changes.removed:
            totals = _json_totals(await client_totals.totals(connection))
        under_way = await incidents.under_way(connection) if changes.alerts or changes.recovery else []
        folded = (one for one in changes.alerts if one in known and _covered(known[one], under_way))
        told = _json(models.UnderWay.of(under_way)) if changes.recovery else None
        return _Rendered(rendered, rendered_commands, totals, told, frozenset(folded))

    def _frames_for_all(self, changes: _Changes, rendered: _Rendered) -> bytes:
        frames = _frames("alerts", rendered.clients, changes.alerts - rendered.folded)
        if changes.removed:
            frames += frame("removed", _UUIDS.dump_json(sorted(changes.removed)))
        if rendered.totals is not None and rendered.totals != self._last_totals:
            self._last_totals = rendered.totals
            frames += frame("totals", rendered.totals)
        if rendered.incidents is not None:
            frames += frame("recovery", rendered.incidents)
        if changes.broker:
            frames += frame("broker", _json(models.BrokerModel.model_validate(self._link.state)))
        return frames

    def _forget(self) -> None:
        self._clients_in_turn.clear()
        self._commands_in_turn.clear()
        self._last_totals = b""
        self._missed = False


def _covered(client: Client, under_way: Collection[StoredIncident]) -> bool:
    """Tell whether a client's silence is part of an outage that is told as one: of its place and its time."""
    heard = client.last_alive
    if client.status not in STALE or heard is None:
        return False
    network = network_of(client.ip)
    return any(
        one.kind in OUTAGES
        and one.site in {None, client.site}
        and one.network in {None, network}
        and one.began_at - TOGETHER <= heard <= one.began_at + TOGETHER
        for one in under_way
    )


_UUIDS = TypeAdapter(list[str])
_TOTALS = TypeAdapter(dict[Condition, int])


def _json(model: BaseModel) -> bytes:
    return model.model_dump_json().encode()


def _json_totals(totals: dict[Condition, int]) -> bytes:
    return _TOTALS.dump_json(totals)


def _take(in_turn: dict[str, None], most: int) -> set[str]:
    """Remove and return the ``most`` that wait for longest."""
    taken = [key for _, key in zip(range(most), in_turn, strict=False)]
    for key in taken:
        del in_turn[key]
    return set(taken)


def _frames(event: str, rendered: Mapping[str, bytes], which: Collection[str]) -> bytes:
    parts = [rendered[key] for key in which if key in rendered]
    return frame(event, b"[" + b",".join(parts) + b"]") if parts else b""


def _frames_of_picked(only: frozenset[str], changes: _Changes, rendered: _Rendered) -> bytes:
    mine = {one for one, client_uuid in changes.commands.items() if client_uuid in only}
    return _frames("clients", rendered.clients, changes.clients & only) + _frames(
        "commands", rendered.commands, mine
    )
