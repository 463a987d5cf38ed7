"""Replay: the rules of the recovery, run once more over what is on record, with the settings that one likes.

The record does not answer: whatever the replay decides, clients fall ill and come back as they really did. So
it tells what would have been done when and for whom, and not what would have come of it. ``LIMITS`` says so.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from infoscreen.domain.clients import STALE, Client, Condition, Presence, ProcessStatus
from infoscreen.domain.commands import OPEN, ClientCommand
from infoscreen.domain.lockout import LockoutPolicy, locked_until
from infoscreen.domain.recovery import (
    WITNESSES,
    Attempt,
    Census,
    Ending,
    Incident,
    IncidentKind,
    Ladder,
    Observer,
    Patient,
    Pause,
    RecoveryPolicy,
    Rung,
    Snapshot,
    Verb,
    decide,
)
from infoscreen.storage.history import Change, History

LONGEST_STRIDE = timedelta(minutes=5)
"""So long time passes in one step while nothing is on record and nothing is due."""

AT_REST = frozenset({Condition.ONLINE, Condition.NEVER_SEEN})
MANY_HEARTBEATS = 1_000
ALWAYS = timedelta(days=3650)

LIMITS = (
    "Clients fall ill and come back as they really did, whatever is decided here; what an action would have "
    "changed cannot be told.",
    "When a client counted as silent was decided by the settings of that time; other thresholds of silence "
    "cannot be replayed.",
    "Outages that show slowly cannot be told from the record: a client shown as online is assumed to have "
    "been heard.",
    "Sites, capabilities and switches of the clients are those of today; deleted clients are missing, and "
    "new ones count as if they had always been there.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """Something that would have been done, or was. ``episode`` is when the client had ceased to be well."""

    at: datetime
    client_uuid: str
    label: str
    action: str
    attempt: int
    episode: datetime
    well_at: datetime | None
    """When the client was online again by the record, None if it was not."""


@dataclass(slots=True)
class Replayed:
    """What a replay came to."""

    acts: list[Act] = field(default_factory=list)
    gave_up: list[str] = field(default_factory=list)
    incidents: list[Incident] = field(default_factory=list)
    polls: int = 0


class Replay:
    """One run of the rules over a record."""

    def __init__(self, history: History, policy: RecoveryPolicy, lockout: LockoutPolicy) -> None:
        """Prepare a run; the policy counts as switched on."""
        self._history = history
        self._policy = replace(policy, enabled=True)
        self._lockout = lockout
        self._ladders: dict[str, Ladder] = {}
        self._attempts: defaultdict[str, list[Attempt]] = defaultdict(list)
        self._incidents: list[Incident] = []
        self._clients = _at_the_begin(history)
        # Kept up to date, so that a step costs as much as there are unwell, not as the fleet is large.
        self._ill = {client.uuid for client in self._clients.values() if client.status not in AT_REST}
        self._online = Counter(
            client.site for client in self._clients.values() if client.status is Condition.ONLINE
        )
        self._commands = _by_client(history.commands)
        self._returns = _returns(history.changes)
        self._result = Replayed()

    def run(self, progress: Callable[[datetime], object] = lambda _: None) -> Replayed:
        """Replay it all; ``progress`` is told the time that has been reached now and then."""
        pending = list(self._history.changes)[::-1]
        now = self._history.since
        while now <= self._history.until:
            while pending and pending[-1].at <= now:
                self._take(pending.pop())
            due = self._poll(now)
            following = pending[-1].at if pending else self._history.until + self._policy.poll
            now = self._next(now, min(due, following))
            progress(now)
        return self._result

    def _take(self, change: Change) -> None:
        client = self._clients.get(change.client_uuid)
        if client is not None:
            left = change.at if change.before is Condition.ONLINE else client.well_until
            self._clients[client.uuid] = replace(
                client, status=change.after, status_since=change.at, well_until=left
            )
            self._online[client.site] += (change.after is Condition.ONLINE) - (
                client.status is Condition.ONLINE
            )
            if change.after in AT_REST:
                self._ill.discard(client.uuid)
            else:
                self._ill.add(client.uuid)

    def _poll(self, now: datetime) -> datetime:
        """Decide at ``now``, and return when something can be different by time alone."""
        self._result.polls += 1
        patients = [self._patient(client, now) for client in self._unwell()]
        if not patients and not self._incidents:
            return now + ALWAYS
        plan = decide(self._snapshot(patients, now), self._policy, now)
        for decision, patient in zip(plan.decisions, patients, strict=True):
            uuid = decision.client_uuid
            before = self._ladders.get(uuid)
            if decision.ladder is None:
                self._ladders.pop(uuid, None)
            else:
                self._ladders[uuid] = decision.ladder
            if decision.verb is Verb.ACT and decision.rung is not None:
                self._attempts[uuid].append(Attempt(rung=decision.rung, decided_at=now, published_at=now))
                self._result.acts.append(self._act(patient.client, decision.rung, decision.attempt or 1, now))
            elif decision.rung is Rung.HUMAN and (before is None or before.rung is not Rung.HUMAN):
                self._result.gave_up.append(patient.client.label)
        self._keep(plan.incidents)
        waits = [one.until for one in plan.decisions if one.until is not None and one.until > now]
        if any(one.ending in {Ending.OBSERVATION, Ending.DONE} for one in plan.decisions) or self._incidents:
            waits.append(now + (self._policy.poll if plan.budget.started else LONGEST_STRIDE))
        return min(waits, default=now + ALWAYS)

    def _next(self, now: datetime, due: datetime) -> datetime:
        """Return the first poll at or after ``due``."""
        polls = max(1, -int(-(due - now) // self._policy.poll))
        return now + polls * self._policy.poll

    def _unwell(self) -> Iterator[Client]:
        for uuid in sorted(self._ill | self._ladders.keys()):
            yield self._clients[uuid]

    def _patient(self, client: Client, now: datetime) -> Patient:
        asked = self._commands.get(client.uuid, [])
        published = [one.published_at for one in asked if one.published_at and one.published_at <= now]
        published += [one.published_at for one in self._attempts[client.uuid] if one.published_at]
        return Patient(
            client=_as_it_was(client, now),
            heartbeats_in_a_row=MANY_HEARTBEATS if now > client.status_since else 0,
            well_until=client.well_until,
            ladder=self._ladders.get(client.uuid),
            attempts=tuple(self._attempts[client.uuid]),
            command=next((one for one in asked if _was_open(one, now)), None),
            locked_until=locked_until(published, self._lockout, now),
            pause=self._pause(client, now),
        )

    def _pause(self, client: Client, now: datetime) -> Pause | None:
        for pause in self._history.pauses:
            until = pause.until if pause.ended_at is None else min(pause.until, pause.ended_at)
            if pause.created_at <= now < until and pause.covers(client.uuid, client.site):
                return Pause(until=until, why=pause.reason)
        return None

    def _snapshot(self, patients: Sequence[Patient], now: datetime) -> Snapshot:
        sites = {patient.client.site for patient in patients if patient.client.site}
        sites |= {incident.site for incident in self._incidents if incident.site}
        return Snapshot(
            observer=self._observer(now),
            fleet=_census(self._online.total()),
            fleet_size=len(self._clients),
            patients=tuple(patients),
            sites={site: _census(self._online[site]) for site in sites if site is not None},
            incidents=tuple(self._incidents),
        )

    def _observer(self, now: datetime) -> Observer:
        listening: datetime | None = self._history.since - ALWAYS
        for incident in self._history.blind:
            if incident.began_at <= now and (incident.ended_at is None or incident.ended_at > now):
                listening = None
        return Observer(listening_since=listening, started_at=self._history.since - ALWAYS)

    def _keep(self, incidents: Sequence[Incident]) -> None:
        known = {(one.kind, one.site, one.began_at) for one in self._incidents}
        for incident in incidents:
            new = (incident.kind, incident.site, incident.began_at) not in known
            if new and incident.kind is not IncidentKind.OBSERVER:
                self._result.incidents.append(incident)
        self._incidents = [one for one in incidents if one.ended_at is None]

    def _act(self, client: Client, rung: Rung, attempt: int, now: datetime) -> Act:
        return Act(
            at=now,
            client_uuid=client.uuid,
            label=client.label,
            action=rung.action,
            attempt=attempt,
            episode=client.well_until or client.status_since,
            well_at=next((at for at in self._returns.get(client.uuid, []) if at > now), None),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two replays of one record side by side, and what the recovery really did."""

    since: datetime
    until: datetime
    really: list[Act]
    before: Replayed
    after: Replayed
    more: list[Act]
    """Done with the other settings only."""
    fewer: list[Act]
    """Done with the present settings only."""
    moved: list[tuple[Act, Act]]
    """Done with both, at another time; the present settings' act in front."""
    limits: tuple[str, ...] = LIMITS


def compare(history: History, before: Replayed, after: Replayed) -> Comparison:
    """Put two replays side by side. The same act is the same attempt at the same time of being unwell."""
    old = {_name(act): act for act in before.acts}
    new = {_name(act): act for act in after.acts}
    returns = _returns(history.changes)
    return Comparison(
        since=history.since,
        until=history.until,
        really=[
            Act(
                at=attempt.decided_at,
                client_uuid=attempt.client_uuid,
                label=history.clients[attempt.client_uuid].label,
                action=attempt.rung.action,
                attempt=1,
                episode=attempt.decided_at,
                well_at=next(
                    (at for at in returns.get(attempt.client_uuid, []) if at > attempt.decided_at), None
                ),
            )
            for attempt in history.attempts
            if attempt.client_uuid in history.clients and attempt.published_at is not None
        ],
        before=before,
        after=after,
        more=[act for name, act in new.items() if name not in old],
        fewer=[act for name, act in old.items() if name not in new],
        moved=[(old[name], act) for name, act in new.items() if name in old and old[name].at != act.at],
    )


def _name(act: Act) -> tuple[str, str, int, datetime]:
    return act.client_uuid, act.action, act.attempt, act.episode


def _at_the_begin(history: History) -> dict[str, Client]:
    """Return the clients as they were when the record begins."""
    clients = dict(history.clients)
    first: dict[str, Change] = {}
    for change in history.changes:
        first.setdefault(change.client_uuid, change)
    for uuid, change in first.items():
        if uuid in clients:
            well = None if change.before is not Condition.ONLINE else history.since
            clients[uuid] = replace(
                clients[uuid], status=change.before, status_since=history.since, well_until=well
            )
    return clients


def _as_it_was(client: Client, now: datetime) -> Client:
    """Return the client with what its status says of it: silent or beating, running or not."""
    status = client.status
    silent = status in STALE
    threshold = timedelta(seconds=client.stale_after_seconds or 180)
    crashed = status is Condition.CRASHED
    stopped = status is Condition.SERVICE_FAILED
    return replace(
        client,
        last_alive=client.status_since - threshold if silent else now,
        stale_at=client.status_since if silent else now + threshold,
        stale_after_seconds=threshold.total_seconds(),
        presence=Presence.OFFLINE if status is Condition.UNREACHABLE else Presence.ONLINE,
        process_status=ProcessStatus.CRASHED
        if crashed
        else ProcessStatus.STOPPED
        if stopped
        else ProcessStatus.RUNNING,
        service_failed_at=client.status_since if stopped else None,
        maintenance_until=now + threshold if status is Condition.MAINTENANCE else None,
        shut_down_at=client.status_since if status is Condition.SHUT_DOWN else None,
    )


def _census(online: int) -> Census:
    asked = min(WITNESSES, online)
    return Census(online, asked, asked)


def _was_open(command: ClientCommand, now: datetime) -> bool:
    if command.created_at > now:
        return False
    end = command.finished_at or (None if command.status in OPEN else command.deadline_at)
    return end is None or end > now


def _by_client(commands: Sequence[ClientCommand]) -> Mapping[str, list[ClientCommand]]:
    found: defaultdict[str, list[ClientCommand]] = defaultdict(list)
    for command in commands:
        found[command.client_uuid].append(command)
    return found


def _returns(changes: Sequence[Change]) -> Mapping[str, list[datetime]]:
    """Return when each client was online again."""
    found: defaultdict[str, list[datetime]] = defaultdict(list)
    for change in changes:
        if change.after is Condition.ONLINE:
            found[change.client_uuid].append(change.at)
    return found
