"""What time does: silence becomes staleness, deadlines pass, effects are verified, old things go.

The steps run whether or not anything is heard and whatever is switched off; each is a range scan that finds
nothing on a good day.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from infoscreen.clock import Clock, ClockStep
from infoscreen.domain.clients import Presence, ProcessStatus
from infoscreen.domain.codes import Fact
from infoscreen.domain.commands import (
    DISRUPTIVE,
    Action,
    ClientCommand,
    Timeouts,
    Verification,
    moved_by_step,
    overdue,
)
from infoscreen.domain.events import ClientChanged, CommandChanged, Event
from infoscreen.domain.history import Note, Part
from infoscreen.domain.presence import CLOCK_DOUBT, LONGEST_SECONDS, StalePolicy, is_stale
from infoscreen.domain.verification import Conclusion, Evidence, FirstTold, verify
from infoscreen.progress import expect_within
from infoscreen.services.bus import Bus
from infoscreen.services.loops import every
from infoscreen.services.ports import Link, Measures
from infoscreen.services.reports import Folding, settle
from infoscreen.services.schedules import Schedules
from infoscreen.storage import (
    audit,
    bulk,
    client_deadlines,
    client_index,
    client_totals,
    clients,
    command_deadlines,
    command_history,
    commands,
    power_cycles,
    timeline,
)
from infoscreen.storage import schedules as stored_schedules
from infoscreen.storage.command_deadlines import Signs
from infoscreen.storage.command_history import HistoryLine
from infoscreen.storage.engine import Connection, Store
from infoscreen.storage.notify import messages
from infoscreen.storage.recovery import attempts, decisions, incidents

log = logging.getLogger(__name__)

AT_ONCE = 1_000
AT_A_STRETCH = 250
"""Clients judged between two turns of the event loop, some 3 ms."""
VERIFIED_AT_ONCE = 500
"""Commands weighed in one look."""
WATCH_SECONDS = 1.0
TIDY_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class WatchPolicy:
    """The times that matter here; ``poll`` is the cycle of the expiry sweep."""

    stale: StalePolicy
    timeouts: Timeouts
    poll: timedelta
    retention: timedelta


class Watch:
    """Keeps conditions, deadlines and verifications true as time passes."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        bus: Bus,
        link: Link,
        policy: WatchPolicy,
        measures: Measures,
        schedules: Schedules,
    ) -> None:
        self._schedules = schedules
        self._store = store
        self._clock = clock
        self._bus = bus
        self._link = link
        self._policy = policy
        self._measures = measures
        self._step_before = clock.last_step
        self._moving_by: ClockStep | None = None
        self._moved_until = ""
        """The last command whose deadline was moved by that step."""
        self._totals_checked = False
        self._verified_until = ""

    async def run(self) -> None:
        """Watch conditions and evidence until cancelled."""
        await every(min(WATCH_SECONDS, self._policy.poll.total_seconds()), self.look, self._clock)

    async def run_sweep(self) -> None:
        """Expire commands at every poll until cancelled."""
        await every(self._policy.poll.total_seconds(), self.sweep, self._clock)

    async def run_tidy(self) -> None:
        """Delete what is older than the retention, until cancelled."""
        await every(TIDY_SECONDS, self.tidy, self._clock)

    async def look(self) -> None:
        """Take every step that time alone may have made due."""
        await self._schedules.step()
        await self._conditions()
        await self._verify()

    async def sweep(self) -> int:
        """Expire every unfinished command past its deadline; safe to run twice. Return how many."""
        now = self._clock.now()
        await self._after_a_step(now)
        expired = 0
        while found := await self._sweep_some(now):
            expired += found
            expect_within()
        await self._keep_totals()
        return expired

    async def _keep_totals(self) -> None:
        if not self._totals_checked:
            if corrected := await client_totals.repair(self._store):
                log.warning(
                    "counters of clients differed from a count and were corrected",
                    extra={"event": "totals_repaired", "counters": corrected},
                )
            if noted := await client_index.repair(self._store):
                log.warning(
                    "clients that could not be searched for were noted",
                    extra={"event": "search_repaired", "clients": noted},
                )
            self._totals_checked = True
        while True:
            async with self._store.read() as connection:
                if not await client_totals.is_worth_folding(connection):
                    return
            async with self._store.write() as connection:
                await client_totals.fold(connection)

    async def tidy(self) -> None:
        """Delete what is older than the retention, in small transactions."""
        before = self._clock.now() - self._policy.retention
        for forget in (
            timeline.forget_before,
            commands.forget_before,
            decisions.forget_before,
            attempts.forget_before,
            incidents.forget_before,
            audit.forget_before,
            bulk.forget_before,
            messages.forget_before,
            power_cycles.forget_before,
        ):
            deleted = AT_ONCE
            while deleted >= AT_ONCE:
                async with self._store.write() as connection:
                    deleted = await forget(connection, before, AT_ONCE)

    async def _conditions(self) -> None:
        now = self._clock.now()
        since = self._link.state.listening_since
        async with self._store.read() as connection:
            due = sorted(await self._due(connection, now, since))
        if not due:
            return
        events: list[Event] = []
        async with self._store.write() as connection:
            # Read inside the transaction: a heartbeat may have come in between. Held in the order of their
            # UUIDs, as everywhere. An outage silences thousands at the same time.
            for start in range(0, len(due), AT_A_STRETCH):
                known = await clients.for_change(connection, due[start : start + AT_A_STRETCH])
                foldings = [Folding(before=one, client=one) for one in known.values()]
                for folding in foldings:
                    settle(folding, now, since)
                changed = [one for one in foldings if one.client is not one.before]
                await clients.save_all_changes(
                    connection, [(one.before, one.client, None) for one in changed]
                )
                await timeline.add(connection, [entry for one in changed for entry in one.entries])
                events += [ClientChanged(one.client.uuid, alert=one.alert) for one in changed]
        self._bus.publish(*events)

    async def _due(self, connection: Connection, now: datetime, since: datetime | None) -> set[str]:
        due = {*await client_deadlines.out_of_maintenance(connection, now)}
        due.update(await client_deadlines.not_started(connection, now))
        due.update(await stored_schedules.closed_silent(connection))
        due.update(await client_deadlines.no_longer_dark(connection, now))
        # Within the shortest threshold after the start nobody can be stale yet: spare the scan over all of
        # them.
        if since is not None and (now - since).total_seconds() >= self._policy.stale.minimum_seconds:
            longest = timedelta(seconds=LONGEST_SECONDS) + CLOCK_DOUBT
            due.update(await client_deadlines.fallen_mute(connection, now))
            due.update(await stored_schedules.missed(connection, now, now - since))
            due.update(await client_deadlines.fallen_silent(connection, now, now - since, longest))
        return due

    async def _after_a_step(self, now: datetime) -> None:
        """Move deadlines along once the host's clock was set, before anything is held to them."""
        step = self._clock.last_step
        if step is None or step is self._step_before or not step.was_set:
            return
        if self._moving_by is not step:
            self._moving_by, self._moved_until = step, ""
        while await self._move_some(step, now):
            pass
        self._step_before = step

    async def _move_some(self, step: ClockStep, now: datetime) -> int:
        """Move the deadlines of some commands, each once, however often the database fails meanwhile."""
        by = timedelta(seconds=step.seconds)
        code = Note.CLOCK_SET_FORWARD if step.seconds > 0 else Note.CLOCK_SET_BACK
        note = Fact(code, {"by": abs(by)})
        async with self._store.write() as connection:
            found = await command_deadlines.unfinished(connection, self._moved_until, AT_ONCE)
            moved = [after for one in found if (after := moved_by_step(one, step.at, by, now))]
            await commands.save(connection, {one.command_id: one for one in found}, moved)
            lines = [HistoryLine.of(one, one, now, Part.CLOCK, note) for one in moved]
            await command_history.record(connection, lines)
        if found:
            self._moved_until = found[-1].command_id
        self._bus.publish(*(CommandChanged(one.command_id, one.client_uuid) for one in moved))
        return len(found)

    async def _sweep_some(self, now: datetime) -> int:
        async with self._store.read() as connection:
            late = await command_deadlines.past_deadline(connection, now, AT_ONCE)
        if not late:
            return 0
        expired: list[ClientCommand] = []
        lines: list[HistoryLine] = []
        async with self._store.write() as connection:
            held = await commands.for_change(connection, [command.command_id for command in late])
            for command in held.values():
                after = overdue(command, now)
                if after is None or command.deadline_at > now:
                    continue
                expired.append(after)
                note = Fact(Note.NOT_ACCEPTED) if after.waits_for is not None else None
                lines.append(HistoryLine.of(command, after, now, Part.SWEEP, note))
            await commands.save(connection, held, expired)
            await command_history.record(connection, lines)
        for command in expired:
            self._measures.command(command.action, command.status)
        self._bus.publish(*(CommandChanged(command.command_id, command.client_uuid) for command in expired))
        return len(late)

    async def _verify(self) -> None:
        now = self._clock.now()
        since = self._link.state.listening_since
        patience = {action: self._policy.timeouts.of(action) for action in DISRUPTIVE}
        async with self._store.read() as connection:
            waiting = await command_deadlines.to_verify(
                connection, now, patience, self._verified_until, VERIFIED_AT_ONCE
            )
        # Commands that wait for more evidence take turns, so that none is starved by others.
        self._verified_until = waiting[-1][0].command_id if len(waiting) == VERIFIED_AT_ONCE else ""
        judged: dict[str, Conclusion] = {}
        for command, signs in waiting:
            evidence = _evidence(signs, now, since)
            # While we do not listen, nothing speaks against anybody.
            conclusion = verify(command, evidence, now, self._policy.timeouts, listening_since=since or now)
            if conclusion is not None:
                judged[command.command_id] = conclusion
        if not judged:
            return
        async with self._store.write() as connection:
            held = await commands.for_change(connection, judged)
            concluded = [
                _concluded(command, judged[command_id], now)
                for command_id, command in held.items()
                if command.verification is Verification.PENDING
            ]
            await commands.save(connection, held, concluded)
            lines = [
                HistoryLine.of(one, one, now, Part.VERIFICATION, judged[one.command_id].note)
                for one in concluded
            ]
            await command_history.record(connection, lines)
            events: list[Event] = [CommandChanged(one.command_id, one.client_uuid) for one in concluded]
            events += await self._note_shut_down(connection, concluded, now, since)
        self._bus.publish(*events)

    async def _note_shut_down(
        self,
        connection: Connection,
        concluded: Sequence[ClientCommand],
        now: datetime,
        since: datetime | None,
    ) -> list[Event]:
        """Note at the clients which of them were shut down on command, and return what to tell."""
        uuids = {
            one.client_uuid
            for one in concluded
            if one.action is Action.SHUTDOWN_HOST and one.verification is Verification.VERIFIED
        }
        known = await clients.for_change(connection, uuids)
        foldings = [Folding(before=one, client=replace(one, shut_down_at=now)) for one in known.values()]
        for folding in foldings:
            settle(folding, now, since)
        await clients.save_all_changes(connection, [(one.before, one.client, None) for one in foldings])
        await timeline.add(connection, [entry for one in foldings for entry in one.entries])
        return [ClientChanged(uuid) for uuid in known]


def _concluded(command: ClientCommand, conclusion: Conclusion, now: datetime) -> ClientCommand:
    return replace(
        command,
        verification=conclusion.verification,
        verified_at=now,
        verification_code=conclusion.finding.code,
        verification_arguments=conclusion.finding.packed(),
    )


def _evidence(client: Signs, now: datetime, listening_since: datetime | None) -> Evidence:
    return Evidence(
        boot_id=client.boot_id,
        booted_at=client.booted_at,
        heartbeats_since_boot=client.heartbeats_since_boot,
        app_started_at=client.app_started_at,
        process_pid=client.process_pid,
        process_running=client.process_status is ProcessStatus.RUNNING,
        last_heartbeat_at=client.last_alive,
        silent=_gone(client) or is_stale(client, now, listening_since),
        clock_skew_seconds=client.clock_skew_seconds,
        duplicate=client.duplicate_since is not None,
        boot=_first_told(client.boot_said_at, client.boot_heard_at),
        application=_first_told(client.app_said_at, client.app_heard_at),
    )


def _first_told(said_at: datetime | None, heard_at: datetime | None) -> FirstTold | None:
    return None if said_at is None or heard_at is None else FirstTold(said_at, heard_at)


def _gone(client: Signs) -> bool:
    """Tell whether the broker reported the client offline after its last heartbeat."""
    if client.presence is not Presence.OFFLINE or client.presence_at is None:
        return False
    return client.last_alive is None or client.presence_at >= client.last_alive
