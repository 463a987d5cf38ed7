"""What the recovery tried, written down before it is tried. An attempt has the id of its command.

An attempt without a command was decided on by a daemon that died before it could ask for it. It counts for
limits only once its command was published.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, and_, bindparam, delete, insert, select, union, update

from infoscreen.domain.attempts import AttemptOutcome
from infoscreen.domain.commands import ClientCommand
from infoscreen.domain.recovery import Attempt, Rung
from infoscreen.storage import commands
from infoscreen.storage.engine import Connection
from infoscreen.storage.tables import recovery_attempts, recovery_ladders


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredAttempt:
    """One attempt, under way while ``ended_at`` is None; ``outcome`` is then set with it.

    ``would`` marks one of a dry run, which no command belongs to.
    """

    id: int = 0
    command_id: str
    client_uuid: str
    rung: Rung
    would: bool = False
    decided_at: datetime
    published_at: datetime | None = None
    ended_at: datetime | None = None
    outcome: AttemptOutcome | None = None
    detail: str | None = None

    @property
    def fact(self) -> Attempt:
        """Return it as the rules want it."""
        return Attempt(
            rung=self.rung,
            decided_at=self.decided_at,
            published_at=self.published_at,
            dropped=self.outcome is AttemptOutcome.NOT_SENT,
            would=self.would,
        )


_NAMES = tuple(StoredAttempt.__dataclass_fields__)
_COLUMNS = [recovery_attempts.c[name] for name in _NAMES]


def _attempt(row: Row[Any]) -> StoredAttempt:
    values = dict(zip(_NAMES, row, strict=True))
    return StoredAttempt(**values | {"rung": Rung(values["rung"])})


async def begin(connection: Connection, attempts: Sequence[StoredAttempt]) -> None:
    """Write new attempts."""
    rows = [{name: getattr(attempt, name) for name in _NAMES if name != "id"} for attempt in attempts]
    if rows:
        await connection.execute(insert(recovery_attempts), rows)


async def under_way(connection: Connection) -> list[tuple[StoredAttempt, ClientCommand | None]]:
    """Return the attempts that have not ended, oldest first, each with its command if that was stored."""
    c = recovery_attempts.c
    statement = select(*_COLUMNS).where(c.ended_at.is_(None)).order_by(c.decided_at)
    found = [_attempt(row) for row in await connection.execute(statement)]
    known = await commands.get_many(connection, [attempt.command_id for attempt in found])
    return [(attempt, known.get(attempt.command_id)) for attempt in found]


async def that_matter(connection: Connection, since: datetime) -> dict[str, list[StoredAttempt]]:
    """Return by client the attempts decided on after ``since``, and all of the ladders that are not at rest.

    Oldest first.
    """
    c = recovery_attempts.c
    of_ladders = select(*_COLUMNS).join(
        recovery_ladders,
        and_(recovery_ladders.c.client_uuid == c.client_uuid, c.decided_at >= recovery_ladders.c.began_at),
    )
    merged = union(of_ladders, select(*_COLUMNS).where(c.decided_at > since)).subquery()
    found: dict[str, list[StoredAttempt]] = {}
    for row in await connection.execute(select(merged).order_by(merged.c.decided_at)):
        attempt = _attempt(row)
        found.setdefault(attempt.client_uuid, []).append(attempt)
    return found


async def since_then(connection: Connection, since: datetime) -> list[StoredAttempt]:
    """Return the attempts of all clients that were decided on at or after a time, oldest first."""
    c = recovery_attempts.c
    rows = await connection.execute(select(*_COLUMNS).where(c.decided_at >= since).order_by(c.decided_at))
    return [_attempt(row) for row in rows]


async def get_many(connection: Connection, ids: Collection[int]) -> dict[int, StoredAttempt]:
    """Return those of the attempts that exist, by number."""
    rows = await connection.execute(select(*_COLUMNS).where(recovery_attempts.c.id.in_(ids)))
    return {attempt.id: attempt for attempt in map(_attempt, rows)}


async def of_client(connection: Connection, client_uuid: str, limit: int) -> list[StoredAttempt]:
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
        ended_at=bindparam("new_ended_at"),
        outcome=bindparam("new_outcome"),
        detail=bindparam("new_detail"),
    )
)


async def save(connection: Connection, attempts: Sequence[StoredAttempt]) -> None:
    """Write down how far attempts have come."""
    rows = [
        {
            "key": attempt.command_id,
            "new_published_at": attempt.published_at,
            "new_ended_at": attempt.ended_at,
            "new_outcome": attempt.outcome,
            "new_detail": attempt.detail,
        }
        for attempt in attempts
    ]
    if rows:
        await connection.execute(_CHANGE, rows)


async def forget_before(connection: Connection, before: datetime, limit: int) -> int:
    """Delete up to ``limit`` attempts that were decided on before a time and have ended; return how many."""
    c = recovery_attempts.c
    old = select(c.command_id).where(c.decided_at < before, c.ended_at.is_not(None)).limit(limit)
    return (await connection.execute(delete(recovery_attempts).where(c.command_id.in_(old)))).rowcount
