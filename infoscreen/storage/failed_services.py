"""Failed services: one row for each unit of a client that has ever failed, of the newest of them."""

from collections.abc import Collection, Mapping
from datetime import datetime

from sqlalchemy import bindparam, delete, insert, select

from infoscreen.domain.failures import FailedService, Services
from infoscreen.storage.columns import chunks
from infoscreen.storage.engine import Connection
from infoscreen.storage.tables import failed_services

_NAMES = ("unit", "failed_at", "result", "raised_at", "reported_at", "cleared_at", "held", "acknowledged_by")
_DELETE = delete(failed_services).where(
    failed_services.c.client_uuid == bindparam("which"), failed_services.c.unit == bindparam("name")
)
_COLUMNS = [failed_services.c[name] for name in _NAMES]


async def of_clients(connection: Connection, uuids: Collection[str]) -> dict[str, Services]:
    """Return what is known of each of the clients; the caller holds their rows in ``clients``."""
    found: dict[str, dict[str, FailedService]] = {uuid: {} for uuid in uuids}
    for chunk in chunks(uuids):
        statement = select(failed_services.c.client_uuid, failed_services.c.known, *_COLUMNS)
        rows = await connection.execute(statement.where(failed_services.c.client_uuid.in_(chunk)))
        for uuid, known, *values in rows:
            one = FailedService(
                **dict(zip(_NAMES, values, strict=True)),
                known=tuple(datetime.fromisoformat(stamp) for stamp in known),
            )
            found[uuid][one.unit] = one
    return dict(found)


async def save(connection: Connection, changes: Mapping[str, tuple[Services, Services]]) -> None:
    """Write what became different: for each client, its services before and after."""
    gone: list[tuple[str, str]] = []
    rows = []
    for uuid, (before, after) in changes.items():
        gone += [(uuid, unit) for unit, one in before.items() if after.get(unit) != one]
        for unit, one in after.items():
            if before.get(unit) != one:
                values = {name: getattr(one, name) for name in _NAMES}
                known = [stamp.isoformat() for stamp in one.known]
                rows.append({"client_uuid": uuid, "known": known, **values})
    if gone:
        await connection.execute(_DELETE, [{"which": uuid, "name": unit} for uuid, unit in gone])
    if rows:
        await connection.execute(insert(failed_services), rows)
