"""What people do to sites: enter, describe, rename and remove them. Every act is audited."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from infoscreen.clock import Clock
from infoscreen.domain.accounts import Actor
from infoscreen.domain.clients import Condition
from infoscreen.domain.error_codes import ErrorCode
from infoscreen.domain.errors import Conflict, InvalidInput, NotFound, SiteInUse
from infoscreen.domain.events import RecoveryChanged
from infoscreen.domain.faults import FieldError
from infoscreen.domain.sites import Site, SiteEdit
from infoscreen.services.bus import Bus
from infoscreen.services.hours import BadHours
from infoscreen.services.schedules import Schedules
from infoscreen.storage import audit, client_totals, sites
from infoscreen.storage.engine import Connection, Store

log = logging.getLogger(__name__)


class Sites:
    """The sites, and the schedules that their clients take from them."""

    def __init__(self, store: Store, clock: Clock, bus: Bus, schedules: Schedules) -> None:
        self.schedules = schedules
        self._store = store
        self._clock = clock
        self._bus = bus

    async def create(self, name: str, values: SiteEdit, actor: Actor) -> Site:
        """Enter a site and return it.

        Raises:
            Conflict: there is one of that name.
            InvalidInput: its hours, time zone or country cannot be used.
        """
        async with self._store.write() as connection:
            site = await self.enter(connection, name, values, actor)
        self._bus.publish(RecoveryChanged())
        return site

    async def enter(self, connection: Connection, name: str, values: SiteEdit, actor: Actor) -> Site:
        """Do the same in a transaction of the caller's."""
        now = self._clock.now()
        site = replace(Site(id=0, name=name, created_at=now), **_without_name(values))
        self._check(site)
        number = await sites.create(connection, {"name": name, "created_at": now, **_without_name(values)})
        if number is None:
            raise Conflict(ErrorCode.SITE_EXISTS, name=name)
        site = replace(site, id=number)
        # Clients that were entered by hand may name it already.
        await self.schedules.site_changed(connection, site, now)
        await audit.record(connection, now, actor, "site.create", f"site/{number}", _told(values, name=name))
        return site

    async def edit(self, number: int, values: SiteEdit, actor: Actor) -> Site:
        """Change a site and return it as it is then; its clients keep its hours from this moment on.

        Raises:
            NotFound: there is no such site.
            Conflict: another one has that name.
            InvalidInput: its hours, time zone or country cannot be used.
        """
        async with self._store.write() as connection:
            before = await sites.for_change(connection, number)
            if before is None:
                raise NotFound(ErrorCode.NO_SITE_ID, id=str(number))
            after = await self.change(connection, before, values, actor)
        self._bus.publish(RecoveryChanged())
        return after

    async def change(self, connection: Connection, before: Site, values: SiteEdit, actor: Actor) -> Site:
        """Do the same in a transaction of the caller's."""
        told: dict[str, Any] = {
            name: value for name, value in values.items() if value != getattr(before, name)
        }
        if not told:
            return before
        after = replace(before, **told)
        if told.keys() & {"hours", "time_zone", "country"}:
            self._check(after)
        if after.name != before.name:
            await sites.rename(connection, before.name, after.name)
        if not await sites.save(connection, before.id, told):
            raise Conflict(ErrorCode.SITE_EXISTS, name=after.name)
        now = self._clock.now()
        await self.schedules.site_changed(connection, after, now)
        await audit.record(connection, now, actor, "site.edit", f"site/{before.id}", _told(told))
        return after

    async def remove(self, number: int, actor: Actor) -> None:
        """Remove a site.

        Raises:
            NotFound: there is no such site.
            SiteInUse: clients are at it.
        """
        async with self._store.write() as connection:
            site = await sites.for_change(connection, number)
            if site is None:
                raise NotFound(ErrorCode.NO_SITE_ID, id=str(number))
            here = await client_totals.count(connection, frozenset(Condition), site.name)
            if here:
                raise SiteInUse(ErrorCode.SITE_IN_USE, clients=here)
            await sites.remove(connection, number)
            now = self._clock.now()
            await audit.record(connection, now, actor, "site.remove", f"site/{number}", {"name": site.name})
        log.info("site removed", extra={"event": "site_removed", "site": site.name, "actor": actor.name})

    def _check(self, site: Site) -> None:
        try:
            self.schedules.hours.check(self.schedules.schedule_of(site))
        except BadHours as error:
            raise InvalidInput([FieldError(error.field, error.fault)]) from None


def _without_name(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name != "name"}


def _told(values: Mapping[str, Any], **more: str) -> dict[str, Any]:
    """Return what the audit trail is told: a runbook is long, so only that it was changed."""
    told = {name: value for name, value in values.items() if name != "runbook"}
    return {**more, **told, **({"runbook": "..."} if "runbook" in values else {})}
