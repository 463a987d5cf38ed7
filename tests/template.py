"""Databases made once per test process and copied for each test, as creating the tables takes far longer."""

import atexit
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

from infoscreen.storage.engine import Store
from infoscreen.storage.tables import metadata

_templates: dict[str, Path] = {}


async def create_tables(url: str) -> None:
    """Create all tables in an empty database, as the models describe them."""
    store = Store(url, create=True)
    try:
        async with store.engine.begin() as connection:
            await connection.run_sync(metadata.create_all)
    finally:
        await store.close()


async def with_tables(url: str) -> None:
    """Create all tables: by a copy on SQLite if the file does not exist yet, else by the statements."""
    path = Path(url.removeprefix("sqlite+aiosqlite:///"))
    if url.startswith("sqlite") and path.is_absolute() and not path.exists():  # noqa: ASYNC240 - a stat
        await copy_of("tables", path, create_tables)
    else:
        await create_tables(url)


async def copy_of(name: str, path: Path, make: Callable[[str], Awaitable[None]]) -> None:
    """Copy the SQLite template of that name to ``path``; the first call has it made at a URL."""
    if name not in _templates:
        folder = Path(tempfile.mkdtemp(prefix="infoscreen-template-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        await make(f"sqlite+aiosqlite:///{folder / 'test.db'}")
        # The last connection that closes moves the write-ahead log into the file, so that one file is all.
        assert not Path(f"{folder}/test.db-wal").exists()  # noqa: ASYNC240 - a stat
        _templates[name] = folder / "test.db"
    shutil.copyfile(_templates[name], path)
