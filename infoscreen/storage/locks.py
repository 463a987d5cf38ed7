"""PostgreSQL's advisory locks: for what one transaction at a time does, and no row can be locked for."""

from enum import IntEnum

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection


class AdvisoryLock(IntEnum):
    """What is done by one at a time. Any numbers, but always the same, and each once."""

    UPGRADE = 0x1F05C4EE
    PAUSES = 0x1F05C4EF
    USER_NAMES = 0x1F05C4F0
    NOTICE_NAMES = 0x1F05C4F1


async def hold(connection: AsyncConnection, lock: AdvisoryLock) -> None:
    """Wait for the lock, and hold it until the transaction ends; nothing on SQLite, which has one writer."""
    if connection.dialect.name == "postgresql":
        await connection.execute(text(f"SELECT pg_advisory_xact_lock({lock.value})"))
