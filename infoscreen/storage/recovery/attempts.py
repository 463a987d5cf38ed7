"""What the recovery tried, written down before it is tried. An attempt has the id of its command.

An attempt without a command was decided on by a daemon that died before it could ask for it.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import and_, bindparam, delete, insert, select, union, update

from infoscreen.domain.commands import ClientCommand
from infoscreen.domain.recovery import Attempt, Outcome, Rung
from infoscreen.storage import commands
from infoscreen.storage.columns import chunks
from infoscreen.storage.engine import Connection
from infoscreen.storage.tables import recovery_attempts, recovery_ladders

_NAMES = tuple(Attempt.__dataclass_fields__)
_COLUMNS = [recovery_attempts.c[name] for name in _NAMES]


def _attempt(row: Sequence[Any]) -> Attempt:
    values = dict(zip(_NAMES, row, strict=True))
    return Attempt(**values | {"rung": Rung(values["rung"])})


async def begin(connection: Connection, attempts: Sequence[Attempt]) -> None:
    """Write new attempts."""
    rows = [{name: getattr(attempt, name) for name in _NAMES} for attempt in attempts]
    if rows:
        await connection.execute(insert(recovery_attempts), rows)


_UNDER_WAY = (
    select(*_COLUMNS).where(recovery_attempts.c.ended_at.is_(None)).order_by(recovery_attempts.c.decided_at)
)


async def under_way(connection: Connection) -> list[tuple[Attempt, ClientCommand | None]]:
    """Return the attempts without an outcome, oldest first, each with its command if that was stored."""
    found = [_attempt(row) for row in await connection.execute(_UNDER_WAY)]
    known = await commands.get_many(connection, [attempt.command_id for attempt in found])
    return [(attempt, known.get(attempt.command_id)) for attempt in found]


async def that_matter(connection: Connection, since: datetime, incidents: Collection[str]) -> list[Attempt]:
    """Return the attempts after ``since``, of ladders not at rest and of these incidents; oldest first."""
    c = recovery_attempts.c
    of_ladders = select(*_COLUMNS).join(
        recovery_ladders,
        and_(recovery_ladders.c.client_uuid == c.client_uuid, c.decided_at >= recovery_ladders.c.began_at),
    )
    parts = [of_ladders, select(*_COLUMNS).where(c.decided_at > since)]
    parts += [select(*_COLUMNS).where(c.incident.in_(chunk)) for chunk in chunks(incidents)]
    merged = union(*parts).subquery()
    rows = await connection.execute(select(merged).order_by(merged.c.decided_at))
    return [_attempt(row) for row in rows]


async def since_then(connection: Connection, since: datetime) -> list[Attempt]:
    """Return the attempts of all clients that were decided on at or after a time, oldest first."""
    c = recovery_attempts.c
    rows = await connection.execute(select(*_COLUMNS).where(c.decided_at >= since).order_by(c.decided_at))
    return [_attempt(row) for row in rows]


async def get_many(connection: Connection, ids: Collection[int]) -> dict[int, Attempt]:
    """Return those of the attempts that exist, by number."""
    key = recovery_attempts.c.id
    rows = await connection.execute(select(*_COLUMNS, key).where(key.in_(ids)))
    return {row[-1]: _attempt(tuple(row)[:-1]) for row in rows}


async def of_client(connection: Connection, client_uuid: str, limit: int) -> list[Attempt]:
    """Return a client's attempts, newest first."""
    c = recovery_attempts.c
    statement = select(*_COLUMNS).where(c.client_uuid == client_uuid)
    rows = await connection.execute(statement.order_by(c.decided_at.desc()).limit(limit))
    return [_attempt(row) for row in rows]


_CHANGE = (
    update(recovery_attempts)
    .where(recovery_attempts.c.command_id == bindparam("key"))
    .values(
        published_at=bindparam("new_published_at"),
        accepted_at=bindparam("new_accepted_at"),
        ended_at=bindparam("new_ended_at"),
        outcome=bindparam("new_outcome"),
        error_code=bindparam("new_error_code"),
    )
)


async def save(connection: Connection, attempts: Sequence[Attempt]) -> None:
    """Write down how far attempts have come."""
    rows = [
        {
            "key": attempt.command_id,
            "new_published_at": attempt.published_at,
            "new_accepted_at": attempt.accepted_at,
            "new_ended_at": attempt.ended_at,
            "new_outcome": attempt.outcome,
            "new_error_code": attempt.error_code,
        }
        for attempt in attempts
    ]
    if rows:
        await connection.execute(_CHANGE, rows)


_OUTCOME = (
    update(recovery_attempts)
    .where(recovery_attempts.c.command_id == bindparam("key"))
    .values(outcome=bindparam("new"), ended_at=bindparam("at"))
)


async def conclude(connection: Connection, outcomes: Mapping[str, Outcome], now: datetime) -> None:
    """Write down what came of attempts, by command."""
    if outcomes:
        rows = [{"key": key, "new": outcome, "at": now} for key, outcome in outcomes.items()]
        await connection.execute(_OUTCOME, rows)


_MOVE = (
    update(recovery_attempts)
    .where(recovery_attempts.c.command_id == bindparam("key"))
    .values(
        {name: bindparam(f"new_{name}") for name in ("decided_at", "published_at", "accepted_at", "ended_at")}
    )
)


async def move(connection: Connection, attempts: Sequence[Attempt]) -> None:
    """Write the times of attempts after the host's clock was set."""
    rows = [
        {
            "key": one.command_id,
            "new_decided_at": one.decided_at,
            "new_published_at": one.published_at,
            "new_accepted_at": one.accepted_at,
            "new_ended_at": one.ended_at,
        }
        for one in attempts
    ]
    if rows:
        await connection.execute(_MOVE, rows)


async def forget_before(connection: Connection, before: datetime, limit: int) -> int:
    """Delete up to ``limit`` attempts that were decided on before a time and have ended; return how many."""
    c = recovery_attempts.c
    old = select(c.command_id).where(c.decided_at < before, c.ended_at.is_not(None)).limit(limit)
    return (await connection.execute(delete(recovery_attempts).where(c.command_id.in_(old)))).rowcount
