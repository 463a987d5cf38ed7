"""The latest screenshot of each client, as it came."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite

from infoscreen.storage.engine import Connection
from infoscreen.storage.tables import screenshots


@dataclass(frozen=True, slots=True)
class StoredScreenshot:
    """An image as the device sent it, never decoded by us."""

    image: bytes
    content_type: str
    received_at: datetime


async def save(connection: Connection, client_uuid: str, shot: StoredScreenshot) -> None:
    """Keep this screenshot in place of the one before."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    values = {"received_at": shot.received_at, "content_type": shot.content_type, "image": shot.image}
    statement = dialect.insert(screenshots).values(client_uuid=client_uuid, **values)
    await connection.execute(statement.on_conflict_do_update(index_elements=["client_uuid"], set_=values))


async def get(connection: Connection, client_uuid: str) -> StoredScreenshot | None:
    """Return the latest screenshot, or None."""
    columns = (screenshots.c.image, screenshots.c.content_type, screenshots.c.received_at)
    row = (
        await connection.execute(select(*columns).where(screenshots.c.client_uuid == client_uuid))
    ).one_or_none()
    return None if row is None else StoredScreenshot(*row)


async def received_at(connection: Connection, client_uuid: str) -> datetime | None:
    """Return when the latest screenshot arrived, without loading it; None when there is none."""
    when: datetime | None = await connection.scalar(
        select(screenshots.c.received_at).where(screenshots.c.client_uuid == client_uuid)
    )
    return when
