"""Carries out the commands for power cycles: one at a time for each device, staggered, never left half done.

The journal is in the database. What was begun when the daemon ended is resumed at its start, before anything
new is begun; an outlet that is off because of us is switched on whatever became of its command and client.
"""

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial

from infoscreen.clock import Clock
from infoscreen.domain.alerts import Alert, AlertCode, Severity
from infoscreen.domain.clients import UNCLEAR, Condition
from infoscreen.domain.codes import Fact
from infoscreen.domain.commands import OPEN, ClientCommand, Source, Timeouts
from infoscreen.domain.errors import PowerError, SecretUnreadable, StoreUnavailable
from infoscreen.domain.events import ClientChanged, CommandChanged
from infoscreen.domain.history import Note
from infoscreen.domain.power import (
    Cycle,
    CyclePolicy,
    CycleStage,
    Outlet,
    PowerFault,
    begun,
    given_up,
    resumed,
    same_identity,
)
from infoscreen.domain.power.configuration import ClientPower
from infoscreen.services.bus import Bus
from infoscreen.services.loops import every
from infoscreen.services.ports import Measures
from infoscreen.services.power.cycling import run_cycle
from infoscreen.services.power.history import Moved, line_of, moved, taken_up
from infoscreen.services.power.outlets import OpenOutlet, Outlets
from infoscreen.services.power.permission import CycleLimits, may_still
from infoscreen.services.power.reaching import ReachedOutlet
from infoscreen.storage import clients, command_history, commands, outbox, power, power_cycles
from infoscreen.storage.engine import Connection, Store
from infoscreen.storage.power_cycles import StoredCycle, WaitingCycle
from infoscreen.storage.recovery import pauses

log = logging.getLogger(__name__)

POLL_SECONDS = 1.0
AT_ONCE = 20
"""So many cycles at a time; those whose outlet does not come on again are not counted."""

LOOKED_THROUGH = 200
"""So many waiting commands are looked through for one whose device is free."""

LOOK_SECONDS = 2.0
"""How long a database may hold up an outlet that is to be switched on."""

AGAIN_SECONDS = 1.0
"""How long a cycle waits for a database that did not take its beginning."""


@dataclass(frozen=True, slots=True)
class PowerPolicy:
    """``stagger`` is the time between the beginnings of two cycles at one site."""

    timeouts: Timeouts
    limits: CycleLimits = field(default_factory=CycleLimits)
    stagger: timedelta = timedelta(seconds=2)
    cycle: CyclePolicy = field(default_factory=CyclePolicy)


_LEFT_ALONE = UNCLEAR | {Condition.MAINTENANCE, Condition.OFF_HOURS, Condition.SHUT_DOWN}
"""Conditions in which the recovery does nothing; a cycle may have waited for minutes for its outlet."""


class _WithdrawnError(Exception):
    """The cycle may not begin any more; nothing was switched."""

    def __init__(self, fault: PowerFault) -> None:
        super().__init__(fault)
        self.fault = fault


class _Run:
    """A cycle that is being carried out."""

    def __init__(self, stored: StoredCycle) -> None:
        self.stored = stored
        self.dark_since: float | None = None
        """When it began to wait for ON, on the clock that is never set."""
        self.told = False
        self.notes: list[Note] = []
        """What is to be written into the command's history with the next step."""

    @property
    def label(self) -> str:
        return self.stored.client_label or self.stored.client_uuid[:8]


class PowerCycles:
    """The loop behind ``power_cycle``."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        bus: Bus,
        outlets: Outlets,
        open_outlet: OpenOutlet,
        measures: Measures,
        policy: PowerPolicy,
    ) -> None:
        """``outlets`` decrypts secrets, ``open_outlet`` makes drivers."""
        self._store = store
        self._clock = clock
        self._bus = bus
        self._outlets = outlets
        self._open = open_outlet
        self._measures = measures
        self._policy = policy
        self._running: dict[str, _Run] = {}
        self._not_before: dict[str | None, float] = {}

    async def run(self) -> None:
        """Resume what was begun, then carry out what is asked for, until cancelled."""
        async with asyncio.TaskGroup() as group:
            await every(POLL_SECONDS, partial(self.turn, group), self._clock)

    async def turn(self, group: asyncio.TaskGroup) -> None:
        """Go on with what was begun and nobody carries out, then begin what can begin now."""
        running = set(self._running)
        async with self._store.read() as connection:
            unfinished = await power_cycles.unfinished(connection)
        for stored in unfinished:
            # One that was running before the look may have ended since.
            if stored.command_id not in running:
                self._begin(group, stored, resuming=True)
        for stored in await self.take_up():
            self._begin(group, stored)
        await self._tell_left_off()

    def _begin(self, group: asyncio.TaskGroup, stored: StoredCycle, *, resuming: bool = False) -> None:
        self._running[stored.command_id] = _Run(stored)
        group.create_task(self.carry_out(stored, resuming=resuming), name=f"power cycle {stored.command_id}")

    def alerts(self) -> Iterator[Alert]:
        """Return an alert for each outlet that does not come on again."""
        for run, since in self._left_off():
            fact = Fact(AlertCode.OUTLET_LEFT_OFF, {"client": run.label, "since": since})
            yield Alert(fact, Severity.CRITICAL)

    def left_off(self) -> dict[str, datetime]:
        """Return by client since when its outlet should have been on again."""
        return {run.stored.client_uuid: since for run, since in self._left_off()}

    def _left_off(self) -> Iterator[tuple[_Run, datetime]]:
        for run in self._running.values():
            if run.dark_since is not None:
                dark = timedelta(seconds=self._clock.monotonic() - run.dark_since)
                if dark >= self._policy.cycle.left_off_after:
                    yield run, self._clock.now() - dark

    # --- beginning

    async def take_up(self) -> list[StoredCycle]:
        """Take up the commands whose outlets are free, with the intent written down; return their cycles."""
        now = self._clock.now()
        async with self._store.read() as connection:
            waiting = await power_cycles.waiting(connection, now, LOOKED_THROUGH)
            found = await power.of_clients(connection, {one.command.client_uuid for one in waiting})
        left_off = sum(1 for _ in self._left_off())
        room = AT_ONCE - (len(self._running) - left_off)
        busy = {run.stored.outlet.device_key for run in self._running.values()}
        begun_now: list[StoredCycle] = []
        for one in waiting:
            outlet = found.get(one.command.client_uuid)
            if outlet is not None and outlet.device_key in busy:
                continue
            if room <= len(begun_now) or not self._is_time(one.site):
                continue
            stored = await self._take_up(one)
            if stored is not None:
                busy.add(stored.outlet.device_key)
                self._not_before[one.site] = self._clock.monotonic() + self._policy.stagger.total_seconds()
                begun_now.append(stored)
        return begun_now

    def _is_time(self, site: str | None) -> bool:
        return self._clock.monotonic() >= self._not_before.get(site, float("-inf"))

    async def _take_up(self, one: WaitingCycle) -> StoredCycle | None:
        """Write down that a cycle begins; None if it may not, or its command was withdrawn."""
        command_id = one.command.command_id
        async with self._store.write() as connection:
            now = self._clock.now()
            held = await commands.for_change(connection, [command_id])
            command = held.get(command_id)
            if command is None or command.status is not one.command.status:
                return None
            outlet = await power.get(connection, command.client_uuid)
            may = outlet is not None and await may_still(
                connection, command, outlet, now, self._policy.limits
            )
            before = (await outbox.before_publication(connection, [command.client_uuid]))[command.client_uuid]
            step = taken_up(command, before, now)
            stored = None
            if outlet is not None and may:
                stored = StoredCycle(
                    command_id=command_id,
                    client_uuid=command.client_uuid,
                    outlet=outlet,
                    cycle=begun(now),
                    client_label=one.client_label,
                    site=one.site,
                )
                await power_cycles.add(connection, stored)
            else:
                over = given_up(begun(now), PowerFault.NOT_ALLOWED, now)
                end = moved(step.command, begun(now), over, None, now, self._policy.timeouts)
                step = Moved(end.command, step.lines + end.lines)
            await commands.save(connection, held, [step.command])
            await command_history.record(connection, step.lines)
        self._tell(step.command)
        return stored

    # --- carrying out

    async def carry_out(self, stored: StoredCycle, *, resuming: bool = False) -> None:
        """Carry a cycle out to its end, however often the database fails meanwhile."""
        run = self._running.setdefault(stored.command_id, _Run(stored))
        reached = ReachedOutlet(partial(self._find, run), self._open)
        policy = replace(self._policy.cycle, min_off=timedelta(seconds=stored.outlet.min_off_seconds))
        cycle = run.stored.cycle
        if resuming:
            run.notes.append(Note.OUTLET_RESUMED)
            cycle = resumed(cycle, self._clock.now(), policy)
        self._note_darkness(run, cycle)
        try:
            while True:
                try:
                    await self._until_over(run, cycle, reached, policy)
                except StoreUnavailable as error:
                    log.warning(
                        "a power cycle waits for the database",
                        extra={
                            "event": "power_cycle_waits",
                            "command_id": stored.command_id,
                            "error": str(error),
                        },
                    )
                    await self._clock.sleep(AGAIN_SECONDS)
                    again = await self._stored_again(run)
                    if again is None:
                        return
                    cycle = resumed(again.cycle, self._clock.now(), policy)
                else:
                    return
        finally:
            self._running.pop(stored.command_id, None)
            await reached.close()

    async def _until_over(self, run: _Run, cycle: Cycle, reached: ReachedOutlet, policy: CyclePolicy) -> None:
        journal = partial(self._journal, run)
        try:
            if cycle.stage is CycleStage.ENDED:
                await journal(cycle)
            else:
                expected = run.stored.outlet.identity
                await run_cycle(cycle, reached, self._clock, policy, journal, expected=expected)
        except _WithdrawnError as withdrawn:
            await journal(given_up(run.stored.cycle, withdrawn.fault, self._clock.now()))

    async def _stored_again(self, run: _Run) -> StoredCycle | None:
        """Return what is stored of a cycle by now; None if it is over."""
        while True:
            try:
                async with self._store.read() as connection:
                    return await power_cycles.get(connection, run.stored.command_id)
            except StoreUnavailable:
                await self._clock.sleep(AGAIN_SECONDS)

    async def _journal(self, run: _Run, cycle: Cycle) -> None:
        """Store how far the cycle is, and move its command along; refuse to begin what was withdrawn."""
        stored = run.stored
        self._note_darkness(run, cycle)  # whether or not the database answers
        async with self._store.write() as connection:
            now = self._clock.now()
            held = await commands.for_change(connection, [stored.command_id])
            command = held.get(stored.command_id)
            begins = cycle.has_switched and not stored.cycle.has_switched
            if begins:
                await self._require_wanted(connection, command, now)
            before = step = None
            if command is not None:
                if begins:
                    looks = await outbox.before_publication(connection, [command.client_uuid])
                    before = looks.get(command.client_uuid)
                step = moved(command, stored.cycle, cycle, before, now, self._policy.timeouts)
                notes = [line_of(command, Fact(note), now) for note in run.notes]
                await commands.save(connection, held, [step.command])
                await command_history.record(connection, notes + step.lines)
            await power_cycles.save(connection, stored.command_id, cycle, now)
        run.stored = replace(stored, cycle=cycle)
        run.notes.clear()
        if command is not None and step is not None:
            self._tell(step.command, was=command)
        if cycle.stage is CycleStage.ENDED:
            self._log_end(run, cycle)

    async def _require_wanted(
        self, connection: Connection, command: ClientCommand | None, now: datetime
    ) -> None:
        if command is None or command.status not in OPEN or command.expires_at <= now:
            raise _WithdrawnError(PowerFault.NOT_ALLOWED)
        if command.source is Source.RECOVERY:
            client = await clients.get(connection, command.client_uuid)
            if client is None or client.status is Condition.ONLINE:
                raise _WithdrawnError(PowerFault.CLIENT_IS_BACK)
            paused = await pauses.of_client(connection, client.uuid, client.site, now)
            if paused or client.status in _LEFT_ALONE:
                raise _WithdrawnError(PowerFault.NOT_ALLOWED)

    def _note_darkness(self, run: _Run, cycle: Cycle) -> None:
        waits = cycle.stage is CycleStage.TURNING_ON and cycle.on_seen_at is None
        if not waits:
            run.dark_since = None
        elif run.dark_since is None:
            ago = timedelta(0) if cycle.on_since is None else self._clock.now() - cycle.on_since
            run.dark_since = self._clock.monotonic() - max(timedelta(0), ago).total_seconds()

    async def _find(self, run: _Run) -> Outlet:
        """Return the outlet as it was, or as it is configured by now if it is the same one."""
        was = run.stored.outlet
        try:
            async with asyncio.timeout(LOOK_SECONDS), self._store.read() as connection:
                current = await power.get(connection, was.client_uuid)
        except (StoreUnavailable, TimeoutError):
            current = None
        if current is not None and _is_same(was, current):
            was = current  # it may have another address or password now, or be sealed with a newer key
        try:
            return self._outlets.opened(was)
        except SecretUnreadable as error:
            raise PowerError(PowerFault.SECRET_UNREADABLE, str(error)) from None

    # --- telling

    async def _tell_left_off(self) -> None:
        for run, since in list(self._left_off()):
            if not run.told:
                run.told = True
                log.error(
                    "an outlet does not come on again",
                    extra={
                        "event": "outlet_left_off",
                        "client_uuid": run.stored.client_uuid,
                        "command_id": run.stored.command_id,
                        "since": since.isoformat(),
                    },
                )
                await self._say(run, Note.OUTLET_LEFT_OFF)
                self._bus.publish(ClientChanged(run.stored.client_uuid))

    async def _say(self, run: _Run, note: Note) -> None:
        """Write a line into the command's history; a database that does not answer is no reason to wait."""
        try:
            async with self._store.write() as connection:
                known = await commands.for_change(connection, [run.stored.command_id])
                lines = [line_of(one, Fact(note), self._clock.now()) for one in known.values()]
                await command_history.record(connection, lines)
        except StoreUnavailable:
            log.warning("a line of history was not stored", extra={"event": "history_lost", "note": note})

    def _tell(self, command: ClientCommand, *, was: ClientCommand | None = None) -> None:
        if was is None or was.status is not command.status:
            self._measures.command(command.action, command.status)
        self._bus.publish(CommandChanged(command.command_id, command.client_uuid))

    def _log_end(self, run: _Run, cycle: Cycle) -> None:
        log.info(
            "a power cycle ended",
            extra={
                "event": "power_cycle_ended",
                "client_uuid": run.stored.client_uuid,
                "command_id": run.stored.command_id,
                "fault": cycle.fault,
                "detail": cycle.detail,
            },
        )


def _is_same(was: ClientPower, current: ClientPower) -> bool:
    """Tell whether two configurations mean the same outlet, also if its device has another address now."""
    if current.key == was.key:
        return True
    named = was.identity is not None and same_identity(current.identity, was.identity)
    return named and (current.driver, current.outlet) == (was.driver, was.outlet)
