"""Who did what to what, when, and from where. Written in the transaction of the act itself, never changed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from infoscreen.domain.accounts import Actor
from infoscreen.storage.account_tables import audit
from infoscreen.storage.paging import Page, cursor_number, decode_cursor, encode_cursor

TARGET_LENGTH = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One act; ``via`` is ``session``, ``token``, ``cli`` or ``daemon``, the actor may be gone by now."""

    id: int
    at: datetime
    actor_id: int | None
    actor: str
    via: str
    action: str
    target: str | None
    detail: dict[str, Any] | None
    address: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditQuery:
    """Which acts to list; None means all."""

    actor: str | None = None
    action: str | None = None
    target: str | None = None


class AuditedAct(NamedTuple):
    """What ``record`` writes down, one of several."""

    actor: Actor
    action: str
    target: str | None = None
    detail: Mapping[str, Any] | None = None


async def record(
    connection: AsyncConnection,
    at: datetime,
    actor: Actor,
    action: str,
    target: str | None = None,
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Write one act down.

    Args:
        connection: the transaction in which the act happens, so that both are kept or neither.
        at: the time of the act.
        actor: who acts.
        action: a stable dotted word such as ``user.add``, at most 60 characters.
        target: what it was done to, for example ``client/<uuid>``.
        detail: what else matters, as JSON; never a secret.
    """
    await record_all(connection, at, [AuditedAct(actor, action, target, detail)])


async def record_all(connection: AsyncConnection, at: datetime, acts: Sequence[AuditedAct]) -> None:
    """Write several acts down, with one statement."""
    rows = [
        {
            "at": at,
            "actor_id": one.actor.user_id,
            "actor": one.actor.name,
            "via": one.actor.via,
            "action": one.action,
            "target": None if one.target is None else one.target[:TARGET_LENGTH],
            "detail": None if one.detail is None else dict(one.detail),
            "address": one.actor.address,
        }
        for one in acts
    ]
    if rows:
        await connection.execute(insert(audit), rows)


async def page(
    connection: AsyncConnection, limit: int, cursor: str | None = None, query: AuditQuery | None = None
) -> Page[AuditEntry]:
    """Return acts, newest first."""
    wanted = query or AuditQuery()
    matching = [
        column == value
        for column, value in (
            (audit.c.actor, wanted.actor),
            (audit.c.action, wanted.action),
            (audit.c.target, wanted.target),
        )
        if value is not None
    ]
    # The id alone is the order: entries are only ever added, and the wall clock may step back.
    before = [] if cursor is None else [audit.c.id < cursor_number(decode_cursor(cursor, 1)[0])]
    found = await connection.execute(
        select(audit).where(*matching, *before).order_by(audit.c.id.desc()).limit(limit + 1)
    )
    entries = [AuditEntry(**row) for row in found.mappings()]
    more = len(entries) > limit
    entries = entries[:limit]
    return Page(entries, encode_cursor(entries[-1].id) if more else None)


async def forget_before(connection: AsyncConnection, before: datetime, limit: int) -> int:
    """Delete up to ``limit`` acts older than ``before``; return how many."""
    old = select(audit.c.id).where(audit.c.at < before).limit(limit)
    return (await connection.execute(delete(audit).where(audit.c.id.in_(old)))).rowcount
