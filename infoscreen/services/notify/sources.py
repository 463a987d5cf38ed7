"""Opens and ends incidents that are not of the recovery: of single clients, and of the installation."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from types import MappingProxyType

from infoscreen.clock import Clock
from infoscreen.domain.alerts import Alert, AlertCode, Severity
from infoscreen.domain.clients import WELL
from infoscreen.domain.recovery import Closing, Incident, IncidentKind, Reason
from infoscreen.storage import clients
from infoscreen.storage.engine import Connection, Store
from infoscreen.storage.notify import needing
from infoscreen.storage.recovery import incidents
from infoscreen.storage.recovery.incidents import StoredIncident

AT_ONCE = 250
SETTLING = timedelta(minutes=10)
"""So long after a start a missing alert ends nothing: not everything was looked at yet."""

KINDS: Mapping[AlertCode, IncidentKind] = MappingProxyType(
    {
        AlertCode.CERTIFICATE_ENDS: IncidentKind.CERTIFICATE,
        AlertCode.CERTIFICATE_EXPIRED: IncidentKind.CERTIFICATE,
        AlertCode.CERTIFICATE_NOT_YET_VALID: IncidentKind.CERTIFICATE,
        AlertCode.CERTIFICATE_UNREADABLE: IncidentKind.CERTIFICATE,
        AlertCode.LOGINS_FAIL: IncidentKind.AUTHENTICATION,
        AlertCode.LOGINS_FAIL_FROM: IncidentKind.AUTHENTICATION,
        AlertCode.BROKER_ACL_OPEN: IncidentKind.BROKER,
        AlertCode.CLIENT_ID_TAKEN: IncidentKind.BROKER,
        AlertCode.OUTLET_LEFT_OFF: IncidentKind.POWER,
    }
)
"""Alerts that are incidents too; the others are about the configuration and stand in the panel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OldBackup:
    """The newest backup is too old; None: there is none."""

    newest_at: datetime | None


class Sources:
    """Keeps the incidents of these kinds up to date."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        alerts: Callable[[], Iterable[Alert]],
        old_backup: Callable[[], OldBackup | None],
    ) -> None:
        """``alerts`` are those that are true now, ``old_backup`` whether the newest backup is too old."""
        self._store = store
        self._clock = clock
        self._alerts = alerts
        self._old_backup = old_backup
        self._started = clock.monotonic()

    async def step(self) -> None:
        """Open what is new and end what is over."""
        await self._clients()
        await self._installation()

    async def _clients(self) -> None:
        while True:
            async with self._store.read() as connection:
                needy = await needing.without_incident(connection, AT_ONCE)
                over = await needing.no_longer(connection, AT_ONCE)
            changed = 0
            if needy or over:
                now = self._clock.now()
                async with self._store.write() as connection:
                    there = await clients.keep(connection, [one.uuid for one in needy])
                    for one in needy:
                        if one.uuid not in there:
                            continue
                        number = await incidents.save(connection, _of_client(one, now))
                        await incidents.join(connection, number, [one.uuid], now)
                        changed += 1
                    for known in await incidents.some(connection, [one.id for one in over]):
                        ending = next(one for one in over if one.id == known.id)
                        changed += await _end_of_client(connection, known, ending, now)
            if changed < AT_ONCE:
                return

    async def _installation(self) -> None:
        now = self._clock.now()
        wanted = {_name(alert): alert for alert in self._alerts() if alert.fact.code in KINDS}
        backup = self._old_backup()
        async with self._store.read() as connection:
            known = await incidents.open_of(connection, {*KINDS.values(), IncidentKind.BACKUP})
        standing = {str(one.facts.get("name")): one for one in known}
        fresh = [_of_alert(name, one, now) for name, one in wanted.items() if name not in standing]
        if backup is not None and "backup" not in standing:
            newest = "" if backup.newest_at is None else backup.newest_at.isoformat()
            fresh.append(_installation_incident("backup", IncidentKind.BACKUP, now, {"newest_at": newest}))
        settled = self._clock.monotonic() - self._started >= SETTLING.total_seconds()
        over = [
            one
            for name, one in standing.items()
            if (name not in wanted and settled if name != "backup" else backup is None)
        ]
        if fresh or over:
            async with self._store.write() as connection:
                for incident in fresh:
                    await incidents.save(connection, incident)
                for one in over:
                    await incidents.save(connection, replace(one.fact, ended_at=now, closing=Closing.OVER))


async def _end_of_client(
    connection: Connection, known: StoredIncident, ending: needing.OpenClientIncident, now: datetime
) -> int:
    """End the incident of a client, or note that somebody takes care of it; return 1 if anything changed."""
    if ending.status is None or ending.elsewhere:
        await incidents.save(connection, replace(known.fact, ended_at=now, closing=Closing.DISMISSED))
    elif ending.status in WELL or ending.reason is None:
        await incidents.save(connection, replace(known.fact, ended_at=now, closing=Closing.OVER))
    elif ending.reason is Reason.TAKEN_OVER and not ending.acknowledged:
        await incidents.acknowledge(connection, known.id, now, "", None)
    else:
        return 0
    return 1


def _of_client(one: needing.NeedingClient, now: datetime) -> Incident:
    return Incident(
        key=f"client:{one.uuid}:{now.isoformat()}",
        kind=IncidentKind.CLIENT,
        began_at=min(one.since, now),
        site=one.site,
        members=1,
        facts={
            "client": one.name,
            "client_uuid": one.uuid,
            "reason": one.reason.value,
            "arguments": json.dumps(dict(one.arguments)),
        },
    )


def _name(alert: Alert) -> str:
    which = alert.fact.arguments.get("which") or alert.fact.arguments.get("client")
    return f"{KINDS[alert.fact.code].value}:{which or alert.fact.code.value}:{alert.severity.value}"


def _of_alert(name: str, alert: Alert, now: datetime) -> Incident:
    facts = {
        "severity": alert.severity.value,
        "alert": alert.fact.code.value,
        "arguments": json.dumps(alert.fact.packed()),
    }
    return _installation_incident(name, KINDS[alert.fact.code], now, facts)


def _installation_incident(
    name: str, kind: IncidentKind, now: datetime, facts: Mapping[str, str]
) -> Incident:
    told = {"severity": Severity.WARNING.value, **facts, "name": name}
    return Incident(key=f"{name}:{now.isoformat()}", kind=kind, began_at=now, facts=told)
