"""What the recovery decided for whom. One that repeats is one row, however many polls it stands.

Rows say at which poll they began; how often one was made is the number of polls since. So a decision that
stands costs no writing at all, and an outage of a day no more rows than one of a minute.
"""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypedDict

from sqlalchemy import ColumnElement, Row, and_, bindparam, delete, func, insert, or_, select, update

from infoscreen.domain.clients import PROBLEMS
from infoscreen.domain.codes import Packed
from infoscreen.domain.recovery import Decided, Reason, Rung, Verb
from infoscreen.domain.recovery.reasons import LEFT_TO_PEOPLE
from infoscreen.storage.acknowledged import NOW, UUIDS, is_acknowledged_itself
from infoscreen.storage.columns import chunks
from infoscreen.storage.engine import Connection
from infoscreen.storage.paging import Page, count_some, cursor_number, decode_cursor, encode_cursor
from infoscreen.storage.recovery_tables import recovery_polls
from infoscreen.storage.tables import clients, incidents, recovery_decisions

IN_ONE_READ = 100

HELD = and_(
    recovery_decisions.c.last_at.is_(None),
    recovery_decisions.c.incident_id.in_(select(incidents.c.id).where(incidents.c.ended_at.is_(None))),
)
"""Stands because of an incident under way. One that a person ends keeps its decisions until the next poll."""

LEFT = and_(
    recovery_decisions.c.last_at.is_(None),
    or_(recovery_decisions.c.would, recovery_decisions.c.reason.in_(sorted(LEFT_TO_PEOPLE))),
)
"""Stands, and nothing comes of it: it leaves the problem to people, or was made in a dry run."""

THE_POLL = 1
"""The one row of ``recovery_polls``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDecision(Decided):
    """One decision, standing while ``last_at`` is None.

    ``arguments`` are those of when it was first made. ``times`` is how often it was made in a row, also of
    one that stands.
    """

    id: int = 0
    incident_id: int | None = None
    first_at: datetime
    first_poll: int
    last_at: datetime | None = None
    times: int | None = None


class BlindnessJson(TypedDict):
    """Why the server could not see: a reason, and its arguments as JSON."""

    reason: str
    arguments: Packed


class PollSummary(TypedDict, total=False):
    """What a poll found, as it is stored; empty for polls of earlier versions.

    ``counts`` are decisions by reason, ``without_pause`` is the mode while nothing is paused.
    """

    blind: BlindnessJson | None
    counts: dict[str, int]
    without_pause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LastPoll:
    """The newest poll: its number, when it was, in which mode, and what it found."""

    number: int
    at: datetime
    mode: str
    summary: PollSummary = field(default_factory=lambda: PollSummary())

    @property
    def counts(self) -> dict[Reason, int]:
        """Return the number of decisions by reason."""
        return {Reason(reason): count for reason, count in self.summary.get("counts", {}).items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionQuery:
    """Which decisions; None means any. Without ``past`` only those that stand."""

    client_uuid: str | None = None
    verb: Verb | None = None
    reason: Reason | None = None
    site: str | None = None
    incident_id: int | None = None
    past: bool = False


_NAMES = tuple(StoredDecision.__dataclass_fields__)
_COLUMNS = [recovery_decisions.c[name] for name in _NAMES]


def _decision(row: Row[Any], poll: LastPoll | None) -> StoredDecision:
    values = dict(zip(_NAMES, row, strict=False))
    values["rung"] = None if values["rung"] is None else Rung(values["rung"])
    if values["times"] is None and poll is not None:
        values["times"] = max(1, poll.number - values["first_poll"] + 1)
    return StoredDecision(**values)


_p = recovery_polls.c
_LAST_POLL = select(_p.number, _p.at, _p.mode, _p.summary).where(_p.id == THE_POLL)
_NOTE_POLL = (
    update(recovery_polls)
    .where(_p.id == THE_POLL)
    .values({name: bindparam(f"new_{name}") for name in ("number", "at", "mode", "summary")})
)


async def last_poll(connection: Connection) -> LastPoll | None:
    """Return the newest poll, None before the first."""
    row = (await connection.execute(_LAST_POLL)).one_or_none()
    return None if row is None else LastPoll(number=row[0], at=row[1], mode=row[2], summary=row[3])


async def note_poll(connection: Connection, poll: LastPoll) -> None:
    """Write down that there was a poll."""
    values = {"number": poll.number, "at": poll.at, "mode": poll.mode, "summary": dict(poll.summary)}
    known = await connection.execute(_NOTE_POLL, {f"new_{name}": value for name, value in values.items()})
    if not known.rowcount:
        await connection.execute(insert(recovery_polls).values(id=THE_POLL, **values))


_STANDING = select(*_COLUMNS).where(recovery_decisions.c.last_at.is_(None))


async def all_standing(connection: Connection) -> AsyncIterator[list[StoredDecision]]:
    """Yield the decisions that stand, one for each client that has any, in small parts, without ``times``."""
    async for rows in (await connection.stream(_STANDING)).partitions(IN_ONE_READ):
        yield [_decision(row, None) for row in rows]


_STANDING_OF = select(*_COLUMNS).where(
    recovery_decisions.c.last_at.is_(None), recovery_decisions.c.client_uuid.in_(UUIDS)
)


async def standing(connection: Connection, uuids: Collection[str]) -> dict[str, StoredDecision]:
    """Return the decision that stands for each of the clients that has one."""
    poll = await last_poll(connection)
    found: dict[str, StoredDecision] = {}
    for chunk in chunks(uuids):
        rows = await connection.execute(_STANDING_OF, {"uuids": chunk})
        found.update((decision.client_uuid, decision) for decision in (_decision(row, poll) for row in rows))
    return found


async def get_many(connection: Connection, ids: Collection[int]) -> dict[int, StoredDecision]:
    """Return those of the decisions that exist, by number."""
    poll = await last_poll(connection)
    rows = await connection.execute(select(*_COLUMNS).where(recovery_decisions.c.id.in_(ids)))
    return {decision.id: decision for decision in (_decision(row, poll) for row in rows)}


async def begin(connection: Connection, decisions: Sequence[StoredDecision]) -> None:
    """Write decisions that stand from now on; those before them must have been ended."""
    names = [name for name in _NAMES if name not in {"id", "last_at", "times"}]
    rows = [{name: getattr(decision, name) for name in names} for decision in decisions]
    if rows:
        await connection.execute(insert(recovery_decisions), rows)


_END = (
    update(recovery_decisions)
    .where(recovery_decisions.c.id == bindparam("key"))
    .values(last_at=bindparam("last"), times=bindparam("count"))
)


async def end(connection: Connection, decisions: Sequence[StoredDecision], poll: LastPoll | None) -> None:
    """End decisions that stand; ``poll`` is the last one at which they were made."""
    rows = [
        {
            "key": decision.id,
            "last": decision.first_at if poll is None else max(poll.at, decision.first_at),
            "count": 1 if poll is None else max(1, poll.number - decision.first_poll + 1),
        }
        for decision in decisions
    ]
    if rows:
        await connection.execute(_END, rows)


_MOVE = (
    update(recovery_decisions)
    .where(recovery_decisions.c.id == bindparam("key"))
    .values(until=bindparam("new_until"))
)


async def postpone(connection: Connection, until: Mapping[int, datetime | None]) -> None:
    """Set until when decisions that stand are to wait."""
    rows = [{"key": key, "new_until": at} for key, at in until.items()]
    if rows:
        await connection.execute(_MOVE, rows)


async def page(
    connection: Connection, query: DecisionQuery, limit: int, cursor: str | None = None
) -> Page[StoredDecision]:
    """Return a page of what matches, newest first; raise ``InvalidInput`` for a foreign cursor."""
    c = recovery_decisions.c
    matching = _where(query)
    # What stands now is as long as the unwell are many; the past grows with every day.
    total = None if query.past else await count_some(connection, recovery_decisions, matching)
    statement = select(*_COLUMNS).where(*matching)
    if cursor is not None:
        statement = statement.where(c.id < cursor_number(decode_cursor(cursor, 1)[0]))
    poll = await last_poll(connection)
    rows = (await connection.execute(statement.order_by(c.id.desc()).limit(limit + 1))).all()
    items = [_decision(row, poll) for row in rows[:limit]]
    return Page(items, encode_cursor(items[-1].id) if len(rows) > limit else None, total)


def _where(query: DecisionQuery) -> list[ColumnElement[bool]]:
    c = recovery_decisions.c
    matching: list[ColumnElement[bool]] = [] if query.past else [c.last_at.is_(None)]
    wanted = {
        c.client_uuid: query.client_uuid,
        c.verb: query.verb,
        c.reason: query.reason,
        c.incident_id: query.incident_id,
    }
    if query.site is not None:
        matching.append(c.client_uuid.in_(select(clients.c.uuid).where(clients.c.site == query.site)))
    return matching + [column == value for column, value in wanted.items() if value is not None]


_HELD_BY_INCIDENTS = (
    select(recovery_decisions.c.incident_id, func.count())
    .join(clients, clients.c.uuid == recovery_decisions.c.client_uuid)
    .where(HELD, clients.c.status.in_(sorted(PROBLEMS)), ~is_acknowledged_itself(NOW))
    .group_by(recovery_decisions.c.incident_id)
)


async def held_by_incidents(connection: Connection, now: datetime) -> dict[int, int]:
    """Return how many clients with a problem each incident holds that nobody takes care of singly."""
    return {row[0]: row[1] for row in await connection.execute(_HELD_BY_INCIDENTS, {"now": now})}


async def held_by(connection: Connection, incident_id: int, limit: int) -> list[str]:
    """Return up to ``limit`` of the clients that an incident holds just now."""
    c = recovery_decisions.c
    held = select(c.client_uuid).where(c.incident_id == incident_id, c.last_at.is_(None))
    return list((await connection.scalars(held.order_by(c.client_uuid).limit(limit))).all())


async def count_held_by(connection: Connection, incident_id: int) -> int:
    """Return how many clients an incident holds just now."""
    c = recovery_decisions.c
    held = select(func.count()).where(c.incident_id == incident_id, c.last_at.is_(None))
    return int((await connection.execute(held)).scalar_one())


async def forget_before(connection: Connection, before: datetime, limit: int) -> int:
    """Delete up to ``limit`` decisions that ended before a time; return how many."""
    c = recovery_decisions.c
    old = select(c.id).where(c.first_at < before, c.last_at < before).limit(limit)
    return (await connection.execute(delete(recovery_decisions).where(c.id.in_(old)))).rowcount
