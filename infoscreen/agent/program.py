"""The agent put together: every part by hand, in one TaskGroup. A part that fails ends the process."""

import asyncio
import contextlib
import logging
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

from pydantic import ValidationError

from infoscreen import sd_notify
from infoscreen.agent import readings, systemd
from infoscreen.agent.app_logs import AppLogs, RateLimit
from infoscreen.agent.connection import Connection
from infoscreen.agent.executor import Executor
from infoscreen.agent.journal_file import JournalFile, JournalUnavailable
from infoscreen.agent.mail import Mail
from infoscreen.agent.picture import Watcher
from infoscreen.agent.protocol import packets
from infoscreen.agent.protocol.desk import JOURNAL_UNAVAILABLE, CommandDesk, CommandOutcome
from infoscreen.agent.protocol.journal import JournalContents, Lost
from infoscreen.agent.protocol.packets import Packet
from infoscreen.agent.refusals import Refusals
from infoscreen.agent.reports import Reporter, capabilities
from infoscreen.agent.screenshots import Camera, NoScreenshot
from infoscreen.agent.settings import AgentSettings
from infoscreen.agent.state_files import StateFiles
from infoscreen.clock import Clock, SystemClock
from infoscreen.domain.errors import CannotStart
from infoscreen.wire import topics
from infoscreen.wire.messages import Command, ServiceFailed
from infoscreen.wire.topics import LogLevel

log = logging.getLogger(__name__)

LOCK_SECONDS = 30.0
"""How long a start waits for ``report-service-failed`` to be through with its own connection."""
SPOOL_SECONDS = 1.0
"""How often it is looked whether a failed service was reported."""
LAST_WORDS_SECONDS = 1.0
"""How long a stop waits for the execution of commands."""
HEARTBEATS_MISSED = 5
"""So many heartbeats that were not made stop the answers to systemd's watchdog."""
COMPLAINTS_PER_MINUTE = 10
"""More commands that are none are ignored in silence."""
IGNORED = frozenset({CommandOutcome.RETAINED, CommandOutcome.INVALID, CommandOutcome.FOREIGN})
REMEMBER_SECONDS = 5.0
"""How often it is tried to write down that a command is refused."""
CLOCK_TOLERANCE = timedelta(seconds=1)
JITTER = 0.1
"""Share by which intervals vary, so that a fleet does not beat in step."""


async def run(settings: AgentSettings, *, dry_run: bool = False) -> None:
    """Be the agent until SIGTERM or SIGINT.

    Raises:
        CannotStart: another agent runs here, or the state directory cannot be used.
    """
    files = StateFiles(settings.state_dir)
    clock = SystemClock()
    async with _alone(files, clock):
        await Agent(settings, files, clock, Random(), dry_run=dry_run).run()


class Agent:
    """All parts of one agent. To be made inside the event loop, holding the lock."""

    def __init__(
        self,
        settings: AgentSettings,
        files: StateFiles,
        clock: Clock,
        random: Random,
        *,
        dry_run: bool,
    ) -> None:
        self._settings = settings
        self._files = files
        self._clock = clock
        self._random = random
        self._boot_id = readings.boot_id()
        # Before anything else runs, so it may block.
        file = JournalFile(settings.state_dir)
        now = clock.now()
        known = _known(file, now)
        self._mail = Mail(file, known, clock)
        self._lost_now = known is not None and known.lost == Lost(now)
        self._refusals = Refusals(settings.state_dir, settings.name)
        self._mail.journal.refused = self._refusals.load()
        self._came_up = clock.monotonic()
        self._complaints = RateLimit(COMPLAINTS_PER_MINUTE)
        able = capabilities(settings)
        self._desk = CommandDesk(
            settings.name,
            can=lambda action: action in able,
            journal=self._mail.journal,
            outbox=self._mail.outbox,
        )
        control = systemd.Systemd()
        self._camera = Camera(settings.screenshot_command)
        watches = settings.picture_seconds and settings.screenshot_command
        self._reporter = Reporter(
            settings,
            self._mail,
            control,
            clock,
            address=lambda: self._connection.local_address,
            watcher=Watcher(self._camera, clock) if watches else None,
        )
        self._executor = Executor(
            settings,
            self._desk,
            self._mail,
            self._reporter,
            control,
            self._camera,
            clock,
            boot_id=self._boot_id,
            dry_run=dry_run,
        )
        self._connection = Connection(
            settings,
            self._mail,
            on_command=self._take,
            on_connected=self._introduce,
            clock=clock,
            random=random,
        )
        self._logs = AppLogs(settings, self._mail, clock)
        self._tasks = asyncio.TaskGroup()
        self._beaten = clock.monotonic()
        self._spooled: set[Path] = set()
        self._executing: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Live until a signal, then say goodbye."""
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        self._desk.send_unsent()
        undecided = self._desk.resume(self._boot_id)
        await self._mail.save()
        async with self._tasks:
            connecting = self._tasks.create_task(self._connection.run())
            parts = [self._tasks.create_task(part) for part in self._parts()]
            for entry in undecided:
                self._start(self._executor.see_through(entry))
            sd_notify.notify("READY=1")
            await stop.wait()
            sd_notify.notify("STOPPING=1")
            if self._executing:  # a host that was told to go down stops us, too: let it be said
                await asyncio.wait(self._executing, timeout=LAST_WORDS_SECONDS)
            self._connection.stop()
            await connecting
            for task in (*parts, *self._executing):
                task.cancel()
        await self._mail.save()

    def _parts(self) -> Iterator[Coroutine[Any, Any, None]]:
        yield self._every(self._settings.heartbeat_seconds, self._beat)
        yield self._every(self._settings.health_seconds, self._reporter.health)
        yield self._every(SPOOL_SECONDS, self._collect_reports)
        if self._settings.picture_seconds and self._settings.screenshot_command:
            yield self._every(self._settings.picture_seconds, self._reporter.look)
        if self._settings.log_forwarding:
            yield self._logs.run()
        if self._settings.screenshot_seconds and self._settings.screenshot_command:
            yield self._every(self._settings.screenshot_seconds, self._show)
        watched = sd_notify.watchdog_seconds()
        if watched is not None:
            yield self._every(watched / 3, self._pat_watchdog)

    async def _every(self, seconds: float, step: Callable[[], Awaitable[None]]) -> None:
        """Take ``step`` again and again, first after about one interval."""
        while True:
            await self._clock.sleep(seconds * self._random.uniform(1 - JITTER, 1 + JITTER))
            await step()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._tasks.create_task(work)
        self._executing.add(task)
        task.add_done_callback(self._executing.discard)

    async def _take(self, payload: bytes, retain: bool) -> None:
        """Take what arrived on a command topic; on return it may be acknowledged to the broker."""
        now = self._clock.now()
        self._follow_clock(now)
        receipt = self._desk.receive(payload, now, retain=retain)
        if receipt.verdict in IGNORED and self._complaints.admits(self._clock.monotonic()):
            complaint = receipt.complaint or "ignored a retained command"
            log.warning("a command is ignored", extra={"event": "command_ignored", "error": complaint})
            self._mail.event(packets.log_line(self._settings.name, LogLevel.WARN, complaint, now))
        saved = await self._mail.save()
        if receipt.command is not None and not saved:
            await self._refuse(receipt.command)
        elif receipt.command is not None:
            self._start(self._executor.carry_out(receipt.command))
        self._mail.wake()

    async def _refuse(self, command: Command) -> None:
        """Refuse what the journal cannot keep, once it is sure that no later process carries it out."""
        while command.expires_at > self._clock.now() and not (
            await asyncio.to_thread(self._refusals.remember, command.command_id) or await self._mail.save()
        ):
            await self._clock.sleep(REMEMBER_SECONDS)
        self._desk.fail(command, *JOURNAL_UNAVAILABLE)
        await self._mail.save()

    def _follow_clock(self, now: datetime) -> None:
        """Correct since when nothing is known, in case the clock was set after a journal was found damaged.

        Many devices start with a clock that stands where they were switched off.
        """
        lost = self._mail.journal.lost
        before = now - timedelta(seconds=self._clock.monotonic() - self._came_up)
        if self._lost_now and lost is not None and before - lost.at > CLOCK_TOLERANCE:
            self._mail.journal.mistrust(before)

    async def _introduce(self) -> None:
        self._tell_status()
        await self._reporter.introduce()

    async def _beat(self) -> None:
        await self._reporter.heartbeat()
        self._beaten = self._clock.monotonic()
        self._tell_status()

    def _tell_status(self) -> None:
        sd_notify.notify(f"STATUS={'connected' if self._connection.is_up else 'no connection to the broker'}")

    async def _pat_watchdog(self) -> None:
        """Tell systemd that we live, as long as heartbeats are made; the broker may be down for weeks."""
        if self._clock.monotonic() - self._beaten < HEARTBEATS_MISSED * self._settings.heartbeat_seconds:
            sd_notify.notify("WATCHDOG=1")

    async def _collect_reports(self) -> None:
        """Put reports of failed services into the mail; each file goes once the broker has its report."""
        for path, report in await asyncio.to_thread(_read_reports, self._files, self._spooled):
            self._spooled.add(path)
            self._mail.event(packets.service_failed(self._settings.name, report), path)

    async def _show(self) -> None:
        if not self._connection.is_up or self._camera.is_busy:
            return
        try:
            picture = await self._camera.take()
        except NoScreenshot as error:
            log.warning("no screenshot", extra={"event": "no_screenshot", "error": str(error)})
            return
        self._mail.state(Packet(topics.screenshot(self._settings.name), picture))


def _read_reports(files: StateFiles, known: set[Path]) -> list[tuple[Path, ServiceFailed]]:
    found = []
    for path in files.spooled():
        if path in known:
            continue
        try:
            found.append((path, ServiceFailed.model_validate_json(path.read_bytes())))
        except FileNotFoundError:
            continue
        except (OSError, ValidationError) as error:
            log.warning(
                "a report of a failed service is left out", extra={"event": "bad_report", "error": str(error)}
            )
            known.add(path)
            with contextlib.suppress(OSError):
                path.replace(path.with_suffix(".bad"))
    return found


def _known(file: JournalFile, now: datetime) -> JournalContents | None:
    """Return what the journal knows; None if it cannot be used.

    The agent starts all the same: better a screen that refuses commands than a silent one.
    """
    try:
        return file.open(now)
    except JournalUnavailable as error:
        log.log(
            logging.ERROR,
            "the journal cannot be used; commands will be refused",
            extra={"event": "journal_unavailable", "error": str(error)},
        )
        return None


@contextlib.asynccontextmanager
async def _alone(files: StateFiles, clock: Clock) -> AsyncIterator[None]:
    """Be the only agent of this state directory."""
    try:
        await asyncio.to_thread(files.prepare)
    except OSError as error:
        raise CannotStart(f"{files.directory}: cannot be used: {error.strerror}") from None
    deadline = clock.monotonic() + LOCK_SECONDS
    while True:
        with files.lock() as alone:
            if alone:
                yield
                return
        if clock.monotonic() >= deadline:
            raise CannotStart(f"{files.directory}: another agent is running with this state directory")
        await clock.sleep(0.2)
