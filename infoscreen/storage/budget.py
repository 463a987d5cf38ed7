"""How much time of the database a request may take, and cutting off the statement that goes beyond it.

Only reads are cut off, never a write. Those inside ``limited`` share the budget of their request. A read of
the daemon's loops or of a tool has a long one of its own; on PostgreSQL its engine sees to that.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from infoscreen.domain.errors import QueryTooExpensive, StoreUnavailable

CUT_OFF = frozenset({"57014", "SQLITE_INTERRUPT"})
"""What the drivers say of a statement that was cut off."""

LEAST_SECONDS = 0.001


class Budget:
    """The time that is left for statements; ``monotonic`` tells the time in seconds.

    ``of_request`` is False for that of a single read, which what begins within it does not share.
    """

    def __init__(self, seconds: float, monotonic: Callable[[], float], *, of_request: bool = True) -> None:
        """Begin with all of it."""
        self.left = seconds
        self.of_request = of_request
        self._monotonic = monotonic
        self._began: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._cutting: asyncio.Task[None] | None = None

    def begin(self, interrupt: Callable[[], Any] | None) -> None:
        """Note that a statement begins; it is interrupted when the time is up."""
        self._began = self._monotonic()
        if interrupt is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(max(self.left, LEAST_SECONDS), self._time_is_up, interrupt)

    def end(self) -> None:
        """Note that the statement has ended, in whichever way."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._began is not None:
            self.left -= self._monotonic() - self._began
            self._began = None

    def _time_is_up(self, interrupt: Callable[[], Any]) -> None:
        # As a task, which runs after all that is ready: a loop that was held up first takes in the answer.
        self._cutting = asyncio.get_running_loop().create_task(self._cut(self._timer, interrupt))

    async def _cut(self, timer: asyncio.TimerHandle | None, interrupt: Callable[[], Any]) -> None:
        if timer is not None and timer is self._timer:
            await interrupt()


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
        monotonic = asyncio.get_running_loop().time
        with nullcontext() if seconds is None else _charged(Budget(seconds, monotonic, of_request=False)):
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
    event.listen(engine.sync_engine, "before_cursor_execute", _before)
    event.listen(engine.sync_engine, "after_cursor_execute", _after)
    event.listen(engine.sync_engine, "handle_error", _failed)


def _before(connection: Any, *_: Any) -> None:
    budget = _current.get()
    if budget is not None:
        is_sqlite = connection.dialect.name == "sqlite"
        budget.begin(connection.connection.driver_connection.interrupt if is_sqlite else None)


def _after(*_: Any) -> None:
    if (budget := _current.get()) is not None:
        budget.end()


_failed = _after
