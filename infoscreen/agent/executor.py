"""Carries commands out and says how it went. What is to be done is on disk before it is done."""

import logging
from datetime import datetime

from infoscreen.agent.mail import Mail
from infoscreen.agent.protocol.desk import JOURNAL_UNAVAILABLE, CommandDesk
from infoscreen.agent.protocol.journal import Entry, StateAtStart
from infoscreen.agent.protocol.packets import Packet
from infoscreen.agent.reports import Reporter
from infoscreen.agent.screenshots import Camera, NoScreenshot
from infoscreen.agent.settings import AgentSettings
from infoscreen.agent.systemd import Systemd, SystemdRefused, UnitState
from infoscreen.clock import Clock
from infoscreen.domain.commands import DISRUPTIVE, Action
from infoscreen.wire import topics
from infoscreen.wire.messages import Command

log = logging.getLogger(__name__)

SAID_SECONDS = 3.0
"""How long a host waits with going down for the broker to take ``execution_started``."""
DOWN_SECONDS = 300.0
"""How long a host may take to go down; systemd gives every unit 90 s."""
LOOK_SECONDS = 0.25
"""How often a unit is looked at that is being started."""


class Executor:
    """Carries out what the desk has taken; a dry run only says what it would do."""

    def __init__(
        self,
        settings: AgentSettings,
        desk: CommandDesk,
        mail: Mail,
        reporter: Reporter,
        systemd: Systemd,
        camera: Camera,
        clock: Clock,
        *,
        boot_id: str,
        dry_run: bool,
    ) -> None:
        self._settings = settings
        self._desk = desk
        self._mail = mail
        self._reporter = reporter
        self._systemd = systemd
        self._camera = camera
        self._clock = clock
        self._boot_id = boot_id
        self._dry_run = dry_run

    async def carry_out(self, command: Command) -> None:
        """Carry out a command and answer it; trouble with the device becomes ``failed``."""
        log.info(
            "carrying out a command",
            extra={
                "event": "command",
                "command_id": str(command.command_id),
                "action": command.action.value,
                "dry_run": self._dry_run,
            },
        )
        if self._dry_run and command.action in DISRUPTIVE:
            await self._fail(command, "dry_run", f"dry run: would have carried out {command.action}")
            return
        app = await self._app_before(command)
        self._desk.start(command, StateAtStart(self._boot_id, None if app is None else app.started_at))
        self._mail.wake()
        if not await self._mail.save():
            # After a power loss nobody would know of it, and do it again.
            await self._fail(command, *JOURNAL_UNAVAILABLE)
            return
        match command.action:
            case Action.RESTART_APP:
                await self._restart_app(command, None if app is None else app.started_at)
            case Action.REBOOT_HOST | Action.SHUTDOWN_HOST:
                await self._go_down(command)
            case Action.SCREENSHOT:
                await self._screenshot(command)
            case Action.DISPLAY_ON | Action.DISPLAY_OFF | Action.POWER_CYCLE:
                raise AssertionError("the desk takes no action that this device cannot do")

    async def see_through(self, entry: Entry) -> None:
        """Finish a restart of the application that was begun before the agent was restarted itself."""
        before = None if entry.before is None else entry.before.app_started_at
        await self._wait_for_app(entry.command, before)

    async def _app_before(self, command: Command) -> UnitState | None:
        if command.action is not Action.RESTART_APP:
            return None
        try:
            return await self._systemd.show(self._settings.app_unit)
        except SystemdRefused:
            return None  # the restart will say it

    async def _restart_app(self, command: Command, before: datetime | None) -> None:
        try:
            await self._systemd.restart(self._settings.app_unit, self._settings.app_restart_seconds)
        except SystemdRefused as error:
            await self._fail(command, "restart_failed", str(error))
            return
        await self._wait_for_app(command, before)

    async def _wait_for_app(self, command: Command, before: datetime | None) -> None:
        """Complete once the unit is active with another start time than ``before``."""
        deadline = self._clock.monotonic() + self._settings.app_restart_seconds
        seen = "systemd did not tell its state"
        while True:
            try:
                app = await self._systemd.show(self._settings.app_unit)
            except SystemdRefused as error:
                seen = str(error)
            else:
                seen = str(app)
                if app.is_up and app.started_at != before:
                    break
            if self._clock.monotonic() >= deadline:
                await self._fail(
                    command, "app_not_active", f"{self._settings.app_unit} did not come up: {seen}"
                )
                return
            await self._clock.sleep(LOOK_SECONDS)
        await self._reporter.heartbeat()
        await self._complete(command)

    async def _go_down(self, command: Command) -> None:
        """Reboot or halt.

        ``completed`` for a reboot is said by the agent that comes up afterwards, for a halt just before it:
        systemd has agreed, and stops us as any other unit. A host may go down before systemctl has its
        answer: an error then is no refusal.
        """
        await self._mail.drained(SAID_SECONDS)
        rebooting = command.action is Action.REBOOT_HOST
        code, text = "still_up", f"the host did not go down within {DOWN_SECONDS:g} s"
        try:
            await (self._systemd.reboot() if rebooting else self._systemd.power_off())
        except SystemdRefused as error:
            code, text = "reboot_failed" if rebooting else "shutdown_failed", str(error)
            if not await self._systemd.may_be_going_down():
                await self._fail(command, code, text)
                return
        else:
            if not rebooting:
                await self._complete(command)
                return
        await self._clock.sleep(DOWN_SECONDS)
        await self._fail(command, code, text)

    async def _screenshot(self, command: Command) -> None:
        try:
            picture = await self._camera.take()
        except NoScreenshot as error:
            await self._fail(command, "screenshot_failed", str(error))
            return
        self._mail.event(Packet(topics.screenshot(self._settings.name), picture))
        await self._complete(command)

    async def _complete(self, command: Command) -> None:
        self._desk.complete(command)
        self._mail.wake()
        await self._mail.save()

    async def _fail(self, command: Command, code: str, text: str) -> None:
        log.warning(
            "a command was not carried out",
            extra={
                "event": "command_failed",
                "command_id": str(command.command_id),
                "action": command.action.value,
                "error_code": code,
                "error": text,
            },
        )
        self._desk.fail(command, code, text)
        self._mail.wake()
        await self._mail.save()
