"""Which user belongs to whom at an identity provider."""

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from infoscreen.storage.account_tables import identities

NO_PASSWORD = "!"  # noqa: S105 - no hash, so that no password is right
"""In place of the hash of a password, for users who sign in at a provider only."""


async def user_of(connection: AsyncConnection, issuer: str, subject: str) -> int | None:
    """Return the user of an identity."""
    query = select(identities.c.user_id).where(identities.c.issuer == issuer, identities.c.subject == subject)
    found: int | None = await connection.scalar(query)
    return found


async def add(connection: AsyncConnection, issuer: str, subject: str, user_id: int) -> None:
    """Note that an identity belongs to a user."""
    await connection.execute(insert(identities).values(issuer=issuer, subject=subject, user_id=user_id))
