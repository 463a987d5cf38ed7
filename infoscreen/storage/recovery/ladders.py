"""Where clients stand on the recovery's ladder; one that is at rest has no row."""

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import Row, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from infoscreen.domain.recovery import Ladder, Rung
from infoscreen.storage.columns import chunks
from infoscreen.storage.engine import Connection
from infoscreen.storage.tables import recovery_ladders

_NAMES = Ladder._fields
_COLUMNS = [recovery_ladders.c.client_uuid, *(recovery_ladders.c[name] for name in _NAMES)]


def _ladder(row: Row[Any]) -> Ladder:
    values: dict[str, Any] = dict(zip(_NAMES, row[1:], strict=True))
    return Ladder(**values | {"rung": Rung(values["rung"])})


_ALL = select(*_COLUMNS)


async def all_of_them(connection: Connection) -> dict[str, Ladder]:
    """Return every ladder that is not at rest, by client."""
    found: dict[str, Ladder] = {}
    async for rows in (await connection.stream(_ALL)).partitions(500):
        found.update((row[0], _ladder(row)) for row in rows)
    return found


async def get(connection: Connection, client_uuid: str) -> Ladder | None:
    """Return a client's ladder, None when it is at rest."""
    statement = select(*_COLUMNS).where(recovery_ladders.c.client_uuid == client_uuid)
    row = (await connection.execute(statement)).one_or_none()
    return None if row is None else _ladder(row)


async def save(connection: Connection, ladders: Mapping[str, Ladder | None]) -> None:
    """Write ladders by client; None puts one at rest."""
    await _rest(connection, [uuid for uuid, ladder in ladders.items() if ladder is None])
    rows = [
        {"client_uuid": uuid, **{name: getattr(ladder, name) for name in _NAMES}}
        for uuid, ladder in ladders.items()
        if ladder is not None
    ]
    if not rows:
        return
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    new = dialect.insert(recovery_ladders)
    changed = {name: new.excluded[name] for name in _NAMES}
    await connection.execute(new.on_conflict_do_update(index_elements=["client_uuid"], set_=changed), rows)


async def _rest(connection: Connection, uuids: Collection[str]) -> None:
    for chunk in chunks(uuids):
        await connection.execute(delete(recovery_ladders).where(recovery_ladders.c.client_uuid.in_(chunk)))
