"""One-time codes for new devices. Only their hashes are here."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from infoscreen.domain.enrolment import EnrolmentCode
from infoscreen.storage.account_tables import enrolment_codes


async def add(connection: AsyncConnection, codes: Sequence[EnrolmentCode]) -> None:
    """Store new codes."""
    await connection.execute(insert(enrolment_codes), [asdict(code) for code in codes])


async def hold(connection: AsyncConnection, code_hash: str) -> EnrolmentCode | None:
    """Return a code that nobody else can use until the transaction ends."""
    found = await connection.execute(
        select(enrolment_codes).where(enrolment_codes.c.code_hash == code_hash).with_for_update()
    )
    row = found.mappings().one_or_none()
    return None if row is None else EnrolmentCode(**row)


async def use(connection: AsyncConnection, code_hash: str, device: str, uuid: str) -> None:
    """Note by which device a code that is held was used."""
    held = update(enrolment_codes).where(enrolment_codes.c.code_hash == code_hash)
    await connection.execute(held.values(used_by=device, used_uuid=uuid))


async def open_codes(connection: AsyncConnection, now: datetime) -> int:
    """Return how many codes were not used yet and have not expired."""
    unused = enrolment_codes.c.used_by.is_(None) & (enrolment_codes.c.expires_at > now)
    return int(await connection.scalar(select(func.count()).where(unused)) or 0)


async def forget_expired(connection: AsyncConnection, before: datetime) -> None:
    """Delete codes that expired before then."""
    await connection.execute(delete(enrolment_codes).where(enrolment_codes.c.expires_at < before))
