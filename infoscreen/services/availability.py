"""Availability: notes when the daemon listened, finds the causes of dark intervals, sums up each day.

Sums are of days that are over, by the calendar of each client's site. Intervals are forgotten after their
retention, sums after their own; the former never changes the latter.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from infoscreen.clock import Clock, ClockStep
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
from infoscreen.services.hours import BadHours
from infoscreen.services.loops import every
from infoscreen.services.ports import Link
from infoscreen.services.schedules import Schedules
from infoscreen.storage import availability, availability_days, clients, sites
from infoscreen.storage.availability_days import DayRow
from infoscreen.storage.engine import Connection, Store

OBSERVED_SECONDS = 15.0
"""After a kill so much of the time before it counts as unknown."""

STEP_SECONDS = 60.0
SETTLED_AFTER = timedelta(minutes=15)
"""By then the recovery knows what has helped, and who was part of an outage."""

AT_ONCE = 250
"""Clients summed up in one transaction."""

LOOKED_BACK = timedelta(days=3)
"""The day before one that is summed up again ended within this."""

MOST_DAYS = 400
"""So many days are made up for after the daemon was off."""


@dataclass(frozen=True, slots=True)
class Kept:
    """How long intervals and sums are kept."""

    intervals: timedelta
    sums: timedelta


class Availability:
    """The loops behind availability."""

    def __init__(self, store: Store, clock: Clock, link: Link, schedules: Schedules, kept: Kept) -> None:
        self._store = store
        self._clock = clock
        self._link = link
        self._schedules = schedules
        self._kept = kept
        self._step: ClockStep | None = clock.last_step
        self._begun = False
        self._summed: dict[str, str] = {}
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
        while True:
            async with self._store.write() as connection:
                unexplained = await availability.unexplained(connection, before, AT_ONCE)
                if not unexplained:
                    return
                await availability.explain(connection, await _explained(connection, unexplained))
                await self._sum_again(connection, unexplained)

    async def sum_up(self) -> None:
        """Sum up the days that are over and were not yet."""
        now = self._clock.now()
        async with self._store.read() as connection:
            zones = {one.time_zone for one in await sites.all_of_them(connection)}
            observed = await availability.observed_since(connection)
        for zone in {None, *zones}:
            there = self._zone(zone)
            day = _yesterday(there, now)
            end = _end(date.fromisoformat(day), there)
            if self._summed.get(str(zone)) == day or observed is None or observed >= end:
                continue
            uuids = [""]
            while uuids:
                async with self._store.read() as connection:
                    uuids = await availability_days.not_summed(connection, day, end, zone, uuids[-1], AT_ONCE)
                if uuids:
                    async with self._store.write() as connection:
                        await self._sum_some(connection, uuids, there, day)
                await asyncio.sleep(0)
            self._summed[str(zone)] = day

    def _zone(self, name: str | None) -> ZoneInfo:
        try:
            return self._schedules.hours.zone if name is None else ZoneInfo(name)
        except (LookupError, ValueError, OSError):
            return self._schedules.hours.zone

    async def _sum_some(
        self, connection: Connection, uuids: Sequence[str], zone: ZoneInfo, until: str
    ) -> None:
        """Append sums of the days up to ``until`` for clients that have none of it."""
        some = list((await clients.for_change(connection, uuids)).values())
        last = await availability_days.newest(connection, uuids)
        observed = await availability.observed_since(connection)
        starts = {
            one.uuid: last[one.uuid].until if one.uuid in last else _begin(one, observed) for one in some
        }
        ledger = await self._ledger(connection, some, min(starts.values(), default=self._clock.now()))
        for client in some:
            before = last.get(client.uuid)
            at, total = starts[client.uuid], NOTHING if before is None else before.sums
            for day in _days(at if before is None else before.day, zone, until):
                end = max(at, _end(day, zone))
                sums = ledger.measure(client, at, end)
                total = plus(total, sums)
                ledger.add(DayRow(client.uuid, day.isoformat(), end, total), client.site, sums)
                at = end
        await availability_days.save(connection, ledger.rows, ledger.changes)

    async def _sum_again(self, connection: Connection, explained: Iterable[StatusInterval]) -> None:
        """Correct the sums that were made before the causes of these intervals were known."""
        began: dict[str, datetime] = {}
        for one in explained:
            began[one.client_uuid] = min(one.began_at, began.get(one.client_uuid, one.began_at))
        rows = await availability_days.since(connection, began, min(began.values()) - LOOKED_BACK)
        affected = [uuid for uuid, of_client in rows.items() if of_client[-1].until > began[uuid]]
        some = list((await clients.get_many(connection, affected)).values())
        ledger = await self._ledger(connection, some, min(began.values()) - LOOKED_BACK)
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
                ledger.add(row._replace(sums=total), client.site, change)
        await availability_days.save(connection, ledger.rows, ledger.changes)

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
        now = self._clock.now()
        while True:
            async with self._store.write() as connection:
                if await availability.forget_before(connection, now - self._kept.intervals, 1_000) < 1_000:
                    break
        async with self._store.write() as connection:
            await availability_days.forget_before(connection, (now - self._kept.sums).date().isoformat())


def _begin(client: Client, observed: datetime | None) -> datetime:
    """Return from when on a client is measured: nothing is known of the time before we listened."""
    return client.created_at if observed is None else max(client.created_at, observed)


def _yesterday(zone: ZoneInfo, now: datetime) -> str:
    """Return the last day that is over, for a while already."""
    return ((now - SETTLED_AFTER).astimezone(zone).date() - timedelta(days=1)).isoformat()


def _end(day: date, zone: ZoneInfo) -> datetime:
    """Return when a day ends there, whatever happens to clocks."""
    return datetime.combine(day + timedelta(days=1), time(), tzinfo=zone).astimezone(UTC)


def _days(after: str | datetime, zone: ZoneInfo, until: str) -> list[date]:
    """Return the days up to ``until``: those after a day, or from the one on in which a time lies."""
    if isinstance(after, str):
        first = date.fromisoformat(after) + timedelta(days=1)
    else:
        first = after.astimezone(zone).date()
    last = date.fromisoformat(until)
    first = max(first, last - timedelta(days=MOST_DAYS))
    return [first + timedelta(days=number) for number in range((last - first).days + 1)]


@dataclass(slots=True)
class _Ledger:
    """What clients' days are measured by, and what came of it."""

    intervals: Mapping[str, Sequence[StatusInterval]]
    gaps: Spans
    shut: Mapping[str, Callable[[datetime, datetime], Spans]]
    rows: list[DayRow] = dataclass_field(default_factory=list)
    changes: defaultdict[tuple[str, str], Sums] = dataclass_field(
        default_factory=lambda: defaultdict(lambda: NOTHING)
    )

    def measure(self, client: Client, start: datetime, end: datetime) -> Sums:
        """Return the sums of a client between two times."""
        if end <= start:
            return NOTHING
        present = StatusInterval(client.uuid, lived(client), since(client), None)
        own = [one for one in self.intervals.get(client.uuid, ()) if one.ended_at and one.ended_at > start]
        return measured([*own, present], self.gaps, self.shut[client.uuid](start, end), start, end)

    def add(self, row: DayRow, site: str | None, change: Sums) -> None:
        """Take in the sums of a day, and by what they change those of the site."""
        self.rows.append(row)
        key = row.day, site or ""
        self.changes[key] = plus(self.changes[key], change)


async def _explained(
    connection: Connection, some: Sequence[StatusInterval]
) -> list[tuple[StatusInterval, IntervalCause, Cure | None]]:
    uuids = {one.client_uuid for one in some}
    start = min(one.began_at for one in some)
    outages = await availability.outages(connection, uuids, start)
    helped = await availability.helped(connection, uuids, start)
    explained = []
    for one in some:
        cause, cure = found(one, outages.get(one.client_uuid, ()), helped.get(one.client_uuid, ()))
        explained.append((one, cause or IntervalCause.UNKNOWN, cure))
    return explained
