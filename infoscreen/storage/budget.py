"""How much time of the database a request may take, and cutting off the statement that goes beyond it.

Only reads are cut off, never a write. Those inside ``limited`` share the budget of their request. A read of
the daemon's loops or of a tool has a long one of its own; on PostgreSQL its engine sees to that.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from contextvars import ContextVar
from math import inf
from time import clock_gettime, pthread_getcpuclockid
from typing import Any

from sqlalchemy import event, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.pool import ConnectionPoolEntry

from infoscreen.domain.errors import QueryTooExpensive, StoreUnavailable

CUT_OFF = frozenset({"57014", "SQLITE_INTERRUPT"})
"""What the drivers say of a statement that was cut off."""

LEAST_SECONDS = 0.001

PATIENCE = 10
"""A statement on SQLite may last this many times its processor time: it may wait for the disk or a core."""

_THREAD = "thread"


class Budget:
    """The time that is left for statements; ``monotonic`` tells the time in seconds.

    On SQLite a statement is charged the processor time of its connection's thread, so that a busy host or a
    loop that was held up cuts off nobody. PostgreSQL is charged what it takes to answer.

    The budget of a single read on SQLite has no ``monotonic``, and is not shared with what begins within it.
    """

    def __init__(self, seconds: float, monotonic: Callable[[], float] | None) -> None:
        """Begin with all of it."""
        self.left = seconds
        self._monotonic = monotonic
        self._statement: _Statement | None = None

    def begin(self, sqlite: Any | None, thread: int | None) -> None:
        """Note that a statement begins; on SQLite, whose connection it needs, it is cut off in time."""
        if sqlite is None or thread is None:
            self._statement = None if self._monotonic is None else _Statement(self._monotonic)
        else:
            clock = pthread_getcpuclockid(thread)
            self._statement = _Statement(lambda: clock_gettime(clock))
            self._statement.limit(max(self.left, LEAST_SECONDS), self._monotonic, sqlite.interrupt)

    @property
    def of_request(self) -> bool:
        """Tell whether all reads of a request share it."""
        return self._monotonic is not None

    def end(self) -> None:
        """Note that the statement has ended, in whichever way."""
        if self._statement is not None:
            self.left -= self._statement.end()
            self._statement = None


class _Statement:
    """One statement under way, measured by ``clock``."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._began = clock()
        self._timer: asyncio.TimerHandle | None = None
        self._cutting: asyncio.Task[None] | None = None

    def used(self) -> float:
        return self._clock() - self._began

    def limit(
        self, seconds: float, monotonic: Callable[[], float] | None, interrupt: Callable[[], Any]
    ) -> None:
        loop = asyncio.get_running_loop()
        latest = inf if monotonic is None else monotonic() + PATIENCE * seconds

        def look() -> None:
            left = seconds - self.used()
            if left > 0 and (monotonic is None or monotonic() < latest):
                self._timer = loop.call_later(max(left, LEAST_SECONDS), look)
            else:
                # As a task, after all that is ready: so a loop that was held up first takes in answers.
                self._cutting = loop.create_task(cut())

        async def cut() -> None:
            if self._timer is not None:
                await interrupt()

        self._timer = loop.call_later(seconds, look)

    def end(self) -> float:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._cutting is not None and self._cutting.done():
            self._cutting.result()
        return self.used()


_current: ContextVar[Budget | None] = ContextVar("budget", default=None)


@contextmanager
def limited(seconds: float, monotonic: Callable[[], float]) -> Iterator[None]:
    """Let the statements of all reads in the block take so much time together."""
    with _charged(Budget(seconds, monotonic)):
        yield


@contextmanager
def _charged(budget: Budget) -> Iterator[None]:
    token = _current.set(budget)
    try:
        yield
    finally:
        _current.reset(token)


@asynccontextmanager
async def within_budget(seconds: float | None = None) -> AsyncIterator[None]:
    """Raise ``QueryTooExpensive`` when the budget has been used up, or when a statement is cut off for it.

    What is not inside ``limited`` may take ``seconds``, if given, and is cut off with ``StoreUnavailable``.
    """
    budget = _current.get()
    if budget is None or not budget.of_request:
        with nullcontext() if seconds is None else _charged(Budget(seconds, None)):
            yield
        return
    if budget.left <= 0:
        raise QueryTooExpensive
    try:
        yield
    except StoreUnavailable as trouble:
        if trouble.code in CUT_OFF:
            raise QueryTooExpensive from trouble
        raise


async def tell_server(connection: AsyncConnection) -> None:
    """Let PostgreSQL cut off the statements of this transaction by itself."""
    budget = _current.get()
    if budget is not None and budget.of_request and connection.dialect.name == "postgresql":
        milliseconds = max(1, round(budget.left * 1000))
        await connection.execute(text(f"SET LOCAL statement_timeout = {milliseconds}"))


def watch(engine: AsyncEngine) -> None:
    """Charge the statements of an engine to the budget of the request that makes them."""
    if engine.dialect.name == "sqlite":
        event.listen(engine.sync_engine, "connect", _find_thread)
    event.listen(engine.sync_engine, "before_cursor_execute", _before)
    event.listen(engine.sync_engine, "after_cursor_execute", _after)
    event.listen(engine.sync_engine, "handle_error", _failed)


def _find_thread(connection: DBAPIConnection, record: ConnectionPoolEntry) -> None:
    connection.create_function("own_thread", 0, threading.get_ident)
    cursor: Any = connection.cursor()
    cursor.execute("SELECT own_thread()")
    (record.info[_THREAD],) = cursor.fetchone()
    cursor.close()


def _before(connection: Any, *_: Any) -> None:
    budget = _current.get()
    if budget is not None:
        thread = connection.info.get(_THREAD)
        budget.begin(None if thread is None else connection.connection.driver_connection, thread)


def _after(*_: Any) -> None:
    if (budget := _current.get()) is not None:
        budget.end()


_failed = _after
