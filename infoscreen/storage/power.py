"""Outlets of clients: writing them, and finding those that share one."""

from collections.abc import Collection
from dataclasses import fields
from typing import Any

from sqlalchemy import Row, Text, cast, delete, insert, select, update

from infoscreen.domain.power.configuration import ClientPower
from infoscreen.storage.columns import chunks
from infoscreen.storage.engine import Connection
from infoscreen.storage.power_tables import client_power

_NAMES = tuple(field.name for field in fields(ClientPower))
_c = client_power.c
_ALL = select(*(_c[name] for name in _NAMES))


def _power(row: Row[Any]) -> ClientPower:
    values = dict(zip(_NAMES, row, strict=True))
    return ClientPower(**{**values, "also_feeds": tuple(values["also_feeds"])})


async def get(connection: Connection, client_uuid: str) -> ClientPower | None:
    """Return the outlet of a client, None if it has none."""
    row = (await connection.execute(_ALL.where(_c.client_uuid == client_uuid))).one_or_none()
    return None if row is None else _power(row)


async def of_clients(connection: Connection, uuids: Collection[str]) -> dict[str, ClientPower]:
    """Return the outlets of those clients that have one."""
    found: dict[str, ClientPower] = {}
    for chunk in chunks(sorted(uuids)):
        rows = await connection.execute(_ALL.where(_c.client_uuid.in_(chunk)))
        found.update((row[0], _power(row)) for row in rows)
    return found


async def fed_by(connection: Connection, outlets: Collection[ClientPower]) -> dict[str, set[str]]:
    """Return by client which other clients' power goes with its outlet."""
    at_it: dict[str, list[ClientPower]] = {}
    for chunk in chunks(sorted({one.key for one in outlets})):
        for row in await connection.execute(_ALL.where(_c.outlet_key.in_(chunk))):
            one = _power(row)
            at_it.setdefault(one.key, []).append(one)
    found: dict[str, set[str]] = {}
    for outlet in outlets:
        sharing = [outlet, *at_it.get(outlet.key, ())]
        fed = {one.client_uuid for one in sharing}.union(*(one.also_feeds for one in sharing))
        found[outlet.client_uuid] = fed - {outlet.client_uuid}
    return found


async def protected(connection: Connection, outlet_keys: Collection[str]) -> set[str]:
    """Return which of the outlets are protected; one client at it that says so is enough."""
    found: set[str] = set()
    for chunk in chunks(sorted(outlet_keys)):
        statement = select(_c.outlet_key).where(_c.outlet_key.in_(chunk), _c.protected.is_(True))
        found.update((await connection.scalars(statement)).all())
    return found


async def of_outlet(connection: Connection, outlet_key: str) -> list[ClientPower]:
    """Return what is configured for the same outlet, for any client."""
    return [_power(row) for row in await connection.execute(_ALL.where(_c.outlet_key == outlet_key))]


async def put(connection: Connection, power: ClientPower) -> None:
    """Write the outlet of a client in place of the one before."""
    await remove(connection, power.client_uuid)
    values = {name: getattr(power, name) for name in _NAMES}
    key = power.key
    also_feeds = list(power.also_feeds)
    await connection.execute(
        insert(client_power).values({**values, "also_feeds": also_feeds, "outlet_key": key})
    )


async def forget_fed(connection: Connection, client_uuid: str) -> None:
    """Take a client out of what other clients' outlets also feed."""
    names_it = select(_c.client_uuid, _c.also_feeds).where(cast(_c.also_feeds, Text).contains(client_uuid))
    for uuid, also_feeds in (await connection.execute(names_it)).all():
        left = [one for one in also_feeds if one != client_uuid]
        await connection.execute(update(client_power).where(_c.client_uuid == uuid).values(also_feeds=left))


async def remove(connection: Connection, client_uuid: str) -> bool:
    """Forget the outlet of a client; tell whether it had one."""
    return (await connection.execute(delete(client_power).where(_c.client_uuid == client_uuid))).rowcount > 0
