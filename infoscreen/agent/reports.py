"""What the agent says of the device: who it is and how it is. Puts facts into messages of the contract."""

import asyncio
import logging
import os
from collections.abc import Callable

from infoscreen import __version__
from infoscreen.agent import readings
from infoscreen.agent.mail import Mail
from infoscreen.agent.picture import Watcher
from infoscreen.agent.protocol.packets import Packet
from infoscreen.agent.protocol.values import build
from infoscreen.agent.settings import AgentSettings
from infoscreen.agent.systemd import Systemd, SystemdRefused, UnitState
from infoscreen.clock import Clock
from infoscreen.domain.commands import Action
from infoscreen.mqtt.device import KEEPALIVE_SECONDS
from infoscreen.wire import topics
from infoscreen.wire.messages import (
    ActualState,
    BrokerConnection,
    CapturedPicture,
    Discovery,
    Health,
    HealthMetrics,
    Heartbeat,
    encode,
)

log = logging.getLogger(__name__)


def capabilities(settings: AgentSettings) -> list[Action]:
    """Return the actions that this device handles."""
    basic = [Action.RESTART_APP, Action.REBOOT_HOST, Action.SHUTDOWN_HOST]
    return [*basic, Action.SCREENSHOT] if settings.screenshot_command else basic


SENSORS_SECONDS = 5.0
"""How long reading the sensors may take; a disk that is gone may block without end."""


class Reporter:
    """Reads the device and puts reports into the mail. ``address`` returns the one towards the broker."""

    def __init__(
        self,
        settings: AgentSettings,
        mail: Mail,
        systemd: Systemd,
        clock: Clock,
        *,
        address: Callable[[], str | None],
        watcher: Watcher | None = None,
    ) -> None:
        self._settings = settings
        self._mail = mail
        self._systemd = systemd
        self._clock = clock
        self._address = address
        self._boot_time = readings.BootTime()
        self._boot_id = readings.boot_id()
        self._sensing: asyncio.Task[readings.Readings] | None = None
        self._trouble: str | None = None
        self._introduced = False
        self._watcher = watcher
        self._picture: CapturedPicture | None = None

    async def introduce(self) -> None:
        """On a new connection: who this is, once per start of the agent, and how it is."""
        if not self._introduced:
            self._introduced = True
            discovery = self._discovery()
            self._mail.event(Packet(topics.discovery(self._settings.name), encode(discovery)))
        await self.heartbeat()
        await self.health()

    async def heartbeat(self) -> None:
        """Report that device and agent are alive, and how the application is."""
        beat = self._heartbeat(await self._app())
        self._mail.state(Packet(topics.heartbeat(self._settings.name), encode(beat)))

    async def health(self) -> None:
        """Report the readings of the device."""
        read = await self._sensors()
        health = self._health(await self._app(), read)
        self._mail.state(Packet(topics.health(self._settings.name), encode(health)))

    async def look(self) -> None:
        """Look at what the screen shows; the next health message tells of it."""
        if self._watcher is not None:
            self._picture = await self._watcher.look()

    async def _app(self) -> UnitState | None:
        """Return the state of the application's unit; None, told once, while systemd does not tell."""
        try:
            state = await self._systemd.show(self._settings.app_unit)
        except SystemdRefused as error:
            if str(error) != self._trouble:
                log.warning(
                    "systemd does not tell how the application is",
                    extra={"event": "systemd_refused", "error": str(error)},
                )
            self._trouble = str(error)
            return None
        self._trouble = None
        return state

    async def _sensors(self) -> readings.Readings:
        """Return the readings, empty ones if they take too long; never reads twice at the same time."""
        if self._sensing is not None and self._sensing.done():
            self._sensing.result()  # which came too late
            self._sensing = None
        if self._sensing is None:
            self._sensing = asyncio.create_task(
                asyncio.to_thread(readings.read_sensors, self._settings.disk_path)
            )
        sensing = self._sensing
        done, _ = await asyncio.wait([sensing], timeout=SENSORS_SECONDS)
        return sensing.result() if done else readings.NOTHING

    def _discovery(self) -> Discovery:
        ip = self._address()
        return build(
            Discovery,
            uuid=self._settings.uuid,
            hostname=os.uname().nodename,
            ip=ip,
            mac=readings.mac_of(ip),
            hardware_model=readings.hardware_model(),
            os_release=readings.os_release(),
            software_version=self._settings.software_version,
            agent_version=__version__,
            capabilities=capabilities(self._settings),
            keepalive_seconds=KEEPALIVE_SECONDS,
        )

    def _heartbeat(self, app: UnitState | None) -> Heartbeat:
        pid = None if app is None else app.pid
        return build(
            Heartbeat,
            timestamp=self._clock.now(),
            uuid=self._settings.uuid,
            process_status=None if app is None else app.process_status,
            current_process=None if pid is None else readings.process_name(pid),
            process_pid=pid,
            app_started_at=None if app is None else app.started_at,
            boot_id=self._boot_id,
            booted_at=self._boot_time.read(),
            ip=self._address(),
            hostname=os.uname().nodename,
            software_version=self._settings.software_version,
            persistent_session=True,
        )

    def _health(self, app: UnitState | None, read: readings.Readings) -> Health:
        now = self._clock.now()
        booted_at = self._boot_time.read()
        link = self._mail.journal.link
        actual = None
        if app is not None:
            actual = build(
                ActualState,
                process=None if app.pid is None else readings.process_name(app.pid),
                pid=app.pid,
                status=app.process_status,
                started_at=app.started_at,
            )
        return build(
            Health,
            timestamp=now,
            uuid=self._settings.uuid,
            actual_state=actual,
            health_metrics=build(
                HealthMetrics,
                cpu_percent=read.cpu_percent,
                memory_percent=read.memory_percent,
                disk_percent=read.disk_percent,
                temperature_celsius=read.temperature_celsius,
                uptime_seconds=None if booted_at is None else max(0.0, (now - booted_at).total_seconds()),
                undervoltage=read.undervoltage,
                picture=self._picture,
            ),
            broker_connection=build(
                BrokerConnection,
                broker_reachable=True,
                reconnect_count=link.reconnects,
                last_disconnect_at=link.last_disconnect_at,
            ),
        )
