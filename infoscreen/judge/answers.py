"""What a poll is answered: what was published, and what has changed since the poll before."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from infoscreen.domain.clients import Condition
from infoscreen.domain.recovery import Decision, Plan, Verb
from infoscreen.judge.outlets import Cycled
from infoscreen.judge.time import TimeScale, VirtualClock
from infoscreen.services.ports import Outgoing
from infoscreen.storage import statuses
from infoscreen.storage.engine import Store
from infoscreen.storage.recovery import incidents
from infoscreen.storage.recovery.incidents import StoredIncident

MOST_MEMBERS = 100_000

Told = tuple[str, str | None, str, str | None, object]


class Answers:
    """Remembers what was said, so that only changes are said."""

    def __init__(self, store: Store, clock: VirtualClock, scale: TimeScale, *, would: bool) -> None:
        self._would = would
        self._store = store
        self._clock = clock
        self._scale = scale
        self._unknown: set[str] = set()
        self._heard: set[str] = set()
        self._statuses: dict[str, str] = {}
        self._decisions: dict[str, Told] = {}
        self._open: set[int] = set()

    def heard(self, topic: str) -> None:
        """Notice that a client may be new."""
        uuid = topic[11:47]  # infoscreen/UUID/...
        if uuid not in self._heard:
            self._heard.add(uuid)
            self._unknown.add(uuid)

    def entered(self, uuid: str) -> None:
        """Notice that a client was entered or removed by hand."""
        self._heard.add(uuid)
        self._unknown.add(uuid)

    async def answer(
        self, like: object, plan: Plan | None, sent: Sequence[Outgoing], cycled: Sequence[Cycled] = ()
    ) -> dict[str, Any]:
        """Return the answer to a poll; times are in the form of ``like``."""
        return {
            "at": like if like is not None else self._say(self._clock.now(), like),
            "published": [_published(message) for message in sent],
            "power_cycles": [one.told() for one in cycled],
            "decisions": [] if plan is None else self._changed(plan.decisions, like),
            "incidents": await self._incidents(like),
            "statuses": await self._changed_statuses(),
        }

    def _say(self, at: datetime | None, like: object) -> float | str | None:
        """Say a time of the host's wall clock as the lines count."""
        return None if at is None else self._scale.say(at - self._clock.stepped, like)

    def _changed(self, decisions: Sequence[Decision], like: object) -> list[dict[str, Any]]:
        before, self._decisions = self._decisions, {}
        changed = []
        for one in decisions:
            verdict = one.verdict
            until = self._say(verdict.until, like)
            rung = None if verdict.rung is None else verdict.rung.action
            action = rung if verdict.verb is Verb.ACT else None
            told = (verdict.verb.value, action, verdict.reason.value, rung, until)
            self._decisions[one.client_uuid] = told
            if before.get(one.client_uuid) != told:
                changed.append(
                    {
                        "client_uuid": one.client_uuid,
                        "verb": one.verb.value,
                        "action": action,
                        "reason": one.reason.value,
                        "until": until,
                        "rung": rung,
                        "would": self._would,
                    }
                )
        return sorted(changed, key=lambda one: str(one["client_uuid"]))

    async def _incidents(self, like: object) -> list[dict[str, Any]]:
        async with self._store.read() as connection:
            open_now = await incidents.under_way(connection)
            told = [*open_now, *await incidents.some(connection, self._open - {one.id for one in open_now})]
        self._open = {one.id for one in open_now}
        ordered = sorted(told, key=lambda one: one.id)
        async with self._store.read() as connection:
            members = await incidents.members(connection, [one.id for one in ordered], MOST_MEMBERS)
        return [self._incident(one, members[one.id], like) for one in ordered]

    def _incident(self, incident: StoredIncident, members: list[str], like: object) -> dict[str, Any]:
        return {
            "id": incident.id,
            "kind": incident.kind.value,
            "site": incident.site,
            "members": members,
            "began_at": self._say(incident.began_at, like),
            "ended_at": self._say(incident.ended_at, like),
        }

    async def _changed_statuses(self) -> dict[str, str]:
        async with self._store.read() as connection:
            found = await statuses.of_unwell(connection)
            gone = {
                uuid
                for uuid, status in self._statuses.items()
                if status != Condition.ONLINE and uuid not in found
            }
            found |= await statuses.of_some(connection, (gone | self._unknown) - found.keys())
        for uuid in gone - found.keys():
            self._statuses.pop(uuid, None)  # removed
        self._unknown -= found.keys()
        changed = {uuid: status.value for uuid, status in found.items() if self._statuses.get(uuid) != status}
        self._statuses |= changed
        return dict(sorted(changed.items()))


def _published(message: Outgoing) -> dict[str, Any]:
    text = message.payload.decode()
    payload = json.loads(text) if text.startswith("{") else text
    return {"topic": message.topic, "payload": payload, "retain": message.retain}
