"""``infoscreen demo``: broker, database, daemon and simulated devices, private and on loopback, for a look.

Each is a process of its own, as in production, so that killing one shows what really happens. Nothing outside
of one directory is touched, and that one is gone at the end.
"""

import asyncio
import contextlib
import signal
import tempfile
from collections.abc import Coroutine
from pathlib import Path

import click

from infoscreen.demo.mailbox import mailbox
from infoscreen.demo.parts import DemoProcess, PartDied, Program, is_listening, running
from infoscreen.demo.plan import ADMIN, DemoPlan, find_mosquitto, http_port, make_plan
from infoscreen.demo.visit import is_ready, name_clients, prepare_database, sign_in, use_mailbox, visitor
from infoscreen.domain.errors import InvalidArguments
from infoscreen.simulator import allow_open_files

__all__ = ["PartDied", "run"]

_FILES_BESIDES_SOCKETS = 200


def run(*, clients: int = 25, port: int | None = None, directory: Path | None = None) -> None:
    """Run the demo until SIGINT, SIGTERM or SIGHUP, then leave nothing behind. Blocks.

    Args:
        clients: how many simulated devices.
        port: of the panel, which must be free; None takes 8080 or, if that is in use, another.
        directory: where to keep everything; it stays, and the next demo there goes on with its database. None
            takes a temporary one.

    Raises:
        InvalidArguments: no devices are wanted.
        CannotStart: mosquitto is missing, or the port cannot be had.
        PartDied: one of the processes ended by itself.
    """
    if clients < 1:
        raise InvalidArguments("at least one device is needed")
    mosquitto = find_mosquitto()
    allow_open_files(clients + _FILES_BESIDES_SOCKETS)
    with contextlib.ExitStack() as stack:
        panel_port = stack.enter_context(http_port(port))
        if directory is None:
            path = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="infoscreen-demo-")))
        else:
            path = directory.resolve()
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        plan = make_plan(path, mosquitto, panel_port, clients)
        farewell = "stops everything" + (f" and removes {path}" if directory is None else f"; {path} stays")
        asyncio.run(_until_signal(_show(plan, farewell)))


async def _until_signal(work: Coroutine[None, None, None]) -> None:
    """Do the work until it ends or a signal cancels it; only the first signal counts."""
    task = asyncio.ensure_future(work)
    signalled = asyncio.Event()

    def stop() -> None:
        if not signalled.is_set():
            signalled.set()
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    try:
        await task
    except asyncio.CancelledError:
        if not signalled.is_set():
            raise


async def _show(plan: DemoPlan, farewell: str) -> None:
    """Start all parts, say where to look, and wait; end all parts on the way out.

    Raises:
        PartDied: one of the processes ended by itself.
    """
    try:
        # The parts end before the group does: what dies then was told to.
        async with asyncio.TaskGroup() as tasks, contextlib.AsyncExitStack() as stack:

            async def start(program: Program) -> DemoProcess:
                part = await stack.enter_async_context(running(program, plan.path, plan.environment))
                tasks.create_task(part.must_live())
                return part

            click.echo("Starting broker, database, daemon and devices ...", err=True)
            broker = await start(plan.broker)
            await broker.until(lambda: is_listening(plan.broker_port))
            await prepare_database(plan.database_url, plan.password)
            await start(plan.helper)
            daemon = await start(plan.daemon)
            session = await stack.enter_async_context(visitor(plan.url))
            await daemon.until(lambda: is_ready(session))
            await start(plan.simulation)
            await sign_in(session, plan.password)
            mails = await stack.enter_async_context(mailbox())
            await use_mailbox(session, mails)
            click.echo(_invitation(plan, mails, farewell))
            naming = tasks.create_task(name_clients(session, plan.devices))
            stack.callback(naming.cancel)
            await asyncio.Event().wait()
    except ExceptionGroup as trouble:
        deaths, others = trouble.split(PartDied)
        if deaths is None or others is not None:
            raise
        raise _first(deaths) from None


def _first(group: BaseExceptionGroup[PartDied]) -> BaseException:
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found


def _invitation(plan: DemoPlan, mails: str, farewell: str) -> str:
    return f"""
{len(plan.devices)} simulated screens are coming up. Within a minute some crash, hang, fall silent or report
a failed service; watch the automatic recovery bring back those that can be brought back.

    {plan.url}/
    user      {ADMIN}
    password  {plan.password}

The messages that would be sent by mail or chat are shown at

    {mails}/

Ctrl-C {farewell}."""
