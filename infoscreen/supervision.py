"""What systemd hears of the daemon, and what a SIGHUP changes in it.

``WATCHDOG=1`` is sent only while no part hangs (``progress.py``): never from a blind timer.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence

from infoscreen import logs, sd_notify
from infoscreen.clock import Clock
from infoscreen.domain.clients import WELL
from infoscreen.domain.errors import InvalidSettings, StoreUnavailable
from infoscreen.progress import FOR_EVER, Progress, expect_within
from infoscreen.services.monitoring import Monitoring
from infoscreen.settings import Settings

log = logging.getLogger(__name__)

STATUS_SECONDS = 20.0
"""How often the counts in ``systemctl status`` are renewed."""

Renewal = Callable[[Settings], Awaitable[None]]
"""Takes up changed settings or files; raises nothing that may end the daemon."""


class Supervision:
    """Tells systemd that the daemon is ready, alive and how it is."""

    def __init__(self, progress: Progress, monitoring: Monitoring, clock: Clock) -> None:
        self._progress = progress
        self._monitoring = monitoring
        self._clock = clock
        self._hanging: list[str] = []

    async def run_watchdog(self) -> None:
        """Answer systemd's watchdog twice per interval, while no part hangs."""
        seconds = sd_notify.watchdog_seconds()
        while True:
            pause = min(seconds / 2, 10.0) if seconds is not None else 10.0
            expect_within(pause + 60)
            self.answer()
            await self._clock.sleep(pause)

    def answer(self) -> bool:
        """Answer once, unless a part hangs; tell whether it was done."""
        hanging = self._progress.hanging()
        if hanging and hanging != self._hanging:
            log.critical(
                "a part of the daemon hangs; the watchdog is not answered",
                extra={"event": "part_hangs", "parts": ", ".join(hanging)},
            )
        self._hanging = hanging
        if not hanging:
            sd_notify.notify("WATCHDOG=1")
        return not hanging

    async def run_status(self) -> None:
        """Report the state of the fleet to systemd until cancelled."""
        while True:
            expect_within()
            sd_notify.notify(f"STATUS={await self._status()}")
            expect_within(STATUS_SECONDS + 60)
            await self._clock.sleep(STATUS_SECONDS)

    async def _status(self) -> str:
        try:
            overview = await self._monitoring.overview()
        except StoreUnavailable as trouble:
            return str(trouble)
        unwell = sum(count for condition, count in overview.totals.items() if condition not in WELL)
        broker = "connected to the broker" if overview.broker.connected else "no connection to the broker"
        return f"{sum(overview.totals.values())} clients, {unwell} of them not well; {broker}"


class Reloading:
    """Reads the settings again when told to, and lets those parts take them up that can."""

    def __init__(
        self,
        settings: Settings,
        load: Callable[[], Settings],
        clock: Clock,
        renewals: Sequence[Renewal] = (),
    ) -> None:
        self._settings = settings
        self._load = load
        self._clock = clock
        self._renewals = renewals
        self.asked = asyncio.Event()

    async def run(self) -> None:
        """Reload when ``asked`` is set, until cancelled."""
        while True:
            expect_within(FOR_EVER)
            await self.asked.wait()
            self.asked.clear()
            expect_within()
            sd_notify.notify("RELOADING=1", f"MONOTONIC_USEC={int(self._clock.monotonic() * 1e6)}")
            await self.reload()
            sd_notify.notify("READY=1")

    async def reload(self) -> None:
        """Read all sources once; wrong settings change nothing."""
        try:
            fresh = await asyncio.to_thread(self._load)
        except InvalidSettings as error:
            log.error(  # noqa: TRY400 - a traceback tells a sysadmin nothing
                "the settings are wrong; those from before stay in force",
                extra={"event": "reload_failed", "error": str(error)},
            )
            return
        logs.set_level(fresh.log_level)
        for renew in self._renewals:
            await renew(fresh)
        later = [
            name.upper()
            for name in type(fresh).model_fields
            if name != "log_level" and getattr(fresh, name) != getattr(self._settings, name)
        ]
        if later:
            log.warning(
                "some changed settings count only after a restart",
                extra={"event": "restart_needed", "settings": ", ".join(later)},
            )
        log.info("reloaded", extra={"event": "reloaded", "log_level": fresh.log_level})


async def run_until(
    stopped: asyncio.Event,
    parts: Mapping[str, Callable[[], Awaitable[object]]],
    progress: Progress,
    last_words: Callable[[], Awaitable[None]],
) -> None:
    """Run all parts until told to stop: then first the last words, then every part is cancelled."""
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(_for_ever(name, run, progress, stopped), name=name)
            for name, run in parts.items()
        ]
        await stopped.wait()
        log.info("stopping", extra={"event": "stopping"})
        await last_words()
        for task in tasks:
            task.cancel()


async def _for_ever(
    name: str, run: Callable[[], Awaitable[object]], progress: Progress, stopped: asyncio.Event
) -> None:
    """Run a part that must never end by itself before we are told to stop."""
    try:
        with progress.watching(name):
            await run()
    except Exception as error:
        error.add_note(f"This ended the daemon's part: {name}.")
        raise
    if not stopped.is_set():
        raise RuntimeError(f"The daemon's part {name!r} returned, which it must never do.")
