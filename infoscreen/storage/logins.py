"""Failed logins, and the devices on which somebody has signed in before. Only hashes of secrets are here."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import and_, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from infoscreen.domain.accounts import FORGET_FAILURES_AFTER
from infoscreen.storage.account_tables import login_devices, login_failures
from infoscreen.storage.columns import insert_or

MOST_DEVICES = 20
"""Devices remembered per user; the one used longest ago is forgotten."""


@dataclass(frozen=True, slots=True)
class Failures:
    """How often logins failed in a row under one key, and when last."""

    failures: int
    last_at: datetime


async def hold_failures(connection: AsyncConnection, key: str, now: datetime) -> Failures:
    """Return the failed logins counted under a key; nobody else can count until the transaction ends."""
    # One statement: between two of them somebody else may forget the failures.
    nothing = insert_or(connection, login_failures).values(key=key, failures=0, last_at=now)
    held = nothing.on_conflict_do_update(index_elements=["key"], set_={"key": key})
    told = await connection.execute(held.returning(login_failures.c.failures, login_failures.c.last_at))
    return Failures(*told.one())


async def add_failure(connection: AsyncConnection, key: str, now: datetime) -> None:
    """Count one more failed login under a key that is held."""
    more = {"failures": login_failures.c.failures + 1, "last_at": now}
    await connection.execute(update(login_failures).where(login_failures.c.key == key).values(more))


async def take_back_failure(connection: AsyncConnection, key: str) -> None:
    """Take back one failed login that turned out not to be one."""
    counted = and_(login_failures.c.key == key, login_failures.c.failures > 0)
    await connection.execute(
        update(login_failures).where(counted).values(failures=login_failures.c.failures - 1)
    )


async def forget_failures(connection: AsyncConnection, key: str) -> None:
    """Start again with no failures under a key."""
    await connection.execute(delete(login_failures).where(login_failures.c.key == key))


async def forget_old_failures(connection: AsyncConnection, now: datetime) -> None:
    """Forget the failures that no longer count, but those that somebody holds."""
    old = select(login_failures.c.key).where(login_failures.c.last_at <= now - FORGET_FAILURES_AFTER)
    free = old.with_for_update(skip_locked=True)
    await connection.execute(delete(login_failures).where(login_failures.c.key.in_(free)))


async def knows_device(connection: AsyncConnection, user_id: int, token_hash: str) -> bool:
    """Tell whether the user has signed in on this device before."""
    mine = and_(login_devices.c.token_hash == token_hash, login_devices.c.user_id == user_id)
    return await connection.scalar(select(login_devices.c.token_hash).where(mine)) is not None


async def touch_device(connection: AsyncConnection, token_hash: str, now: datetime) -> None:
    """Write down that somebody signed in on a device."""
    used = update(login_devices).where(login_devices.c.token_hash == token_hash)
    await connection.execute(used.values(last_used_at=now))


async def add_device(connection: AsyncConnection, user_id: int, token_hash: str, now: datetime) -> None:
    """Remember a device on which a user has signed in, and forget the oldest beyond ``MOST_DEVICES``."""
    new = insert(login_devices).values(token_hash=token_hash, user_id=user_id, last_used_at=now)
    await connection.execute(new)
    mine = select(login_devices.c.token_hash).where(login_devices.c.user_id == user_id)
    newest = mine.order_by(login_devices.c.last_used_at.desc(), login_devices.c.token_hash).limit(
        MOST_DEVICES
    )
    too_many = and_(login_devices.c.user_id == user_id, login_devices.c.token_hash.not_in(newest))
    await connection.execute(delete(login_devices).where(too_many))


async def forget_devices(connection: AsyncConnection, user_id: int, before: datetime | None = None) -> None:
    """Forget a user's devices: all, or those not used since ``before``."""
    mine = [login_devices.c.user_id == user_id]
    if before is not None:
        mine.append(login_devices.c.last_used_at < before)
    await connection.execute(delete(login_devices).where(*mine))
