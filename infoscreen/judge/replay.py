"""Replays what is on record against the rules of today: clients fall ill and come back as they really did.

The record does not answer: what an action would have changed cannot be told. ``LIMITS`` says what else.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from heapq import merge
from typing import Any

from infoscreen.domain.clients import STALE, Condition
from infoscreen.judge.court import Judge
from infoscreen.judge.lines import Line
from infoscreen.judge.playing import quiet_logs
from infoscreen.storage.past import Change, Past, Seen

POLL = timedelta(seconds=15)
CALM_POLL = timedelta(minutes=5)
"""So far apart are the polls while everybody is well."""

STEADY_BEAT = timedelta(minutes=10)
"""Clients of which nothing is on record beat so rarely; it is enough to be known as well."""

BEATS_WANTED = 300_000
FASTEST, SLOWEST = timedelta(seconds=30), timedelta(minutes=5)
PREPARED = timedelta(minutes=70)
"""So long before the record begins the clients are introduced."""

LIMITS = (
    "Clients fall ill and come back as they really did, whatever is decided here; what an action would have "
    "changed cannot be told.",
    "When a client counted as silent was decided by the settings of that time; other thresholds of silence "
    "cannot be replayed.",
    "Heartbeats are made up between the changes of status on record.",
    "Sites and switches of the clients are those of today; deleted clients are missing.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayedAct:
    """Something that would have been done, or was. ``well_at`` is when the client was online again."""

    at: datetime
    client_uuid: str
    label: str
    action: str
    well_at: datetime | None


@dataclass(slots=True)
class Replayed:
    """What a replay came to."""

    acts: list[ReplayedAct] = field(default_factory=list)
    gave_up: list[str] = field(default_factory=list)
    incidents: dict[Any, Mapping[str, Any]] = field(default_factory=dict)
    polls: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two replays of one record side by side, and what the recovery really did."""

    since: datetime
    until: datetime
    really: list[ReplayedAct]
    before: Replayed
    after: Replayed
    more: list[ReplayedAct]
    """Done with the other settings only."""
    fewer: list[ReplayedAct]
    """Done with the present settings only."""
    moved: list[tuple[ReplayedAct, ReplayedAct]]
    """Done with both, at another time; the present settings' act in front."""
    limits: tuple[str, ...] = LIMITS


class Replay:
    """One run over a record with some settings."""

    def __init__(self, past: Past, settings: Mapping[str, object]) -> None:
        self._past = past
        # Made-up heartbeats come rarely; nobody may be missed before a rhythm is known.
        rare = 3 * STEADY_BEAT.total_seconds()
        self._settings = {"HEARTBEAT_STALE_SECONDS": rare, **settings, "CRASH_RECOVERY_ENABLED": True}
        self._changing = {change.client_uuid for change in past.changes}
        lasts = past.until - past.since
        beat = lasts * max(1, len(self._changing)) / BEATS_WANTED
        self._beat = min(max(beat, FASTEST), SLOWEST)
        self._well_at = _returns(past)
        self._result = Replayed()
        self._unwell: set[str] = set()

    async def run(self, progress: Callable[[datetime], object] = lambda _: None) -> Replayed:
        """Replay it all; ``progress`` is told the time that has been reached now and then."""
        judge, past = Judge(), self._past
        humans: set[str] = set()
        busy, next_poll = True, past.since - PREPARED + CALM_POLL
        try:
            with quiet_logs():
                begin = past.since - PREPARED
                await judge.take({"at": _iso(begin), "kind": "settings", "values": self._settings})
                for at, line in merge(*self._stories(), key=lambda one: one[0]):
                    while next_poll <= at:
                        busy = await self._poll(judge, next_poll, humans)
                        next_poll += POLL if busy else CALM_POLL
                        progress(next_poll)
                    if not busy and line["kind"] != "client" and _tells_trouble(line):
                        busy, next_poll = True, min(next_poll, at + POLL)
                    await judge.take({"at": _iso(at), **line})
        finally:
            await judge.close()
        return self._result

    async def _poll(self, judge: Judge, at: datetime, humans: set[str]) -> bool:
        answer = await judge.take({"at": _iso(at), "kind": "poll"})
        assert answer is not None  # noqa: S101 - a poll is answered
        self._result.polls += 1
        for message in answer["published"]:
            if isinstance(message["payload"], dict) and at >= self._past.since:
                self._note(message["payload"], at)
            if isinstance(message["payload"], dict):
                await _accept(judge, message["payload"], at)
        for cycled in answer["power_cycles"]:
            if at >= self._past.since and cycled["switched"]:
                self._note({"client_uuid": cycled["client_uuid"], "action": "power_cycle"}, at)
        for decision in answer["decisions"]:
            uuid = decision["client_uuid"]
            if decision["rung"] == "human" and uuid not in humans:
                humans.add(uuid)
                self._result.gave_up.append(self._past.clients[uuid].label)
        for incident in answer["incidents"]:
            self._result.incidents[incident["id"]] = {**incident, "members": len(incident["members"])}
        for uuid, status in answer["statuses"].items():
            well = status in (Condition.ONLINE, Condition.NEVER_SEEN)
            (self._unwell.discard if well else self._unwell.add)(uuid)
        return bool(self._unwell)

    def _note(self, command: Mapping[str, Any], at: datetime) -> None:
        uuid = command["client_uuid"]
        self._result.acts.append(
            ReplayedAct(
                at=at,
                client_uuid=uuid,
                label=self._past.clients[uuid].label,
                action=command["action"],
                well_at=next((back for back in self._well_at.get(uuid, []) if back > at), None),
            )
        )

    # --- the record as lines

    def _stories(self) -> Iterator[Iterator[tuple[datetime, Line]]]:
        changes: dict[str, list[Change]] = {}
        for change in self._past.changes:
            changes.setdefault(change.client_uuid, []).append(change)
        for number, client in enumerate(self._past.clients.values()):
            told = changes.get(client.uuid, [])
            if client.status is Condition.NEVER_SEEN and not told:
                continue
            yield self._story(client, told, timedelta(milliseconds=37 * (number % 997)))

    def _story(
        self, client: Seen, changes: list[Change], offset: timedelta
    ) -> Iterator[tuple[datetime, Line]]:
        beat = self._beat if client.uuid in self._changing else STEADY_BEAT
        at, end = self._past.since - PREPARED + offset, self._past.until
        yield (
            at,
            {
                "kind": "client",
                "uuid": client.uuid,
                "site": client.site,
                "auto_recovery": client.auto_recovery,
                **_power(client),
            },
        )
        yield at, _said(client, "presence", "online")
        status = changes[0].before if changes else client.status
        upcoming = list(reversed(changes))
        # Known as well at first, so that a record that begins with trouble shows it as such.
        shown = Condition.ONLINE
        while at < end:
            if upcoming and upcoming[-1].at <= at:
                change = upcoming.pop()
                status = change.after
            if status is not shown and at >= self._past.since:
                yield from _turned(client, shown, status, at, end)
                shown = status
            silent = shown in _SILENT or self._falls_silent(upcoming, at, beat)
            if not silent:
                yield at, _said(client, "heartbeat", _beat(shown, at, client))
            following = at + beat
            at = min(following, upcoming[-1].at) if upcoming and upcoming[-1].at > at else following

    def _falls_silent(self, upcoming: list[Change], at: datetime, beat: timedelta) -> bool:
        """Tell whether the client is on record as silent soon, so that it has stopped beating by now."""
        if not upcoming or upcoming[-1].after not in STALE:
            return False
        return at > upcoming[-1].at - 3 * beat


_SILENT = STALE | {Condition.SHUT_DOWN, Condition.OFF_HOURS}


def _power(client: Seen) -> Line:
    """Return what of the line that enters a client says where its power is switched."""
    if client.outlet is None:
        return {}
    return {"power": {"outlet": client.outlet[:500], "protected": client.outlet_protected}}


def _turned(
    client: Seen, before: Condition, after: Condition, at: datetime, end: datetime
) -> Iterator[tuple[datetime, Line]]:
    """Say what makes a client's status what it is on record."""
    if before is Condition.SERVICE_FAILED:
        yield at, _said(client, "service_failed", "")
    if before is Condition.MAINTENANCE:
        yield at, {"kind": "maintenance", "uuid": client.uuid, "on": False}
    if before in _SILENT:
        yield at, _said(client, "presence", "online")
    match after:
        case Condition.UNREACHABLE | Condition.SHUT_DOWN | Condition.OFF_HOURS:
            yield at, _said(client, "presence", "offline")
        case Condition.SERVICE_FAILED:
            failed = {"unit": "on-record.service", "failed_at": _iso(at)}
            yield at, _said(client, "service_failed", failed)
        case Condition.MAINTENANCE:
            yield at, {"kind": "maintenance", "uuid": client.uuid, "until": _iso(end + timedelta(days=1))}
        case _:
            pass


def _beat(status: Condition, at: datetime, client: Seen) -> dict[str, object]:
    ill = {Condition.CRASHED: "crashed", Condition.SERVICE_FAILED: "stopped"}
    return {
        "timestamp": _iso(at),
        "process_status": ill.get(status, "running"),
        "boot_id": "on-record",
        "ip": client.ip,
    }


def _said(client: Seen, topic: str, payload: object) -> Line:
    return {"kind": "message", "topic": f"infoscreen/{client.uuid}/{topic}", "payload": payload}


async def _accept(judge: Judge, command: Mapping[str, Any], at: datetime) -> None:
    """Have the device accept: a command that nobody answers would be our own fault."""
    topic = f"infoscreen/{command['client_uuid']}/commands/ack"
    for status in ("accepted", "completed"):
        ack = {"command_id": command["command_id"], "status": status}
        await judge.take({"at": _iso(at), "kind": "message", "topic": topic, "payload": ack})


def _tells_trouble(line: Line) -> bool:
    payload = line.get("payload")
    if isinstance(payload, dict):
        return payload.get("process_status", "running") != "running" or "failed_at" in payload
    return payload == "offline"


def compare(past: Past, before: Replayed, after: Replayed) -> Comparison:
    """Put two replays side by side. The same act is the client's same action in the same order."""
    old, new = _named(before.acts), _named(after.acts)
    returns = _returns(past)
    really = [
        ReplayedAct(
            at=one.at,
            client_uuid=one.client_uuid,
            label=past.clients[one.client_uuid].label,
            action=one.action.value,
            well_at=next((back for back in returns.get(one.client_uuid, []) if back > one.at), None),
        )
        for one in past.done
        if one.client_uuid in past.clients
    ]
    return Comparison(
        since=past.since,
        until=past.until,
        really=really,
        before=before,
        after=after,
        more=[act for name, act in new.items() if name not in old],
        fewer=[act for name, act in old.items() if name not in new],
        moved=[(old[name], act) for name, act in new.items() if name in old and old[name].at != act.at],
    )


def _named(acts: list[ReplayedAct]) -> dict[tuple[str, str, datetime | None, int], ReplayedAct]:
    """Return acts by client, action, when the client was well again, and their number among those alike."""
    found: dict[tuple[str, str, datetime | None, int], ReplayedAct] = {}
    for act in acts:
        number = 1
        while (name := (act.client_uuid, act.action, act.well_at, number)) in found:
            number += 1
        found[name] = act
    return found


def _returns(past: Past) -> dict[str, list[datetime]]:
    found: dict[str, list[datetime]] = {}
    for change in past.changes:
        if change.after is Condition.ONLINE:
            found.setdefault(change.client_uuid, []).append(change.at)
    return found


def _iso(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
