"""The operators' hand on the recovery: leave a client, a site or the fleet alone for a while, and go on.

Every act is audited, and stands in the timeline of the client if it is about one.
"""

import logging
from datetime import datetime, timedelta

from infoscreen.clock import Clock
from infoscreen.domain.accounts import Actor
from infoscreen.domain.codes import Fact
from infoscreen.domain.error_codes import ErrorCode
from infoscreen.domain.errors import InvalidInput, NotFound
from infoscreen.domain.events import ClientChanged, RecoveryChanged, TimelineKind
from infoscreen.domain.faults import FieldFault
from infoscreen.domain.history import Happening
from infoscreen.services.bus import Bus
from infoscreen.storage import audit, client_lists, clients, timeline
from infoscreen.storage.engine import Connection, Store
from infoscreen.storage.recovery import pauses
from infoscreen.storage.recovery.pauses import PauseScope, StoredPause
from infoscreen.storage.timeline import NewEntry

log = logging.getLogger(__name__)

LONGEST_PAUSE = timedelta(days=30)
"""A pause must end by itself; for longer, switch the recovery off."""


class Pausing:
    """Begins and ends pauses. One scope has at most one; a new one takes the place of the one before."""

    def __init__(self, store: Store, clock: Clock, bus: Bus) -> None:
        self._store = store
        self._clock = clock
        self._bus = bus

    async def pause(
        self,
        scope: PauseScope,
        reason: str,
        until: datetime,
        actor: Actor,
        *,
        site: str | None = None,
        client_uuid: str | None = None,
    ) -> StoredPause:
        """Hold the recovery back until a time, and return the pause as stored.

        Args:
            scope: how much of the fleet.
            reason: why, for those who wonder; not empty.
            until: when it ends by itself, at most ``LONGEST_PAUSE`` from now.
            actor: who does it.
            site: the site's name, exactly with the scope of a site.
            client_uuid: the client, exactly with the scope of a client.

        Raises:
            InvalidInput: the end is past or too far away, the reason is empty, or the scope does not fit.
            NotFound: there is no such client, or no client at that site.
        """
        _check_scope(scope, site, client_uuid)
        now = self._clock.now()
        if not reason.strip():
            raise InvalidInput.of("reason", FieldFault.REASON_NEEDED)
        if not now < until <= now + LONGEST_PAUSE:
            raise InvalidInput.of("until", FieldFault.NOT_WITHIN, at=now, days=LONGEST_PAUSE.days)
        async with self._store.write() as connection:
            await pauses.one_at_a_time(connection)
            await _require_target(connection, site, client_uuid)
            await pauses.end(connection, scope, site, client_uuid, now, actor.name)
            pause = await pauses.add(
                connection,
                StoredPause(
                    scope=scope,
                    site=site,
                    client_uuid=client_uuid,
                    reason=reason.strip(),
                    by=actor.name,
                    created_at=now,
                    until=until,
                ),
            )
            detail = {"reason": pause.reason, "until": _zulu(until)}
            await self._write_down(connection, now, "recovery.pause", pause, actor, detail)
        self._tell(pause)
        return pause

    async def resume(
        self,
        scope: PauseScope,
        actor: Actor,
        *,
        site: str | None = None,
        client_uuid: str | None = None,
    ) -> list[StoredPause]:
        """End the pause of exactly this scope and return what was ended; none is fine.

        Raises ``InvalidInput`` when the scope does not fit, ``NotFound`` as ``pause`` does.
        """
        _check_scope(scope, site, client_uuid)
        now = self._clock.now()
        async with self._store.write() as connection:
            await pauses.one_at_a_time(connection)
            await _require_target(connection, site, client_uuid)
            ended = await pauses.end(connection, scope, site, client_uuid, now, actor.name)
            for pause in ended:
                await self._write_down(
                    connection, now, "recovery.resume", pause, actor, {"reason": pause.reason}
                )
        for pause in ended:
            self._tell(pause)
        return ended

    async def take_back(self, pause: StoredPause, actor: Actor) -> bool:
        """End a pause if it is still in force as it was begun; tell whether it was."""
        now = self._clock.now()
        async with self._store.write() as connection:
            await pauses.one_at_a_time(connection)
            if pause.id not in {one.id for one in await pauses.in_force(connection, now)}:
                return False
            await pauses.end(connection, pause.scope, pause.site, pause.client_uuid, now, actor.name)
            detail = {"reason": pause.reason}
            await self._write_down(connection, now, "recovery.resume", pause, actor, detail)
        self._tell(pause)
        return True

    async def _write_down(
        self,
        connection: Connection,
        now: datetime,
        act: str,
        pause: StoredPause,
        actor: Actor,
        detail: dict[str, str],
    ) -> None:
        target = f"{pause.scope}/{pause.site or pause.client_uuid or 'all'}"
        await audit.record(connection, now, actor, act, target, detail)
        if pause.client_uuid is not None:
            fact = (
                Fact(Happening.RECOVERY_PAUSED, {"by": actor.name, "reason": pause.reason})
                if act == "recovery.pause"
                else Fact(Happening.RECOVERY_RESUMED, {"by": actor.name})
            )
            entry = NewEntry(
                client_uuid=pause.client_uuid,
                at=now,
                kind=TimelineKind.OPERATOR,
                fact=fact,
                data={"act": act, **detail},
            )
            await timeline.add(connection, [entry])
        log.info(
            "recovery paused or resumed by hand",
            extra={"event": act, "target": target, "actor": actor.name, "reason": pause.reason},
        )

    def _tell(self, pause: StoredPause) -> None:
        self._bus.publish(RecoveryChanged())
        if pause.client_uuid is not None:
            self._bus.publish(ClientChanged(pause.client_uuid))


def _check_scope(scope: PauseScope, site: str | None, client_uuid: str | None) -> None:
    needed = {PauseScope.SITE: "site", PauseScope.CLIENT: "client_uuid"}.get(scope)
    for name, value in (("site", site), ("client_uuid", client_uuid)):
        if (value is not None) != (name == needed):
            code = FieldFault.SCOPE_NEEDS_IT if name == needed else FieldFault.SCOPE_FORBIDS_IT
            raise InvalidInput.of(name, code, scope=scope.value)


async def _require_target(connection: Connection, site: str | None, client_uuid: str | None) -> None:
    if client_uuid is not None and not await clients.keep(connection, [client_uuid]):
        raise NotFound(ErrorCode.NO_CLIENT, uuid=client_uuid)
    if site is not None and not await client_lists.is_site(connection, site):
        raise NotFound(ErrorCode.NO_SITE, site=site)


def _zulu(at: datetime) -> str:
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")
