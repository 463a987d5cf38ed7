"""Availability: notes when the daemon listened, finds the causes of dark intervals, sums up each day.

Sums are of days that are over, by the calendar of each client's site. Intervals are forgotten after their
retention, sums after their own; the former never changes the latter.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from infoscreen.clock import Clock, ClockStep, zone_named
from infoscreen.domain.availability import (
    NOTHING,
    Cure,
    IntervalCause,
    Spans,
    StatusInterval,
    Sums,
    found,
    lived,
    measured,
    minus,
    plus,
    since,
)
from infoscreen.domain.clients import Client
from infoscreen.domain.hours import ALWAYS
from infoscreen.domain.sites import Site
from infoscreen.progress import expect_within
from infoscreen.services.hours import BadHours
from infoscreen.services.loops import every
from infoscreen.services.ports import Link
from infoscreen.services.schedules import Schedules
from infoscreen.storage import availability, availability_days, clients, sites
from infoscreen.storage.availability_days import DayRow, Standing
from infoscreen.storage.engine import Connection, Store

OBSERVED_SECONDS = 15.0
"""After a kill so much of the time before it counts as unknown."""

STEP_SECONDS = 60.0
SETTLED_AFTER = timedelta(minutes=15)
"""By then the recovery knows what has helped, and who was part of an outage."""

PAGE = 500
"""Clients looked at in one query."""

LOOKED_BACK = timedelta(days=3)
"""The day before one that is summed up again ended within this."""

MOST_DAYS = 400
"""So many days are made up for after the daemon was off."""


_Explained = tuple[StatusInterval, IntervalCause, Cure | None]


@dataclass(frozen=True, slots=True)
class Kept:
    """How long intervals and sums are kept."""

    intervals: timedelta
    sums: timedelta


@dataclass(frozen=True, slots=True)
class Portions:
    """How many rows one transaction writes, and how long nothing is done after it.

    Whatever there is to be made up for, nobody else waits for long, and most of the processor stays free.
    """

    rows: int = 100
    pause_seconds: float = 0.1


SMALL = Portions()


class Availability:
    """The loops behind availability."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        link: Link,
        schedules: Schedules,
        kept: Kept,
        portions: Portions = SMALL,
    ) -> None:
        self._store = store
        self._clock = clock
        self._link = link
        self._schedules = schedules
        self._kept = kept
        self._portions = portions
        self._step: ClockStep | None = clock.last_step
        self._begun = False
        self._summed: dict[str | None, str] = {}
        """The day up to which each time zone was summed up."""

    async def run_observing(self) -> None:
        """Note that the daemon listens, until cancelled."""
        await every(OBSERVED_SECONDS, self.observe, self._clock)

    async def run(self) -> None:
        """Explain, sum up and forget, until cancelled."""
        await every(STEP_SECONDS, self.step, self._clock)

    async def observe(self) -> None:
        """Note that the daemon listens now, if it does."""
        listening = self._link.state.listening_since
        if listening is None:
            return
        set_since = self._clock.last_step is not self._step
        cause = IntervalCause.BROKER_OR_SERVER if self._begun and not set_since else IntervalCause.UNKNOWN
        async with self._store.write() as connection:
            await availability.observe(connection, listening, self._clock.now(), cause)
        self._begun, self._step = True, self._clock.last_step

    async def step(self) -> None:
        """Take every step that is due."""
        await self.explain()
        await self.sum_up()
        await self._forget()

    async def explain(self) -> None:
        """Find causes and cures of dark intervals that ended a while ago."""
        before = self._clock.now() - SETTLED_AFTER
        while await self._explain_some(before):
            await self._pause()

    async def sum_up(self) -> None:
        """Sum up the days that are over and were not yet, from the first on in which the daemon listened."""
        now = self._clock.now()
        async with self._store.read() as connection:
            observed = await availability.observed_since(connection)
            zones = {one.name: one.time_zone for one in await sites.all_of_them(connection)}
        if observed is None:
            return
        due = {}
        for name in {None, *zones.values()}:
            zone = self._zone(name)
            day = _yesterday(zone, now)
            if self._summed.get(name) != day and _end(day, zone) > observed:
                due[name] = _Due(zone, day)
        after = ""
        while due:
            async with self._store.read() as connection:
                page = await availability_days.standings(connection, after, PAGE)
            missing = _missing(page, {one.uuid: due.get(zones.get(one.site or "")) for one in page}, observed)
            for part in _parts(missing, self._portions.rows):
                await self._sum_some(part, observed)
                await self._pause()
            if len(page) < PAGE:
                break
            after = page[-1].uuid
            await self._pause()
        self._summed.update((name, one.day) for name, one in due.items())

    async def _pause(self) -> None:
        expect_within()
        await self._clock.sleep(self._portions.pause_seconds)

    def _zone(self, name: str | None) -> ZoneInfo:
        return zone_named(name or "") or self._schedules.hours.zone

    async def _sum_some(self, part: Mapping[str, "_Due"], observed: datetime) -> None:
        """Append sums of the days up to the one of each client."""
        async with self._store.read() as connection:
            some = list((await clients.get_many(connection, part)).values())
            last = await availability_days.newest(connection, part)
            starts = {
                one.uuid: last[one.uuid].until if one.uuid in last else _begin(one, observed) for one in some
            }
            ledger = await self._ledger(connection, some, min(starts.values(), default=observed))
        for client in some:
            before, (zone, until) = last.get(client.uuid), part[client.uuid]
            at, total = starts[client.uuid], NOTHING if before is None else before.sums
            for day in _days(at if before is None else before.day, zone, until):
                end = max(at, _end(day, zone))
                sums = ledger.measure(client, at, end)
                total = plus(total, sums)
                ledger.add(DayRow(client.uuid, day, end, total), sums)
                at = end
        async with self._store.write() as connection:
            await ledger.save(connection)

    async def _explain_some(self, before: datetime) -> bool:
        """Explain intervals, and correct what was summed up of them; tell whether there were any."""
        async with self._store.read() as connection:
            dark = await availability.unexplained(connection, before, max(1, self._portions.rows // 4))
            if not dark:
                return False
            explained = await _explained(connection, dark)
            rows = await _affected(connection, dark)
            chosen = _first_of(dark, rows, self._portions.rows)
            explained = [one for one in explained if one[0].client_uuid in chosen]
            ledger = await self._summed_again(connection, explained, rows)
        async with self._store.write() as connection:
            # In this order: who deletes a client holds it before its intervals.
            await ledger.save(connection)
            await availability.explain(connection, explained)
        return True

    async def _summed_again(
        self, connection: Connection, explained: Sequence[_Explained], rows: Mapping[str, Sequence[DayRow]]
    ) -> "_Ledger":
        """Return corrections of the sums that were made before these causes were known."""
        began = _began([interval for interval, _, _ in explained])
        affected = [uuid for uuid in began if rows.get(uuid) and rows[uuid][-1].until > began[uuid]]
        some = list((await clients.get_many(connection, affected)).values())
        ledger = await self._ledger(connection, some, min(began.values()) - LOOKED_BACK)
        ledger.explain(explained)
        observed = await availability.observed_since(connection)
        for client in some:
            of_client = rows[client.uuid]
            first = next(n for n, row in enumerate(of_client) if row.until > began[client.uuid])
            start, end = _begin(client, observed), of_client[0].until
            if first == 0 and not end - LOOKED_BACK <= start < end:
                continue  # too long ago
            at, total = (start, NOTHING) if first == 0 else of_client[first - 1][2:]
            old = total
            for row in of_client[first:]:
                sums = ledger.measure(client, at, row.until)
                change = minus(sums, minus(row.sums, old))
                total, old, at = plus(total, sums), row.sums, row.until
                ledger.add(row._replace(sums=total), change)
        return ledger

    async def _ledger(self, connection: Connection, some: Sequence[Client], start: datetime) -> "_Ledger":
        now = self._clock.now()
        known = await sites.by_names(connection, {one.site for one in some if one.site})
        return _Ledger(
            await availability.of_clients(connection, [one.uuid for one in some], start, now),
            [(one.began_at, one.ended_at) for one in await availability.gaps(connection, start, now)],
            {one.uuid: self._closed(one, known.get(one.site or "")) for one in some},
        )

    def _closed(self, client: Client, site: Site | None) -> Callable[[datetime, datetime], Spans]:
        schedule, _ = self._schedules.of(client, site)

        def spans(start: datetime, end: datetime) -> Spans:
            if schedule.hours == ALWAYS:
                return ()
            try:
                parts = self._schedules.hours.intervals(schedule, start, end)
            except BadHours:
                return ()
            return [(one.start, one.end) for one in parts if not one.within]

        return spans

    async def _forget(self) -> None:
        now, limit = self._clock.now(), self._portions.rows
        intervals, day = now - self._kept.intervals, (now - self._kept.sums).date().isoformat()
        while True:
            async with self._store.write() as connection:
                gone = await availability.forget_before(connection, intervals, limit)
            if gone < limit:
                break
            await self._pause()
        while True:
            async with self._store.write() as connection:
                gone = await availability_days.forget_before(connection, day, limit)
            if gone < limit:
                break
            await self._pause()


class _Due(NamedTuple):
    """The day up to which clients in a time zone are to be summed up."""

    zone: ZoneInfo
    day: str


def _begin(client: Client | Standing, observed: datetime | None) -> datetime:
    """Return from when on a client is measured: nothing is known of the time before we listened."""
    return client.created_at if observed is None else max(client.created_at, observed)


def _yesterday(zone: ZoneInfo, now: datetime) -> str:
    """Return the last day that is over, for a while already."""
    return ((now - SETTLED_AFTER).astimezone(zone).date() - timedelta(days=1)).isoformat()


def _end(day: str, zone: ZoneInfo) -> datetime:
    """Return when a day ends there, whatever happens to clocks."""
    following = date.fromisoformat(day) + timedelta(days=1)
    return datetime.combine(following, time(), tzinfo=zone).astimezone(UTC)


def _days(after: str | datetime, zone: ZoneInfo, until: str) -> list[str]:
    """Return the days up to ``until``: those after a day, or from the one on in which a time lies."""
    if isinstance(after, str):
        first = date.fromisoformat(after) + timedelta(days=1)
    else:
        first = after.astimezone(zone).date()
    last = date.fromisoformat(until)
    first = max(first, last - timedelta(days=MOST_DAYS))
    return [(first + timedelta(days=number)).isoformat() for number in range((last - first).days + 1)]


def _missing(
    page: Iterable[Standing], due: Mapping[str, _Due | None], observed: datetime
) -> Iterator[tuple[str, ZoneInfo, list[str]]]:
    """Yield the clients that have no sums of days by now, and those days."""
    for one in page:
        upto = due[one.uuid]
        if upto is None or one.created_at >= _end(upto.day, upto.zone):
            continue
        days = _days(one.newest or _begin(one, observed), *upto)
        if days:
            yield one.uuid, upto.zone, days


def _parts(missing: Iterable[tuple[str, ZoneInfo, list[str]]], most: int) -> Iterator[dict[str, _Due]]:
    """Cut into parts of at most so many days in all; days of one client may lie in several."""
    part: dict[str, _Due] = {}
    room = most
    for uuid, zone, days in missing:
        while days:
            part[uuid] = _Due(zone, days[:room][-1])
            room, days = room - len(days[:room]), days[room:]
            if not room:
                yield part
                part, room = {}, most
    if part:
        yield part


def _began(some: Iterable[StatusInterval]) -> dict[str, datetime]:
    """Return the earliest beginning for each client."""
    began: dict[str, datetime] = {}
    for one in some:
        began[one.client_uuid] = min(one.began_at, began.get(one.client_uuid, one.began_at))
    return began


async def _affected(connection: Connection, some: Iterable[StatusInterval]) -> dict[str, list[DayRow]]:
    """Return the rows of clients from shortly before the first of the intervals on."""
    began = _began(some)
    return await availability_days.since(connection, began, min(began.values()) - LOOKED_BACK)


def _first_of(some: Iterable[StatusInterval], rows: Mapping[str, Sequence[DayRow]], most: int) -> set[str]:
    """Return as many clients as have so many rows in all, but at least one."""
    chosen: set[str] = set()
    for one in some:
        if one.client_uuid not in chosen:
            most -= len(rows.get(one.client_uuid, ()))
            if chosen and most < 0:
                break
            chosen.add(one.client_uuid)
    return chosen


@dataclass(slots=True)
class _Ledger:
    """What clients' days are measured by, and what came of it."""

    intervals: dict[str, list[StatusInterval]]
    gaps: Spans
    shut: Mapping[str, Callable[[datetime, datetime], Spans]]
    entries: list[tuple[DayRow, Sums]] = dataclass_field(default_factory=list)
    """Rows to be written, and by what they change the sums of the site."""

    def explain(self, explained: Iterable[_Explained]) -> None:
        """Take causes for known that are not stored yet."""
        found = {one.number: (cause, cure) for one, cause, cure in explained}
        for uuid, intervals in self.intervals.items():
            self.intervals[uuid] = [
                one._replace(cause=found[one.number][0], cure=found[one.number][1])
                if one.number in found
                else one
                for one in intervals
            ]

    def measure(self, client: Client, start: datetime, end: datetime) -> Sums:
        """Return the sums of a client between two times."""
        if end <= start:
            return NOTHING
        present = StatusInterval(client.uuid, lived(client), since(client), None)
        own = [one for one in self.intervals.get(client.uuid, ()) if one.ended_at and one.ended_at > start]
        return measured([*own, present], self.gaps, self.shut[client.uuid](start, end), start, end)

    def add(self, row: DayRow, change: Sums) -> None:
        """Take in the sums of a day, and by what they change those of the site."""
        self.entries.append((row, change))

    async def save(self, connection: Connection) -> None:
        """Write the rows of clients that were not deleted meanwhile."""
        places = await availability_days.sites_of(connection, {row.client_uuid for row, _ in self.entries})
        entries = [one for one in self.entries if one[0].client_uuid in places]
        changes: defaultdict[tuple[str, str], Sums] = defaultdict(lambda: NOTHING)
        for row, change in entries:
            key = row.day, places[row.client_uuid]
            changes[key] = plus(changes[key], change)
        await availability_days.save(connection, [row for row, _ in entries], changes)


async def _explained(connection: Connection, some: Sequence[StatusInterval]) -> list[_Explained]:
    uuids = {one.client_uuid for one in some}
    start = min(one.began_at for one in some)
    outages = await availability.outages(connection, uuids, start)
    helped = await availability.helped(connection, uuids, start)
    explained = []
    for one in some:
        cause, cure = found(one, outages.get(one.client_uuid, ()), helped.get(one.client_uuid, ()))
        explained.append((one, cause or IntervalCause.UNKNOWN, cure))
    return explained
