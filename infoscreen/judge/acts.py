"""What people do, as lines say it: enter clients, order commands, pause, take over, dismiss."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from random import Random
from typing import cast
from uuid import UUID

from infoscreen.domain.accounts import Actor, Role
from infoscreen.domain.clients import ClientEdit
from infoscreen.domain.commands import Action, Source
from infoscreen.domain.errors import Conflict, Refused
from infoscreen.domain.hours import ALWAYS, Schedule
from infoscreen.domain.recovery import Meanwhile
from infoscreen.judge.daemon import Daemon
from infoscreen.judge.lines import (
    BadLine,
    Line,
    flag_of,
    optional_text,
    optional_uuid,
    seconds_of,
    text_of,
    uuid_of,
)
from infoscreen.judge.outlets import outlet_of
from infoscreen.judge.time import TimeScale, VirtualClock
from infoscreen.services.hours import BadHours, Hours
from infoscreen.storage import client_lists, clients, power
from infoscreen.storage.engine import Store
from infoscreen.storage.recovery import incidents
from infoscreen.storage.recovery.pauses import PauseScope
from infoscreen.words.speaking import say

OPERATOR = Actor(1, "judge", Role.ADMIN, "judge")
FOR = timedelta(hours=1)
"""How long a pause or maintenance lasts when its line does not say."""


class Acts:
    """Carries out operators' lines with the daemon's own services. What they refuse is a warning."""

    def __init__(
        self,
        store: Store,
        clock: VirtualClock,
        scale: TimeScale,
        daemon: Callable[[], Daemon],
        entered: Callable[[str], object],
        warn: Callable[[str], object],
    ) -> None:
        self._store = store
        self._clock = clock
        self._scale = scale
        self._daemon = daemon
        self._entered = entered
        self._warn = warn
        self._random = Random(0)  # names commands, the same in every run
        self._acts: Mapping[str, Callable[[Line], Awaitable[object]]] = {
            "client": self._client,
            "remove": self._remove,
            "request": self._request,
            "pause": self._pause,
            "resume": self._resume,
            "acknowledge": self._acknowledge,
            "clear_service_failed": self._clear,
            "dismiss": self._dismiss,
            "maintenance": self._maintenance,
        }

    @property
    def kinds(self) -> tuple[str, ...]:
        """Return the kinds of lines that are taken."""
        return tuple(self._acts)

    async def act(self, kind: str, line: Line) -> bool:
        """Carry out a line; tell whether its kind is known. Raises ``BadLine``."""
        act = self._acts.get(kind)
        if act is None:
            return False
        try:
            await act(line)
        except Refused as refusal:
            self._warn(f"{kind}: refused: {say(refusal.fact)}")
        return True

    async def _client(self, line: Line) -> None:
        uuid = uuid_of(line)
        own = _own_hours(line)
        async with self._store.write() as connection:
            await clients.register(connection, [uuid], self._clock.now())
            self._entered(uuid)
            ip = optional_text(line, "ip")
            if ip is not None:
                before = (await clients.for_change(connection, [uuid]))[uuid]
                await clients.save_changes(connection, before, replace(before, ip=ip))
        if line.get("power") is not None:
            outlet = outlet_of(line, uuid, self._clock.now())
            async with self._store.write() as connection:
                await power.remove(connection, uuid)
                if outlet is not None:
                    await power.put(connection, outlet)
        told = cast(
            ClientEdit,
            {**own, **{name: line[name] for name in ("name", "site", "auto_recovery") if name in line}},
        )
        if told:
            await self._daemon().fleet.edit(uuid, told, OPERATOR)

    async def _remove(self, line: Line) -> None:
        await self._daemon().fleet.remove(uuid_of(line), OPERATOR)

    async def _request(self, line: Line) -> None:
        try:
            action = Action(text_of(line, "action"))
        except ValueError:
            raise BadLine(
                f"request: action is {line.get('action')!r}, known are {', '.join(Action)}"
            ) from None
        await self._daemon().commanding.request(
            uuid_of(line),
            action,
            source=Source.OPERATOR,
            actor=OPERATOR,
            reason=optional_text(line, "reason"),
            command_id=str(UUID(int=self._random.getrandbits(128), version=4)),
        )

    async def _pause(self, line: Line) -> None:
        if not flag_of(line, "paused", True):
            await self._resume(line)
            return
        scope, site, uuid = _scope(line)
        await self._daemon().pausing.pause(
            scope,
            optional_text(line, "reason") or "paused by a line",
            self._until(line) or self._clock.now() + FOR,
            OPERATOR,
            site=site,
            client_uuid=uuid,
        )

    async def _resume(self, line: Line) -> None:
        scope, site, uuid = _scope(line)
        await self._daemon().pausing.resume(scope, OPERATOR, site=site, client_uuid=uuid)

    async def _acknowledge(self, line: Line) -> None:
        """Take care of a client, or give it back.

        Without ``recovery`` as the panel does: a client that needs a human, else its failed service.
        """
        uuid, recovering = uuid_of(line), self._daemon().recovering
        comment = optional_text(line, "comment")
        if not flag_of(line, "on", True):
            await recovering.give_back(uuid, OPERATOR)
            return
        if "recovery" in line:
            try:
                recovery = Meanwhile(text_of(line, "recovery"))
            except ValueError:
                raise BadLine(
                    f"acknowledge: recovery is {line['recovery']!r}, known are {', '.join(Meanwhile)}"
                ) from None
            until = self._until(line)
            await recovering.acknowledge(uuid, OPERATOR, comment, until=until, recovery=recovery)
            return
        try:
            await recovering.acknowledge(uuid, OPERATOR, comment, given_up=True)
        except Conflict:
            await self._daemon().fleet.clear_service_failed(uuid, OPERATOR)

    async def _clear(self, line: Line) -> None:
        await self._daemon().fleet.clear_service_failed(uuid_of(line), OPERATOR)

    async def _dismiss(self, line: Line) -> None:
        """Dismiss one incident by its number, or all that are open, of a site if one is named."""
        number, site = line.get("id", line.get("incident")), optional_text(line, "site")
        if number is not None and not isinstance(number, int):
            raise BadLine("dismiss: id is no number")
        async with self._store.read() as connection:
            open_ones = await incidents.under_way(connection)
        for one in open_ones:
            if number in {None, one.id} and site in {None, one.site}:
                await self._daemon().recovering.dismiss(one.id, OPERATOR)

    async def _maintenance(self, line: Line) -> None:
        ended = not flag_of(line, "on", True) or ("until" in line and line["until"] is None)
        until = None if ended else self._until(line) or self._clock.now() + FOR
        uuid = optional_uuid(line)
        if uuid is not None:
            whom = [uuid]
        else:
            query = client_lists.ClientQuery(site=text_of(line, "site"))
            async with self._store.read() as connection:
                whom = await client_lists.matching_uuids(connection, query, 100_000)
        for one in whom:
            await self._daemon().fleet.edit(one, {"maintenance_until": until}, OPERATOR)

    def _until(self, line: Line) -> datetime | None:
        """Return when the host's wall clock says that an act ends."""
        if line.get("until") is not None:
            return self._scale.read(line["until"], "until") + self._clock.stepped
        return None if (lasts := _lasts(line)) is None else self._clock.now() + lasts


def _lasts(line: Line) -> timedelta | None:
    return seconds_of(line, "seconds", "duration_seconds", "for_seconds")


def _own_hours(line: Line) -> dict[str, str | None]:
    """Return what is given of the client's hours, checked; null empties."""
    given = {
        f"own_{name}": optional_text(line, name) for name in ("hours", "time_zone", "country") if name in line
    }
    try:
        Hours().check(
            Schedule(given.get("own_hours") or ALWAYS, given.get("own_time_zone"), given.get("own_country"))
        )
    except BadHours as error:
        value = line.get(error.field)
        raise BadLine(f"client: {error.field} is {value!r}, which cannot be used: {error.fault}") from None
    return given


def _scope(line: Line) -> tuple[PauseScope, str | None, str | None]:
    uuid = optional_uuid(line)
    if uuid is not None:
        return PauseScope.CLIENT, None, uuid
    site = optional_text(line, "site")
    return (PauseScope.FLEET, None, None) if site is None else (PauseScope.SITE, site, None)
