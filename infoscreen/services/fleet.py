"""What people do to clients besides commands: describe them, acknowledge a failed service, remove them."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from infoscreen.clock import Clock
from infoscreen.domain.accounts import Actor
from infoscreen.domain.clients import Client, ClientEdit
from infoscreen.domain.codes import Fact
from infoscreen.domain.error_codes import ErrorCode
from infoscreen.domain.errors import InvalidInput, NotFound
from infoscreen.domain.events import ClientChanged, ClientRemoved, TimelineKind
from infoscreen.domain.failures import acknowledged, restored, summed_up
from infoscreen.domain.faults import FieldError, FieldFault
from infoscreen.domain.history import Happening, Setting
from infoscreen.services.bus import Bus
from infoscreen.services.hours import BadHours
from infoscreen.services.ports import Link
from infoscreen.services.reports import Folding, settle
from infoscreen.services.schedules import Schedules
from infoscreen.storage import audit, clients, failed_services, power, retained, sites, timeline
from infoscreen.storage.engine import Connection, Store
from infoscreen.storage.timeline import NewEntry
from infoscreen.wire import topics

log = logging.getLogger(__name__)

TIMED = frozenset({"site", "own_hours", "own_time_zone", "own_country"})
"""What of a client its hours follow from."""


class Fleet:
    """What operators do to clients. Every act is audited and recorded in the client's timeline."""

    def __init__(
        self, store: Store, clock: Clock, bus: Bus, link: Link, wake: asyncio.Event, schedules: Schedules
    ) -> None:
        """``wake`` is set when the outbox has a retained failure to clear."""
        self._schedules = schedules
        self._store = store
        self._clock = clock
        self._bus = bus
        self._link = link
        self._wake = wake

    async def clear_service_failed(
        self, uuid: str, actor: Actor, comment: str | None = None, unit: str | None = None
    ) -> Client:
        """Acknowledge a failed service for good, or all that are shown.

        The broker's retained copy goes with it, if it is of one of them. Doing it twice is fine. Raises
        ``NotFound``.
        """
        async with self._store.write() as connection:
            before = await _existing(connection, uuid)
            known = (await failed_services.of_clients(connection, [uuid]))[uuid]
            now = self._clock.now()
            units = [one.unit for one in before.failed_services] if unit is None else [unit]
            services, done, holds = acknowledged(known, units, now, actor.name)
            if not done:
                return before
            after = summed_up(before, services)
            if holds:
                after = replace(
                    after,
                    service_failed_clear_requested_at=now,
                    service_failed_clear_pending=True,
                    service_failed_echo_at=None,
                )
            await failed_services.save(connection, {uuid: (known, services)})
            detail = {"unit": ", ".join(done), "comment": comment}
            said = {"by": actor.name, "unit": ", ".join(done)}
            fact = (
                Fact(Happening.SERVICE_ACKNOWLEDGED_WITH_COMMENT, {**said, "comment": comment})
                if comment
                else Fact(Happening.SERVICE_ACKNOWLEDGED, said)
            )
            after = await self._save(connection, before, after, TimelineKind.SERVICE_CLEARED, fact, detail)
            await audit.record(
                connection, now, actor, "client.clear_service_failed", f"client/{uuid}", detail
            )
        self._wake.set()
        self._bus.publish(ClientChanged(uuid))
        return after

    async def restore_service_failed(self, uuid: str, unit: str, actor: Actor, since: datetime) -> bool:
        """Show a failed service again that the actor has acknowledged since then; tell whether it was so.

        Raises ``NotFound``.
        """
        async with self._store.write() as connection:
            before = await _existing(connection, uuid)
            known = (await failed_services.of_clients(connection, [uuid]))[uuid]
            now = self._clock.now()
            services = restored(known, unit, actor.name, since)
            if services is None:
                return False
            await failed_services.save(connection, {uuid: (known, services)})
            said = {"by": actor.name, "unit": unit}
            fact = Fact(Happening.SERVICE_RESTORED, said)
            after = summed_up(before, services)
            await self._save(connection, before, after, TimelineKind.SERVICE_FAILED, fact, said)
            target = f"client/{uuid}"
            await audit.record(
                connection, now, actor, "client.restore_service_failed", target, {"unit": unit}
            )
        self._bus.publish(ClientChanged(uuid))
        return True

    async def edit(
        self,
        uuid: str,
        changes: ClientEdit,
        actor: Actor,
        within: Callable[[Connection], Awaitable[None]] | None = None,
    ) -> Client:
        """Change what people say of a client, and return it as it is then.

        Args:
            uuid: the client.
            changes: what to change; None empties a field.
            actor: who does it.
            within: what else is changed in the same transaction, or not at all.

        Raises:
            NotFound: there is no such client.
            InvalidInput: a maintenance that ends in the past, or hours that cannot be used.
        """
        async with self._store.write() as connection:
            before = await _existing(connection, uuid)
            if within is not None:
                await within(connection)
            now = self._clock.now()
            until = changes.get("maintenance_until")
            if until is not None and until <= now:
                raise InvalidInput.of("maintenance_until", FieldFault.NOT_AFTER, at=now)
            after = replace(before, **changes)
            told = {name: value for name, value in changes.items() if value != getattr(before, name)}
            if not told:
                return before
            if told.keys() & TIMED:
                after = await self._timed(connection, after, told, now)
            detail = {
                name: str(value) if name == "maintenance_until" and value else value
                for name, value in told.items()
            }
            settings = tuple(setting for setting in Setting if setting.value in told)
            fact = Fact(Happening.EDITED, {"by": actor.name, "settings": settings})
            after = await self._save(connection, before, after, TimelineKind.OPERATOR, fact, detail)
            await audit.record(connection, now, actor, "client.edit", f"client/{uuid}", detail)
        self._bus.publish(ClientChanged(uuid))
        return after

    async def _timed(
        self, connection: Connection, client: Client, told: Mapping[str, Any], now: datetime
    ) -> Client:
        """Return the client with the hours that count after a change; its site exists from then on."""
        if client.site is not None and "site" in told:
            await sites.ensure(connection, [client.site], now)
        known = {} if client.site is None else await sites.by_names(connection, [client.site])
        site = known.get(client.site or "")
        if any(told.get(name) is not None for name in TIMED - {"site"}):
            try:
                self._schedules.hours.check(self._schedules.of(client, site)[0])
            except BadHours as error:
                own = f"own_{error.field}" in told
                if own:
                    raise InvalidInput([FieldError(error.field, error.fault)]) from None
        return self._schedules.timed(client, site, now)

    async def remove(self, uuid: str, actor: Actor) -> None:
        """Remove a client with all its history; raise ``NotFound``.

        What the broker retains of it is emptied by the outbox.
        """
        async with self._store.write() as connection:
            client = await _existing(connection, uuid)
            await clients.remove(connection, uuid)
            await power.forget_fed(connection, uuid)
            await retained.ask_to_empty(connection, topics.all_of(uuid), self._clock.now())
            await audit.record(
                connection,
                self._clock.now(),
                actor,
                "client.remove",
                f"client/{uuid}",
                {"name": client.label},
            )
        self._wake.set()
        log.info(
            "client removed", extra={"event": "client_removed", "client_uuid": uuid, "actor": actor.name}
        )
        self._bus.publish(ClientRemoved(uuid))

    async def _save(
        self,
        connection: Connection,
        before: Client,
        after: Client,
        kind: TimelineKind,
        fact: Fact[Happening],
        data: Mapping[str, Any],
    ) -> Client:
        """Save what became different, with the condition that follows from it and a line in the timeline."""
        now = self._clock.now()
        folding = Folding(before=before, client=after)
        settle(folding, now, self._link.state.listening_since)
        entry = NewEntry(client_uuid=after.uuid, at=now, kind=kind, fact=fact, data=data)
        await clients.save_changes(connection, before, folding.client)
        await timeline.add(connection, [entry, *folding.entries])
        return folding.client


async def _existing(connection: Connection, uuid: str) -> Client:
    client = (await clients.for_change(connection, [uuid])).get(uuid)
    if client is None:
        raise NotFound(ErrorCode.NO_CLIENT, uuid=uuid)
    return client
