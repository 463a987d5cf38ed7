"""Forwards warnings and errors of the application from its journal. Never more than a given rate.

Every journalctl begins with lines that may have been forwarded already, and those are left out by their time
since boot and their cursor: nothing is lost while no journalctl runs, and no line is forwarded twice. Neither
``--since`` nor ``--after-cursor`` does that: the clock may be set, and the line of a cursor be rotated away.
"""

import asyncio
import json
import logging
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from infoscreen.agent.children import NotStarted, child
from infoscreen.agent.mail import Mail
from infoscreen.agent.protocol import packets
from infoscreen.agent.protocol.packets import Packet
from infoscreen.agent.settings import AgentSettings
from infoscreen.clock import Clock
from infoscreen.wire.messages import MAX_LOG_CHARACTERS
from infoscreen.wire.topics import LogLevel

log = logging.getLogger(__name__)

WINDOW_SECONDS = 60.0
AGAIN_SECONDS = 10.0
"""When journalctl ends, it is started again after so long."""
ENDING_SECONDS = 1.0
"""How long a journalctl that closed its output may take to end."""
_ERROR = 3
"""syslog's priority; smaller ones are graver."""
_LONGEST_LINE = 1024 * 1024
_LINES_BEFORE = 1_000
"""At least so many lines from before its start does journalctl begin with."""


@dataclass(frozen=True, slots=True)
class JournalLine:
    """A line of the journal; ``monotonic`` is in seconds, with the line's cursor it says which one it is."""

    at: datetime
    monotonic: float
    cursor: str
    level: LogLevel
    message: str
    logger: str | None
    context: dict[str, Any]


def parse(line: bytes) -> JournalLine | None:
    """Read a line of ``journalctl -o json``; None for one that says nothing."""
    try:
        fields = json.loads(line)
        at = datetime.fromtimestamp(int(fields["__REALTIME_TIMESTAMP"]) / 1e6, UTC)
        monotonic, cursor = int(fields["__MONOTONIC_TIMESTAMP"]) / 1e6, str(fields["__CURSOR"])
        level = LogLevel.ERROR if int(fields.get("PRIORITY", 4)) <= _ERROR else LogLevel.WARN
        message = _text(fields.get("MESSAGE"))
    except (ValueError, KeyError, TypeError, OverflowError, AttributeError, RecursionError):
        return None
    if not message:
        return None
    context = {"unit": fields.get("_SYSTEMD_UNIT") or fields.get("UNIT"), "pid": fields.get("_PID")}
    logger = fields.get("SYSLOG_IDENTIFIER")
    logger = logger if isinstance(logger, str) else None
    return JournalLine(at, monotonic, cursor, level, message, logger, context)


def _text(message: object) -> str:
    """Return a message; journalctl gives bytes as numbers when they are not text."""
    if isinstance(message, list):
        message = bytes(message).decode(errors="replace")
    return message[:MAX_LOG_CHARACTERS] if isinstance(message, str) else ""


class RateLimit:
    """So many in a window of a minute; counts what it does not let through. Seconds are monotonic."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._began: float | None = None
        self._passed = 0
        self.dropped = 0

    @property
    def ends(self) -> float:
        """Return when the window is over."""
        return (self._began or 0.0) + WINDOW_SECONDS

    def admits(self, now: float) -> bool:
        """Tell whether one more may pass."""
        if self._began is None or now >= self.ends:
            self._began, self._passed = now, 0
        if self._passed >= self._most:
            self.dropped += 1
            return False
        self._passed += 1
        return True

    def take_dropped(self) -> int:
        """Return how many were dropped since the last asking."""
        dropped, self.dropped = self.dropped, 0
        return dropped


class AppLogs:
    """Follows the journal of the application's unit, from the moment it is made."""

    def __init__(self, settings: AgentSettings, mail: Mail, clock: Clock) -> None:
        self._settings = settings
        self._mail = mail
        self._clock = clock
        self._limit = RateLimit(settings.log_lines_per_minute)
        self._told: str | None = None
        self._read_until = clock.monotonic()
        self._read_then: set[str] = set()
        """The cursors of the lines of exactly that time."""

    async def run(self) -> None:
        """Follow until cancelled; a journalctl that ends is started again."""
        while True:
            await self._follow()
            await self._clock.sleep(AGAIN_SECONDS)

    async def _follow(self) -> None:
        lines = max(_LINES_BEFORE, self._settings.log_lines_per_minute)
        command = (
            "journalctl",
            "--follow",
            "--boot",
            f"--lines={lines}",
            "--output=json",
            "--no-pager",
            "--quiet",
        )
        unit = (f"--unit={self._settings.app_unit}", "--priority=warning")
        try:
            async with child((*command, *unit), limit=_LONGEST_LINE) as process:
                assert process.stdout is not None  # noqa: S101  (child() asks for it)
                await self._read(process.stdout)
                with suppress(TimeoutError):
                    async with asyncio.timeout(ENDING_SECONDS):
                        await process.wait()
        except NotStarted as error:
            self._tell(str(error))
            return
        self._tell(f"it ended with exit status {process.returncode}")

    async def _read(self, output: asyncio.StreamReader) -> None:
        while True:
            try:
                async with asyncio.timeout(self._until_report()):
                    line = await output.readline()
            except TimeoutError:
                self._report_dropped()
                continue
            except ValueError:  # longer than any honest line; what follows it is read as usual
                continue
            if not line:
                return
            found = parse(line)
            if found is not None and self._is_new(found):
                self._forward(found)

    def _is_new(self, line: JournalLine) -> bool:
        if line.monotonic < self._read_until or line.cursor in self._read_then:
            return False
        if line.monotonic > self._read_until:
            self._read_until = line.monotonic
            self._read_then.clear()
        self._read_then.add(line.cursor)
        return True

    def _forward(self, line: JournalLine) -> None:
        now = self._clock.monotonic()
        if self._limit.dropped and now >= self._limit.ends:
            self._report_dropped()
        if self._limit.admits(now):
            self._mail.event(self._packet(line))

    def _until_report(self) -> float | None:
        return max(0.0, self._limit.ends - self._clock.monotonic()) if self._limit.dropped else None

    def _report_dropped(self) -> None:
        dropped = self._limit.take_dropped()
        text = (
            f"{dropped} lines of {self._settings.app_unit} were dropped: "
            f"more than {self._settings.log_lines_per_minute} in a minute"
        )
        self._mail.event(packets.log_line(self._settings.name, LogLevel.WARN, text, self._clock.now()))

    def _packet(self, line: JournalLine) -> Packet:
        return packets.log_line(
            self._settings.name,
            line.level,
            line.message,
            line.at,
            logger=line.logger or self._settings.app_unit,
            context=line.context,
        )

    def _tell(self, trouble: str) -> None:
        if trouble != self._told:
            log.warning(
                "the application's journal cannot be followed",
                extra={"event": "journal_not_followed", "error": trouble},
            )
        self._told = trouble
