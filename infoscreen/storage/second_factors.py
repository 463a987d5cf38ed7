"""Second factors, recovery codes, and sign-ins whose password was right and whose code is still missing.

Secrets are sealed, codes and tokens are hashes.
"""

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import and_, delete, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from infoscreen.domain.second_factor import MOST_PENDING, Factor
from infoscreen.storage.account_tables import pending_logins, recovery_codes, second_factors
from infoscreen.storage.columns import insert_or


async def factor_of(connection: AsyncConnection, user_id: int) -> Factor | None:
    """Return what is stored for a user."""
    query = select(second_factors).where(second_factors.c.user_id == user_id)
    row = (await connection.execute(query)).mappings().one_or_none()
    return None if row is None else Factor(**row)


async def offer(connection: AsyncConnection, user_id: int, sealed: str, now: datetime) -> None:
    """Store a secret that waits to be confirmed; the one that counts stays."""
    offered = {"offered": sealed, "offered_at": now}
    new = insert_or(connection, second_factors).values(user_id=user_id, **offered)
    await connection.execute(new.on_conflict_do_update(index_elements=["user_id"], set_=offered))


async def confirm(connection: AsyncConnection, user_id: int, sealed: str, step: int, now: datetime) -> bool:
    """Let the offered secret count from now on; tell whether it was still the offered one."""
    mine = and_(second_factors.c.user_id == user_id, second_factors.c.offered == sealed)
    counts = {"sealed": sealed, "since": now, "last_step": step, "offered": None, "offered_at": None}
    return (await connection.execute(update(second_factors).where(mine).values(**counts))).rowcount > 0


async def use_step(connection: AsyncConnection, user_id: int, sealed: str, step: int, newest: int) -> bool:
    """Note that the code of a step was used; tell whether neither it nor a later one was used before.

    A step beyond ``newest`` was noted before the clock was set back, and bars nobody.
    """
    last = second_factors.c.last_step
    unused = or_(last.is_(None), last < step, last > newest)
    mine = and_(second_factors.c.user_id == user_id, second_factors.c.sealed == sealed, unused)
    return (await connection.execute(update(second_factors).where(mine).values(last_step=step))).rowcount > 0


async def remove(connection: AsyncConnection, user_id: int) -> bool:
    """Remove a user's factor with its recovery codes; tell whether one counted."""
    mine = and_(second_factors.c.user_id == user_id, second_factors.c.sealed.is_not(None))
    counted = await connection.scalar(select(second_factors.c.user_id).where(mine)) is not None
    await connection.execute(delete(second_factors).where(second_factors.c.user_id == user_id))
    await connection.execute(delete(recovery_codes).where(recovery_codes.c.user_id == user_id))
    return counted


async def set_codes(connection: AsyncConnection, user_id: int, hashes: Collection[str]) -> None:
    """Replace a user's recovery codes."""
    await connection.execute(delete(recovery_codes).where(recovery_codes.c.user_id == user_id))
    await connection.execute(
        insert(recovery_codes), [{"code_hash": one, "user_id": user_id} for one in hashes]
    )


async def use_code(connection: AsyncConnection, user_id: int, code_hash: str) -> bool:
    """Use a recovery code up; tell whether it was there."""
    mine = and_(recovery_codes.c.user_id == user_id, recovery_codes.c.code_hash == code_hash)
    return (await connection.execute(delete(recovery_codes).where(mine))).rowcount > 0


async def codes_left(connection: AsyncConnection, user_id: int) -> int:
    """Count a user's unused recovery codes."""
    query = select(func.count()).select_from(recovery_codes).where(recovery_codes.c.user_id == user_id)
    return await connection.scalar(query) or 0


# Sign-ins that wait for their code.


async def add_pending(
    connection: AsyncConnection, user_id: int, token_hash: str, expires_at: datetime, now: datetime
) -> None:
    """Add a sign-in that waits, and forget the expired ones and a user's oldest."""
    await connection.execute(delete(pending_logins).where(pending_logins.c.expires_at <= now))
    new = insert(pending_logins).values(token_hash=token_hash, user_id=user_id, expires_at=expires_at)
    await connection.execute(new)
    mine = pending_logins.c.user_id == user_id
    newest = (
        select(pending_logins.c.token_hash)
        .where(mine)
        .order_by(pending_logins.c.expires_at.desc(), pending_logins.c.token_hash)
        .limit(MOST_PENDING)
    )
    await connection.execute(delete(pending_logins).where(mine, pending_logins.c.token_hash.not_in(newest)))


async def pending_user(connection: AsyncConnection, token_hash: str, now: datetime) -> int | None:
    """Return whose sign-in waits under a token."""
    alive = and_(pending_logins.c.token_hash == token_hash, pending_logins.c.expires_at > now)
    found: int | None = await connection.scalar(select(pending_logins.c.user_id).where(alive))
    return found


async def take_pending(connection: AsyncConnection, token_hash: str) -> bool:
    """Remove a sign-in that waits; tell whether it was there."""
    gone = await connection.execute(delete(pending_logins).where(pending_logins.c.token_hash == token_hash))
    return gone.rowcount > 0
