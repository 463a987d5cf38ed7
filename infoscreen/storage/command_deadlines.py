"""Commands that time has something to do with: unfinished, overdue, waiting for verification."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import Select, and_, bindparam, or_, select

from infoscreen.domain.clients import Presence, ProcessStatus
from infoscreen.domain.commands import (
    Action,
    ClientCommand,
    Verification,
)
from infoscreen.storage.commands import COLUMNS, IS_OPEN, command_of, is_judged
from infoscreen.storage.engine import Connection
from infoscreen.storage.tables import client_commands, clients


class Signs(NamedTuple):
    """What a client shows of itself, as far as it tells whether a command had its effect."""

    boot_id: str | None
    booted_at: datetime | None
    heartbeats_since_boot: int
    app_started_at: datetime | None
    process_pid: int | None
    process_status: ProcessStatus | None
    last_alive: datetime | None
    stale_at: datetime | None
    stale_after_seconds: float | None
    presence: Presence | None
    presence_at: datetime | None
    clock_skew_seconds: float | None
    duplicate_since: datetime | None
    boot_said_at: datetime | None
    boot_heard_at: datetime | None
    app_said_at: datetime | None
    app_heard_at: datetime | None


_c, _k = client_commands.c, clients.c
_PAST_DEADLINE = select(*COLUMNS).where(IS_OPEN, _c.deadline_at <= bindparam("now")).limit(bindparam("most"))


async def unfinished(connection: Connection, after: str, limit: int) -> list[ClientCommand]:
    """Return commands that may still come to an end, and hold them until this transaction ends.

    In the order of their ids, from the one ``after``.
    """
    statement = select(*COLUMNS).where(IS_OPEN, _c.command_id > after).order_by(_c.command_id).limit(limit)
    return [command_of(row) for row in await connection.execute(statement.with_for_update())]


async def past_deadline(connection: Connection, now: datetime, limit: int) -> list[ClientCommand]:
    """Return unfinished commands whose deadline has passed."""
    rows = await connection.execute(_PAST_DEADLINE, {"now": now, "most": limit})
    return [command_of(row) for row in rows]


_SIGNS = tuple(_k[name] for name in Signs._fields)
_ENDS = (_c.finished_at, _c.started_at, _c.deadline_at)
"""From the latest of these that is known the device has its patience."""


@lru_cache(maxsize=8)
def _to_verify(actions: tuple[Action, ...]) -> Select[Any]:
    """Return the statement with a time for each of the actions."""
    heard = or_(
        _k.last_alive > _c.published_at, _c.published_at > bindparam("now"), _c.published_at.is_(None)
    )
    over = [
        and_(_c.action == action, or_(*(at <= bindparam(f"until_{action}") for at in _ENDS)))
        for action in actions
    ]
    worth_it = or_(heard, _c.action == Action.SHUTDOWN_HOST, *over)
    statement = select(*COLUMNS, *_SIGNS).join(clients, _k.uuid == _c.client_uuid)
    statement = statement.where(is_judged(Verification.PENDING), _c.command_id > bindparam("after"), worth_it)
    return statement.order_by(_c.command_id).limit(bindparam("most"))


async def to_verify(
    connection: Connection, now: datetime, patience: Mapping[Action, timedelta], after: str, limit: int
) -> list[tuple[ClientCommand, Signs]]:
    """Return commands whose effect may be seen or missed by now, each with what its client shows of itself.

    In the order of their ids, from the one ``after``. Left out are those for which nothing can have changed:
    their client was not heard since they left, and the ``patience`` for their action has not passed.
    """
    given: dict[str, Any] = {f"until_{action}": now - seconds for action, seconds in patience.items()}
    given |= {"now": now, "after": after, "most": limit}
    rows = await connection.execute(_to_verify(tuple(patience)), given)
    return [(command_of(row[: len(COLUMNS)]), Signs(*row[len(COLUMNS) :])) for row in rows]
