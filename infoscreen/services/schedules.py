"""Keeps up to date what each client's row says of its hours: those that count, and the present span.

The library is asked once for each schedule and change, not for each client and poll.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from infoscreen.clock import Clock
from infoscreen.domain.clients import Client
from infoscreen.domain.hours import ALWAYS, HoursPolicy, HoursSource, Schedule, Span
from infoscreen.domain.sites import Site
from infoscreen.services.hours import BadHours, Hours
from infoscreen.storage import schedules, sites
from infoscreen.storage.engine import Connection, Store
from infoscreen.storage.schedules import AT_ONCE, Hourly, HoursInForce

log = logging.getLogger(__name__)

SITES_EVERY = timedelta(minutes=1)
ALL_EVERY = timedelta(minutes=15)
"""How soon hours that were changed in the database by hand are noticed: those of sites, those of clients."""


class Schedules:
    """The hours of sites and clients, and their present spans."""

    def __init__(self, store: Store, clock: Clock, hours: Hours, policy: HoursPolicy) -> None:
        self.hours = hours
        self.policy = policy
        self._store = store
        self._clock = clock
        self._step_before = clock.last_step
        self._checked_at: datetime | None = None
        self._sites_at: datetime | None = None
        self._known: Mapping[str, Schedule] | None = None
        self._warned: set[tuple[str, str]] = set()

    def schedule_of(self, site: Site | None) -> Schedule:
        """Return the schedule of a site."""
        if site is None:
            return Schedule()
        return Schedule(site.hours or ALWAYS, site.time_zone, site.country)

    def of(self, client: Hourly | Client, site: Site | None) -> tuple[Schedule, HoursSource]:
        """Return the schedule that counts for a client at a site, and where its hours come from."""
        theirs = self.schedule_of(site)
        schedule = Schedule(
            client.own_hours or theirs.hours,
            client.own_time_zone or theirs.time_zone,
            client.own_country or theirs.country,
        )
        if client.own_hours:
            return schedule, HoursSource.CLIENT
        return schedule, HoursSource.SITE if site is not None and site.hours else HoursSource.DEFAULT

    def effective(self, client: Hourly | Client, site: Site | None, now: datetime) -> HoursInForce:
        """Return what counts for a client now; hours that cannot be used count as always."""
        schedule, source = self.of(client, site)
        fault = None
        try:
            span = self.hours.span_at(schedule, now)
        except BadHours as error:
            span, fault = Span(), error.fault.code.value
            schedule = replace(schedule, hours=ALWAYS)
            self._warn(schedule, source, site, client.uuid, error)
        if span.until is not None and span.until <= now:
            # Never again and again at the same moment, whatever the library answers.
            span = span._replace(until=now + SITES_EVERY)
        opened = span.since if span.within else None
        expected = None if opened is None else opened + self.policy.opening_grace
        return HoursInForce(
            schedule.hours, source, schedule.time_zone, fault, span.within, span.since, expected, span.until
        )

    def timed(self, client: Client, site: Site | None, now: datetime) -> Client:
        """Return the client with the hours that count for it now."""
        return replace(client, **self.effective(client, site, now)._asdict())

    async def site_changed(self, connection: Connection, site: Site, now: datetime) -> None:
        """Write what counts for the clients of a site after it was changed, within the same transaction."""
        last = ""
        while found := await schedules.at_site(connection, site.name, last):
            last = found[-1].uuid
            await self._save(connection, found, {site.name: site}, now)
            if len(found) < AT_ONCE:
                return

    async def step(self) -> None:
        """Look up the hours that have changed between open and closed, and those that nobody told us of."""
        now = self._clock.now()
        step = self._clock.last_step
        set_since = step is not None and step is not self._step_before
        if self._checked_at is None or set_since or not _lately(self._checked_at, now, ALL_EVERY):
            await self.refresh(now)
            self._checked_at, self._step_before = now, step
        elif not _lately(self._sites_at, now, SITES_EVERY):
            await self._look_at_sites(now)
        while True:
            async with self._store.read() as connection:
                if not await schedules.is_due(connection, now):
                    return
            async with self._store.write() as connection:
                found = await schedules.due(connection, now)
                await self._save(connection, found, await self._sites_of(connection, found), now)
                if len(found) < AT_ONCE:
                    return

    async def refresh(self, now: datetime) -> None:
        """Compare what all rows say with what counts, and correct them."""
        async with self._store.read() as connection:
            known = {one.name: one for one in await sites.all_of_them(connection)}
        self._note_sites(known, now)
        last = ""
        while True:
            async with self._store.read() as connection:
                found = await schedules.after(connection, last, hold=False)
            if not found:
                return
            if any(self._differs(one, known, now) for one in found):
                async with self._store.write() as connection:
                    again = await schedules.after(connection, last, hold=True)
                    await self._save(connection, again, await self._sites_of(connection, again), now)
            last = found[-1].uuid

    async def _look_at_sites(self, now: datetime) -> None:
        async with self._store.read() as connection:
            known = {one.name: one for one in await sites.all_of_them(connection)}
        before = self._known or {}
        changed = [one for one in known.values() if before.get(one.name) != self.schedule_of(one)]
        for site in changed:
            async with self._store.write() as connection:
                await self.site_changed(connection, site, now)
        self._note_sites(known, now)

    def _note_sites(self, known: Mapping[str, Site], now: datetime) -> None:
        self._known = {name: self.schedule_of(one) for name, one in known.items()}
        self._sites_at = now

    def _differs(self, client: Hourly, known: Mapping[str, Site], now: datetime) -> bool:
        return self.effective(client, known.get(client.site or ""), now) != client.effective

    async def _sites_of(self, connection: Connection, found: Sequence[Hourly]) -> dict[str, Site]:
        return await sites.by_names(connection, {one.site for one in found if one.site})

    async def _save(
        self, connection: Connection, found: Sequence[Hourly], known: Mapping[str, Site], now: datetime
    ) -> None:
        wanted = [(one, self.effective(one, known.get(one.site or ""), now)) for one in found]
        await schedules.save(
            connection, [(one.uuid, effective) for one, effective in wanted if effective != one.effective]
        )

    def _warn(
        self, schedule: Schedule, source: HoursSource, site: Site | None, uuid: str, error: BadHours
    ) -> None:
        who = uuid if source is HoursSource.CLIENT or site is None else site.name
        if (who, str(error)) in self._warned:
            return
        self._warned.add((who, str(error)))
        log.warning(
            "operating hours cannot be used and count as 24/7",
            extra={"event": "bad_hours", "of": who, "field": error.field, "fault": str(error.fault)},
        )


def _lately(at: datetime | None, now: datetime, within: timedelta) -> bool:
    return at is not None and at <= now < at + within
