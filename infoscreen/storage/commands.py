"""Commands: creating, reading and changing them."""

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from functools import lru_cache
from operator import attrgetter
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Update,
    and_,
    bindparam,
    delete,
    desc,
    literal,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from infoscreen.domain.commands import (
    DISRUPTIVE,
    OPEN,
    Action,
    ClientCommand,
    CommandStatus,
    Source,
    Verification,
)
from infoscreen.domain.refusals import REFUSALS
from infoscreen.storage.columns import chunks, one_of, without_nulls
from infoscreen.storage.engine import Connection
from infoscreen.storage.paging import Page, cursor_text, cursor_time, decode_cursor, encode_cursor
from infoscreen.storage.tables import RARE, client_commands

_FIELDS = tuple(field.name for field in fields(ClientCommand))
COLUMNS = [client_commands.c[name] for name in _FIELDS]

IS_OPEN = one_of(client_commands.c.status, OPEN)
"""The command is unfinished."""

IS_IN_FLIGHT = and_(
    IS_OPEN, one_of(client_commands.c.action, DISRUPTIVE), client_commands.c.waits_for.is_(None)
)
"""The command is what its client is occupied with, in the words of the partial unique index."""


def is_judged(verification: Verification) -> ColumnElement[bool]:
    """Return the condition of a verification, in the words of the partial indexes."""
    column = client_commands.c.verification
    return column == literal(verification, column.type, literal_execute=True)


IN_ONE_READ = 100

_TRIED = or_(
    client_commands.c.error_code.is_(None),
    client_commands.c.error_code.not_in(sorted(REFUSALS)),
    client_commands.c.started_at.is_not(None),
)
"""Holds for commands that the device did not refuse."""


@dataclass(frozen=True, slots=True)
class CommandQuery:
    """Which commands; None means any."""

    client_uuid: str | None = None
    status: CommandStatus | None = None
    action: Action | None = None
    source: Source | None = None
    batch_id: str | None = None


def command_of(row: Sequence[Any]) -> ClientCommand:
    """Return the command in a row of ``COLUMNS``."""
    return ClientCommand(**dict(zip(_FIELDS, row, strict=True)))


async def get(connection: Connection, command_id: str) -> ClientCommand | None:
    """Return one command, or None."""
    statement = select(*COLUMNS).where(client_commands.c.command_id == command_id)
    row = (await connection.execute(statement)).one_or_none()
    return None if row is None else command_of(row)


async def get_many(connection: Connection, ids: Collection[str]) -> dict[str, ClientCommand]:
    """Return those of the commands that exist, by id."""
    found: dict[str, ClientCommand] = {}
    for chunk in chunks(ids):
        rows = await connection.execute(select(*COLUMNS).where(client_commands.c.command_id.in_(chunk)))
        found.update((command.command_id, command) for command in map(command_of, rows))
    return found


async def for_change(connection: Connection, ids: Collection[str]) -> dict[str, ClientCommand]:
    """Return those of the commands that exist, by id, and hold them until this transaction ends.

    SQLite's ``BEGIN IMMEDIATE`` holds everything anyway; PostgreSQL locks the rows.
    """
    found: dict[str, ClientCommand] = {}
    for chunk in chunks(sorted(ids)):
        statement = select(*COLUMNS).where(client_commands.c.command_id.in_(chunk))
        # In one order, so that two transactions cannot wait for each other.
        statement = statement.order_by(client_commands.c.command_id).with_for_update()
        found.update((c.command_id, c) for c in map(command_of, await connection.execute(statement)))
    return found


async def search(
    connection: Connection, query: CommandQuery, limit: int, cursor: str | None = None
) -> Page[ClientCommand]:
    """Return a page of the commands that match, newest first; raise ``InvalidInput`` for a foreign cursor."""
    wanted = {name: value for name, value in asdict(query).items() if value is not None}
    matching: list[ColumnElement[bool]] = [client_commands.c[name] == value for name, value in wanted.items()]
    if query.status in RARE:
        matching.append(one_of(client_commands.c.status, RARE))
    elif query.status in OPEN:
        matching.append(IS_OPEN)
    statement = select(*COLUMNS).where(*matching)
    key = (client_commands.c.created_at, client_commands.c.command_id)
    if cursor is not None:
        at, command_id = decode_cursor(cursor, 2)
        statement = statement.where(tuple_(*key) < tuple_(cursor_time(at), cursor_text(command_id)))
    statement = statement.order_by(*(desc(column) for column in key)).limit(limit + 1)
    items = [command_of(row) for row in await connection.execute(statement)]
    page = items[:limit]
    following = encode_cursor(page[-1].created_at, page[-1].command_id) if len(items) > limit else None
    return Page(page, following)


async def in_flight(connection: Connection, client_uuids: Collection[str]) -> dict[str, ClientCommand]:
    """Return the unfinished disruptive command of each client that has one."""
    found: dict[str, ClientCommand] = {}
    for chunk in chunks(client_uuids):
        rows = await connection.execute(_IN_FLIGHT_OF, {"uuids": chunk})
        found.update((c.client_uuid, c) for c in map(command_of, rows))
    return found


_IN_FLIGHT = select(*COLUMNS).where(IS_IN_FLIGHT)
_IN_FLIGHT_OF = _IN_FLIGHT.where(client_commands.c.client_uuid.in_(bindparam("uuids", expanding=True)))


async def all_in_flight(connection: Connection) -> AsyncIterator[list[ClientCommand]]:
    """Yield the unfinished disruptive commands of all clients, in small parts."""
    async for rows in (await connection.stream(_IN_FLIGHT)).partitions(IN_ONE_READ):
        yield [command_of(row) for row in rows]


async def published_since(
    connection: Connection, client_uuids: Collection[str], since: datetime
) -> dict[str, list[datetime]]:
    """Return when disruptive commands of each client left for the broker, as far as after ``since``.

    Those that the device refused do not count: nothing was tried.
    """
    found: dict[str, list[datetime]] = {}
    for chunk in chunks(client_uuids):
        statement = select(client_commands.c.client_uuid, client_commands.c.published_at).where(
            client_commands.c.client_uuid.in_(chunk),
            client_commands.c.action.in_(sorted(DISRUPTIVE)),
            client_commands.c.published_at > since,
            _TRIED,
        )
        for uuid, at in await connection.execute(statement):
            found.setdefault(uuid, []).append(at)
    return found


_DISRUPTIVE = select(client_commands.c.client_uuid, client_commands.c.published_at).where(
    one_of(client_commands.c.action, DISRUPTIVE),
    client_commands.c.published_at > bindparam("since"),
    _TRIED,
)


async def disruptive_since(connection: Connection, since: datetime) -> dict[str, list[datetime]]:
    """Return the same for all clients that had any."""
    found: dict[str, list[datetime]] = {}
    for uuid, at in await connection.execute(_DISRUPTIVE, {"since": since}):
        found.setdefault(uuid, []).append(at)
    return found


_PUBLISHED = select(
    client_commands.c.command_id, client_commands.c.published_at, client_commands.c.last_publish_at
).where(client_commands.c.published_at > bindparam("since"))
_MOVE = (
    update(client_commands)
    .where(client_commands.c.command_id == bindparam("key"))
    .values(published_at=bindparam("first"), last_publish_at=bindparam("last"))
)


async def move_published(
    connection: Connection, since: datetime, moved: Callable[[datetime | None], datetime | None]
) -> None:
    """Move the times at which commands left after ``since``, once the host's clock was set."""
    rows = [
        {"key": key, "first": moved(first), "last": moved(last)}
        for key, first, last in await connection.execute(_PUBLISHED, {"since": since})
    ]
    if rows:
        await connection.execute(_MOVE, rows)


async def create(connection: Connection, commands: Sequence[ClientCommand]) -> set[str]:
    """Insert new commands; return the ids of those that were inserted.

    One is left out when its client has an unfinished disruptive command already: the partial unique index
    decides, not a look before the insert, so that no two of any number of concurrent requests can both win.
    """
    if not commands:
        return set()
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    rows = [{name: getattr(command, name) for name in _FIELDS} for command in commands]
    await connection.execute(dialect.insert(client_commands).on_conflict_do_nothing(), without_nulls(rows))
    created: set[str] = set()
    for chunk in chunks([command.command_id for command in commands]):
        ids = select(client_commands.c.command_id).where(client_commands.c.command_id.in_(chunk))
        created.update((await connection.scalars(ids)).all())
    return created


_FIXED = {
    *("command_id", "client_uuid", "action", "source", "requested_by", "reason"),
    *("batch_id", "forced"),
}
_MUTABLE = tuple(name for name in _FIELDS if name not in _FIXED)
_values = attrgetter(*_MUTABLE)


async def save(
    connection: Connection, held: Mapping[str, ClientCommand], commands: Collection[ClientCommand]
) -> None:
    """Write commands as they are now, in one statement for the columns in which any of them differs.

    A statement that sets a column writes all its indexes, also when the value stays.

    Args:
        connection: the transaction.
        held: the commands as they were read ``for_change`` in this very transaction, by id.
        commands: those to write.
    """
    became = [
        (command.command_id, _values(held[command.command_id]), _values(command)) for command in commands
    ]
    differing = tuple(
        number
        for number in range(len(_MUTABLE))
        if any(before[number] != after[number] for _, before, after in became)
    )
    if differing:
        rows = [
            {"key": key} | {f"new_{_MUTABLE[number]}": after[number] for number in differing}
            for key, _, after in became
        ]
        await connection.execute(_update_of(differing), rows)


@lru_cache(maxsize=64)
def _update_of(columns: tuple[int, ...]) -> Update:
    return (
        update(client_commands)
        .where(client_commands.c.command_id == bindparam("key"))
        .values({_MUTABLE[number]: bindparam(f"new_{_MUTABLE[number]}") for number in columns})
    )


async def contradicted_since(connection: Connection, since: datetime, limit: int) -> list[ClientCommand]:
    """Return commands whose claimed effect was found missing after ``since``, newest first."""
    c = client_commands.c
    found = select(*COLUMNS).where(is_judged(Verification.CONTRADICTED), c.verified_at > since)
    rows = await connection.execute(found.order_by(desc(c.verified_at)).limit(limit))
    return [command_of(row) for row in rows]


async def has_contradicted(connection: Connection, client_uuid: str, since: datetime) -> bool:
    """Tell whether the claimed effect of any command of a client was found missing after ``since``."""
    c = client_commands.c
    found = select(c.command_id).where(
        is_judged(Verification.CONTRADICTED), c.verified_at > since, c.client_uuid == client_uuid
    )
    return (await connection.execute(found.limit(1))).first() is not None


async def forget_before(connection: Connection, before: datetime, limit: int) -> int:
    """Delete up to ``limit`` finished commands older than ``before``; return how many."""
    c = client_commands.c
    old = select(c.command_id).where(c.status.not_in(sorted(OPEN)), c.created_at < before).limit(limit)
    return (await connection.execute(delete(client_commands).where(c.command_id.in_(old)))).rowcount
