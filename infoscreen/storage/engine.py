"""The database: one engine for readers, one for writers, and two kinds of transaction.

Readers can take all connections of their own engine and never hold a writer up. SQLite's own defaults open a
transaction at the first write, so that the SELECT before it is not part of it; measured, three to five of
eight tasks then take the same one-way step. Every ``write()`` is therefore ``BEGIN IMMEDIATE``. PostgreSQL
lets writers work side by side: what keeps a read-then-write true there stands at the functions that do it
(docs/architecture.md lists them).
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import event, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import StaticPool

from infoscreen.domain.errors import StoreTrouble, StoreUnavailable
from infoscreen.storage import address as addresses
from infoscreen.storage import budget
from infoscreen.storage.place import Place
from infoscreen.storage.trouble import SENTENCES, naming_trouble, trouble_of

log = logging.getLogger(__name__)

Connection = AsyncConnection
"""What ``read()`` and ``write()`` yield, and what every storage function takes first."""

BUSY_ATTEMPTS, BUSY_TIMEOUT_MILLISECONDS = 10, 1_000
"""How often and how long a transaction waits for a lock of another process (a backup, an operator's sqlite3).

In short turns, because a thread that waits inside of SQLite cannot be cancelled, and a stop waits for it.
"""

READERS, WRITERS = 8, 4
"""Connections of each kind; SQLite has one writer. A PostgreSQL server must have room for both."""

QUEUE_SECONDS = 15.0
"""How long a transaction waits for a connection that is free."""

READ_SECONDS, WRITE_SECONDS, LOCK_SECONDS = 15, 30, 5
"""PostgreSQL gives up on a statement, and on waiting for another transaction's lock, after so long."""

NETWORK_SECONDS = 5
"""So much later we give up by ourselves: a server whose network is gone says nothing at all."""

IDLE_SECONDS = 60
"""PostgreSQL ends a transaction that does nothing for so long: the daemon is suspended, and others wait."""

CLOSE_SECONDS = 0.5
"""How long closing the connections may take; a server that is gone does not say good-bye."""


class Store:
    """The database. ``read()`` and ``write()`` are transactions; nothing slow belongs inside either.

    A database in memory has one connection for both, so that there reading waits for writing, too.
    """

    def __init__(self, url: str, engine: AsyncEngine | None = None, *, create: bool = False) -> None:
        """Prepare the engines; nothing is opened before the first use.

        Args:
            url: ``sqlite+aiosqlite`` or ``postgresql+asyncpg``; ``ValueError`` says what is wrong with it.
            engine: for a database in memory: its engine, when it is not made from the URL alone (see
                ``storage.memory``).
            create: for migrations: an SQLite file that does not exist is created, and no statement is given
                up for taking long.
        """
        self.url = url
        self._address = addresses.parse(url)
        self._create = create
        self._place = None if self._address.file is None else Place(self._address.file)
        if engine is not None:
            event.listen(engine.sync_engine, "begin", self._begin_sqlite)
        self.engine: AsyncEngine = engine or self._engine(READERS, READ_SECONDS)
        """The readers' engine."""
        if not self._address.in_memory:
            budget.watch(self.engine)
        self.writers = self.engine if self._address.in_memory else self._engine(WRITERS, WRITE_SECONDS)
        """The writers' engine."""
        if self._place is not None:
            for change in ("connect", "close", "invalidate"):
                event.listen(self.writers.sync_engine, change, self._writer_changed)
        # SQLite has one writer at a time anyway; queueing here is fair and does not burn the busy timeout.
        self._turn = asyncio.Lock()
        self._whose_turn: asyncio.Task[Any] | None = None
        self.locked_elsewhere = False
        """True while a transaction has waited for another program's lock for a second or more."""
        self._closed_because: StoreUnavailable | None = None

    @property
    def name(self) -> str:
        """Return what to call the database in a sentence; no secret is part of it."""
        return self._address.name

    @asynccontextmanager
    async def read(self, *, seconds: float = READ_SECONDS) -> AsyncIterator[AsyncConnection]:
        """Open a transaction that sees one consistent state; raise ``StoreUnavailable`` when it cannot.

        Inside ``budget.limited`` also ``QueryTooExpensive``. Outside of it the statements on an SQLite file
        may take ``seconds`` together; those on PostgreSQL have the limit of their engine.
        """
        self._require_open()
        async with budget.within_budget(None if self._place is None else seconds):
            with naming_trouble():
                if self._address.in_memory:
                    async with self._in_turn(), self._begun(self.engine) as connection:
                        yield connection
                else:
                    async with self._begun(self.engine) as connection:
                        await budget.tell_server(connection)
                        yield connection

    @asynccontextmanager
    async def write(self, *, at_once: bool = False) -> AsyncIterator[AsyncConnection]:
        """Open a transaction that commits when the block ends and rolls back when it raises.

        Raises ``StoreUnavailable`` on trouble; then nothing of it was stored, unless the error says that the
        outcome is unknown. With ``at_once`` it is trouble already that somebody else is writing: for what is
        not worth waiting for.
        """
        self._require_open()
        if at_once and self._is_busy():
            raise StoreUnavailable("Somebody else is writing.", StoreTrouble.NO_CONNECTION_FREE)
        done = False
        try:
            with naming_trouble():
                if self._address.is_sqlite:
                    async with self._in_turn(), self._begun(self.writers, at_once=at_once) as connection:
                        yield connection
                        done = True
                else:
                    async with self._begun(self.writers) as connection:
                        yield connection
                        done = True
                if self._place is not None:
                    # After the commit and before anybody hears of it.
                    self._place.written()
        except StoreUnavailable as trouble:
            trouble.outcome_unknown = done
            raise

    async def check(self) -> None:
        """Return when a transaction could write; raise ``StoreUnavailable`` with the reason.

        Looks only: a full disk shows in writing alone.
        """
        self._require_open()
        if self._place is not None:
            self._place.check()
        elif not self._address.is_sqlite:
            async with self.read() as connection:
                if await connection.scalar(text("SHOW transaction_read_only")) == "on":
                    raise StoreUnavailable(
                        f"{SENTENCES[StoreTrouble.READ_ONLY]}.", StoreTrouble.READ_ONLY, "25006"
                    )

    async def close(self) -> None:
        """Close every connection; one whose server does not answer is dropped."""
        await asyncio.gather(*(_disposed(engine) for engine in {self.engine, self.writers}))

    def close_until_seen(self, why: StoreUnavailable | None = None) -> None:
        """Let no transaction begin until ``open()``, and raise the reason instead.

        For a start that has not seen yet whether the database is there and fit.
        """
        self._closed_because = why or StoreUnavailable(
            f"{SENTENCES[StoreTrouble.NOT_OPEN]}.", StoreTrouble.NOT_OPEN
        )

    def open(self) -> None:
        """Let transactions begin."""
        self._closed_because = None

    def _require_open(self) -> None:
        if (why := self._closed_because) is not None:
            raise StoreUnavailable(str(why), why.trouble, why.code)

    def _is_busy(self) -> bool:
        if self._address.is_sqlite:
            return self._turn.locked()
        pool: Any = self.writers.pool
        return bool(pool.checkedout() >= WRITERS)

    @asynccontextmanager
    async def _in_turn(self) -> AsyncIterator[None]:
        """Wait until no other task uses the connection; a task that has it already would deadlock."""
        if self._whose_turn is asyncio.current_task():
            raise RuntimeError("a transaction was begun inside of another one")
        async with self._turn:
            self._whose_turn = asyncio.current_task()
            try:
                yield
            finally:
                self._whose_turn = None

    @asynccontextmanager
    async def _begun(self, engine: AsyncEngine, *, at_once: bool = False) -> AsyncIterator[AsyncConnection]:
        writing = engine is self.writers
        if writing and self._place is not None:
            self._place.check()
        async with engine.connect() as connection:
            if writing and self._address.is_sqlite:
                await connection.execution_options(infoscreen_immediate=True, infoscreen_at_once=at_once)
            try:
                async with connection.begin():
                    yield connection
            except Exception as error:
                trouble = trouble_of(error)
                if trouble is not None and trouble.trouble in (StoreTrouble.READ_ONLY, StoreTrouble.DAMAGED):
                    # After a fail-over another host may be the one that takes writes.
                    await connection.invalidate()
                raise

    # What the engines do for each connection.

    def _engine(self, connections: int, seconds: int) -> AsyncEngine:
        if self._address.in_memory:
            engine = create_async_engine(self._address.url, poolclass=StaticPool)
        else:
            if self._place is not None:
                connections = READERS if connections == READERS else 1
            engine = create_async_engine(
                self._address.url,
                pool_size=connections,
                max_overflow=0,
                pool_timeout=QUEUE_SECONDS,
                pool_pre_ping=self._place is None,
                **({} if self._address.is_sqlite else self._for_postgresql(seconds)),
            )
        if self._address.is_sqlite:
            event.listen(engine.sync_engine, "do_connect", self._connecting_sqlite)
            event.listen(engine.sync_engine, "connect", _configure_sqlite)
            event.listen(engine.sync_engine, "begin", self._begin_sqlite)
        return engine

    def _for_postgresql(self, seconds: int) -> dict[str, Any]:
        """Return how PostgreSQL is connected to; whatever goes wrong there is trouble, named as such.

        A reader sees the state at its first statement, as on SQLite; a writer sees after waiting for a row's
        lock what the other one has committed.
        """
        import asyncpg

        address, patient = self._address, self._create
        limits = {
            "statement_timeout": seconds,
            "lock_timeout": LOCK_SECONDS,
            "idle_in_transaction_session_timeout": IDLE_SECONDS,
        }
        settings = {
            name: f"{limit}s"
            for name, limit in limits.items()
            if name not in address.options and not (patient and name != "idle_in_transaction_session_timeout")
        }

        async def connect() -> Any:
            with naming_trouble(connecting=True):
                return await asyncpg.connect(
                    address.dsn,
                    timeout=address.connect_seconds,
                    command_timeout=None if patient else seconds + NETWORK_SECONDS,
                    server_settings=settings,
                )

        level = "READ COMMITTED" if seconds == WRITE_SECONDS else "REPEATABLE READ"
        return {"async_creator": connect, "isolation_level": level}

    def _connecting_sqlite(
        self, dialect: Any, record: Any, arguments: list[Any], named: dict[str, Any]
    ) -> None:
        """Open the file as it is, never create one: an empty file in its place would pass for a database."""
        if self._place is None or self._address.file is None:
            return
        file = self._address.file.absolute()
        if not (self._create and not file.exists()):
            self._place.note()
        mode = "rwc" if self._create else "rw"
        arguments[0] = f"{file.as_uri()}?mode={mode}"
        named["uri"] = True

    def _writer_changed(self, connection: DBAPIConnection, record: Any, *_: object) -> None:
        if self._place is not None:
            self._place.writer_changed()

    def _begin_sqlite(self, connection: Any) -> None:
        options = connection.get_execution_options()
        if not options.get("infoscreen_immediate", False):
            connection.exec_driver_sql("BEGIN")
        elif not options.get("infoscreen_at_once", False):
            self._begin_immediate(connection)
        else:
            connection.exec_driver_sql("PRAGMA busy_timeout=0")
            try:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            finally:
                connection.exec_driver_sql(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MILLISECONDS}")

    def _begin_immediate(self, connection: Any) -> None:
        try:
            for attempt in range(1, BUSY_ATTEMPTS + 1):
                try:
                    connection.exec_driver_sql("BEGIN IMMEDIATE")
                except DBAPIError as error:
                    if attempt == BUSY_ATTEMPTS or not _is_locked(error):
                        raise
                    if not self.locked_elsewhere:
                        log.warning(
                            "another program holds the database's lock; writing waits for it",
                            extra={"event": "store_locked"},
                        )
                    self.locked_elsewhere = True
                else:
                    if self.locked_elsewhere:
                        log.warning("the database's lock is free again", extra={"event": "store_unlocked"})
                    return
        finally:
            # The one that gives up says so; nobody waits any more.
            self.locked_elsewhere = False


class _NoCancellations(logging.Filter):
    """Leaves out that a connection was not closed in time, which SQLAlchemy logs as an error of its own."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether to log a record."""
        return record.exc_info is None or not isinstance(record.exc_info[1], asyncio.CancelledError)


logging.getLogger("sqlalchemy.pool.impl.AsyncAdaptedQueuePool").addFilter(_NoCancellations())


async def _disposed(engine: AsyncEngine) -> None:
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await engine.dispose()
    except TimeoutError:
        await engine.dispose(close=False)


def _is_locked(error: DBAPIError) -> bool:
    trouble = trouble_of(error)
    return trouble is not None and trouble.trouble is StoreTrouble.LOCKED


def _configure_sqlite(connection: DBAPIConnection, record: Any) -> None:
    # The driver must not open transactions by itself; _begin_sqlite does.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MILLISECONDS}")
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()
