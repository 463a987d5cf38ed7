"""Notification rules: who is told what, when."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Row, delete, func, insert, select, update

from infoscreen.domain.notifying import Rule
from infoscreen.domain.opening_hours import parsed
from infoscreen.domain.recovery import IncidentKind
from infoscreen.storage import locks
from infoscreen.storage.engine import Connection
from infoscreen.storage.locks import AdvisoryLock
from infoscreen.storage.notify_tables import rules
from infoscreen.storage.paging import Page, cursor_id, numbered_page


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRule:
    """One rule; ``settings`` are plain values as the API has them, those left out are the defaults."""

    id: int = 0
    name: str
    enabled: bool = True
    settings: Mapping[str, Any]
    created_at: datetime

    @property
    def rule(self) -> Rule:
        """Return it as the rules of the domain want it."""
        plain = dict(self.settings)
        hours, zone = plain.get("hours"), plain.get("time_zone")
        return Rule(
            id=self.id,
            name=self.name,
            enabled=self.enabled,
            kinds=frozenset(map(IncidentKind, plain.get("kinds") or ())),
            critical_only=bool(plain.get("critical_only")),
            sites=frozenset(plain.get("sites") or ()),
            tags=frozenset(plain.get("tags") or ()),
            channels=frozenset(plain.get("channels") or ()),
            delay=_seconds(plain.get("delay_seconds")),
            hours=None if hours is None else parsed(hours),
            zone=ZoneInfo(zone or "UTC"),
            reminder=_seconds(plain.get("reminder_seconds")),
            resolved=bool(plain.get("resolved", True)),
            escalate_to=frozenset(plain.get("escalate_to") or ()),
            escalate_after=_seconds(plain.get("escalate_after_seconds")),
        )


def _seconds(value: float | None) -> timedelta | None:
    return None if value is None else timedelta(seconds=value)


_NAMES = tuple(StoredRule.__dataclass_fields__)
_ALL = select(*(rules.c[name] for name in _NAMES)).order_by(rules.c.id)


def _rule(row: Row[Any]) -> StoredRule:
    return StoredRule(**dict(zip(_NAMES, row, strict=True)))


async def every(connection: Connection) -> list[StoredRule]:
    """Return all rules; there are few."""
    return [_rule(row) for row in await connection.execute(_ALL)]


async def page(connection: Connection, limit: int, cursor: str | None = None) -> Page[StoredRule]:
    """Return rules in the order in which they were added."""
    statement = _ALL.limit(limit + 1).where(rules.c.id > cursor_id(cursor))
    found = [_rule(row) for row in await connection.execute(statement)]
    return numbered_page(found, limit, await count(connection))


async def count(connection: Connection) -> int:
    """Return how many rules there are."""
    return await connection.scalar(select(func.count()).select_from(rules)) or 0


async def get(connection: Connection, rule_id: int) -> StoredRule | None:
    """Return one rule, None if there is none of that number."""
    row = (await connection.execute(_ALL.where(rules.c.id == rule_id))).one_or_none()
    return None if row is None else _rule(row)


async def named(connection: Connection, name: str) -> StoredRule | None:
    """Return the rule of a name, None if there is none; others that give names wait until the end."""
    await locks.hold(connection, AdvisoryLock.NOTICE_NAMES)
    row = (await connection.execute(_ALL.where(rules.c.name == name))).one_or_none()
    return None if row is None else _rule(row)


async def add(connection: Connection, rule: StoredRule) -> int:
    """Add a rule and return its number."""
    values = {name: getattr(rule, name) for name in _NAMES if name != "id"}
    values["settings"] = dict(rule.settings)
    key = (await connection.execute(insert(rules).values(values))).inserted_primary_key
    return 0 if key is None else int(key[0])


async def change(connection: Connection, rule_id: int, values: Mapping[str, Any]) -> None:
    """Write some columns of a rule."""
    if values:
        await connection.execute(update(rules).where(rules.c.id == rule_id).values(**values))


async def remove(connection: Connection, rule_id: int) -> bool:
    """Delete a rule; tell whether there was one."""
    return (await connection.execute(delete(rules).where(rules.c.id == rule_id))).rowcount > 0
