"""One simulated device by the wire contract, as a state machine: no transport, no clock, no waiting.

``now`` goes in; packets and the next deadline come out. A connection carries the packets, tells what it
heard, and follows ``link``. Commands are taken, answered and remembered by the reference agent's own code.
What a real device keeps on disk (journal of commands, unsent events, count of reconnects) outlives a reboot
here; everything else does not.
"""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum, StrEnum
from functools import partial
from random import Random
from uuid import UUID

from infoscreen.agent.protocol import packets
from infoscreen.agent.protocol.desk import CommandDesk, CommandOutcome
from infoscreen.agent.protocol.journal import Journal, StateAtStart
from infoscreen.agent.protocol.packet_queue import PacketQueue
from infoscreen.agent.protocol.packets import Packet
from infoscreen.domain.clients import Presence, ProcessStatus
from infoscreen.domain.commands import Action
from infoscreen.simulator import reports
from infoscreen.simulator.agenda import Agenda, Step
from infoscreen.simulator.host import APP_UNIT, SimulatedHost
from infoscreen.simulator.identity import Identity
from infoscreen.simulator.picture import screenshot
from infoscreen.wire import topics
from infoscreen.wire.messages import Command, ServiceFailed, encode
from infoscreen.wire.topics import LogLevel

JITTER = 0.02
"""Share by which intervals vary, so that a fleet does not beat in step."""


class WantedLink(Enum):
    """What the device wants its connection to be."""

    UP = "up"
    DROPPED = "dropped"
    """Gone without a word: the broker sends the last will."""
    LEFT = "left"
    """Said ``offline`` and disconnected."""


class DeviceFault(StrEnum):
    """Faults of a device."""

    CRASH = "crash"
    """The application dies; the agent goes on reporting it, until ``restart_app`` or a reboot."""
    HANG = "hang"
    """No more reports, but the connection stays and commands are heard."""
    DEAF = "deaf"
    """As ``HANG``, and commands are not heard either: only the power switch helps."""
    SILENCE = "silence"
    """The network is gone, without a goodbye; the device lives on behind it."""
    SERVICE_FAILED = "service_failed"
    """systemd gives up on the application and says so in a retained message."""
    BLACK = "black"
    """The application runs and the screen is black, until the application starts again."""
    FROZEN = "frozen"
    """The same with a picture that no longer moves."""
    NONSENSE = "nonsense"
    """A handful of messages against the contract."""
    POWER_LOSS = "power_loss"
    """Off, until the power is given back."""


@dataclass(frozen=True, slots=True)
class Timing:
    """How often a device reports, where None means never, and how long things take on it."""

    heartbeat: timedelta = timedelta(seconds=30)
    health: timedelta = timedelta(seconds=60)
    log: timedelta | None = None
    screenshot: timedelta | None = None
    until_started: timedelta = timedelta(milliseconds=200)
    app_start: timedelta = timedelta(seconds=2)
    going_down: timedelta = timedelta(seconds=1)
    boot: timedelta = timedelta(seconds=20)


@dataclass(slots=True)
class Tally:
    """What devices saw and did; one may serve a whole fleet. ``acks`` are counted once, not per topic."""

    commands: int = 0
    duplicates: int = 0
    acks: int = 0
    ignored: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)


class SimulatedDevice:
    """The device's side of the wire contract.

    It is born running at ``now`` and wants a connection at once. Call ``advance`` when ``next_due`` has come.
    After each call ``link``, ``next_due`` and ``next_packet`` may have changed.
    """

    def __init__(
        self,
        identity: Identity,
        *,
        random: Random,
        timing: Timing,
        tally: Tally,
        now: datetime,
        persistent_session: bool = True,
    ) -> None:
        self.identity = identity
        self.persistent_session = persistent_session
        self._random = random
        self._timing = timing
        self._tally = tally
        self._host = SimulatedHost(random)
        self._powered = False
        self._parting = WantedLink.DROPPED
        self._silent = False
        self._hung = False
        self._deaf = False
        self._connected = False
        self._introduced = False
        self._outbox = PacketQueue()
        self._journal = Journal()
        self._desk = CommandDesk(identity.uuid, can=identity.can, journal=self._journal, outbox=self._outbox)
        # The agent's own plans end with the power; what the world does to the device does not.
        self._plans = Agenda()
        self._fate = Agenda()
        self._boot(now)

    # What the connection asks.

    @property
    def link(self) -> WantedLink:
        """Return what the connection should be."""
        if not self._powered:
            return self._parting
        return WantedLink.DROPPED if self._silent else WantedLink.UP

    @property
    def next_due(self) -> datetime | None:
        """Return when ``advance`` has something to do next; None for never."""
        return min((due for due in (self._plans.due, self._fate.due) if due is not None), default=None)

    @property
    def command_topics(self) -> tuple[str, str]:
        """Return both names of the topic on which the device takes commands."""
        return topics.commands(self.identity.uuid), topics.command_alias(self.identity.uuid)

    @property
    def goodbye(self) -> Packet:
        """Return what a leaving device says last, and the broker for one that drops off (last will)."""
        return packets.presence(self.identity.uuid, Presence.OFFLINE)

    def next_packet(self) -> Packet | None:
        """Return what to send next; it stays until ``sent`` is told. None when there is nothing to say."""
        return self._outbox.next()

    # What the connection tells.

    def sent(self, packet: Packet) -> None:
        """Forget a packet: the broker has acknowledged it."""
        self._outbox.sent(packet)

    def connected(self, now: datetime) -> None:
        """Take up a connection: say ``online``, who it is (once per boot) and how it is."""
        self._connected = True
        self._journal.connected()
        uuid = self.identity.uuid
        self._outbox.greet(packets.presence(uuid, Presence.ONLINE))
        if not self._introduced:
            self._introduced = True
            self._tell(topics.discovery(uuid), encode(reports.discovery(self.identity)))
        self._report(now)
        self._report_health(now)

    def disconnected(self, now: datetime) -> None:
        """Lose the connection, wanted or not; unsent events wait for the next one."""
        self._connected = False
        self._journal.disconnected(now)
        self._outbox.drop_state()

    def receive(self, payload: bytes, now: datetime, *, retain: bool = False) -> None:
        """Take what arrived on a command topic.

        Only a new and valid command for this device is carried out. A known one is answered with the ack last
        given for it, and everything else is ignored.
        """
        if not retain and (self._deaf or not self._powered):
            self._tally.ignored["not_heard"] += 1
            return
        receipt = self._desk.receive(payload, now, retain=retain)
        match receipt.verdict:
            case CommandOutcome.TAKEN | CommandOutcome.REFUSED:
                self._tally.commands += 1
                self._tally.acks += 1
            case CommandOutcome.REPEATED:
                self._tally.duplicates += 1
                self._tally.acks += 1
            case CommandOutcome.RETAINED | CommandOutcome.INVALID | CommandOutcome.FOREIGN:
                self._tally.ignored[receipt.verdict.value] += 1
        if receipt.complaint is not None:
            self._log(LogLevel.WARN, receipt.complaint, now)
        if receipt.command is not None:
            self._plans.add(now + self._timing.until_started, partial(self._execute, receipt.command))

    def advance(self, now: datetime) -> None:
        """Do everything that is due by ``now``."""
        while (step := self._fate.pop(now) or self._plans.pop(now)) is not None:
            step(now)

    # What the scenario does.

    def plan(self, at: datetime, fault: DeviceFault) -> None:
        """Let ``fault`` happen at ``at``."""
        self._fate.add(at, partial(self.suffer, fault))

    def plan_relief(self, at: datetime) -> None:
        """Let ``relieve`` happen at ``at``."""
        self._fate.add(at, self.relieve)

    def suffer(self, fault: DeviceFault, now: datetime) -> None:
        """Let ``fault`` happen now; a device that is off feels nothing."""
        if not self._powered:
            return
        self._tally.faults[fault.value] += 1
        match fault:
            case DeviceFault.CRASH:
                self._host.lose_app(ProcessStatus.CRASHED)
                self._log(LogLevel.ERROR, f"{APP_UNIT}: main process exited, status=11/SEGV", now)
                self._report(now)
            case DeviceFault.HANG:
                self._hung = True
            case DeviceFault.DEAF:
                self._hung = self._deaf = True
            case DeviceFault.SILENCE:
                self._silent = True
            case DeviceFault.SERVICE_FAILED:
                self._fail_service(now)
            case DeviceFault.BLACK:
                self._host.black = True
            case DeviceFault.FROZEN:
                self._host.frozen_since = self._host.frozen_since or now
            case DeviceFault.NONSENSE:
                for topic, payload in reports.nonsense(self.identity.uuid):
                    self._tell(topic, payload)
            case DeviceFault.POWER_LOSS:
                self._go_down(WantedLink.DROPPED)

    def relieve(self, now: datetime) -> None:
        """End what only the outside can end: give back the network and the power, shake off a hang."""
        self._silent = self._hung = self._deaf = False
        if self._powered:
            self._report(now)
        else:
            self._fate.add(now + self._timing.boot, self._boot)

    # The commands.

    def _execute(self, command: Command, now: datetime) -> None:
        self._tally.acks += 1
        self._desk.start(command, StateAtStart(self._host.boot_id, self._host.app_started_at))
        match command.action:
            case Action.RESTART_APP:
                self._host.lose_app(ProcessStatus.STARTING)
                self._plans.add(now + self._timing.app_start, partial(self._app_started, command))
            case Action.REBOOT_HOST:
                self._plans.add(now + self._timing.going_down, self._reboot)
            case Action.SHUTDOWN_HOST:
                self._complete(command)
                self._plans.add(now + self._timing.going_down, self._halt)
            case Action.SCREENSHOT:
                self._outbox.event(self._screenshot())
                self._complete(command)
            case Action.DISPLAY_ON | Action.DISPLAY_OFF:
                self._host.screen_on = command.action is Action.DISPLAY_ON
                self._complete(command)
                self._report_health(now)
            case Action.POWER_CYCLE:
                raise AssertionError("no device takes it")

    def _app_started(self, command: Command, now: datetime) -> None:
        self._host.start_app(now)
        self._report(now)
        self._complete(command)

    def _reboot(self, now: datetime) -> None:
        self._go_down(WantedLink.DROPPED)
        self._fate.add(now + self._timing.boot, self._boot)

    def _halt(self, now: datetime) -> None:
        self._go_down(WantedLink.LEFT)

    def _complete(self, command: Command) -> None:
        self._tally.acks += 1
        self._desk.complete(command)

    # The power.

    def _go_down(self, parting: WantedLink) -> None:
        self._powered = False
        self._parting = parting
        self._plans.clear()
        self._outbox.drop_state()
        self._hung = self._deaf = False

    def _boot(self, now: datetime) -> None:
        """Come up, and end what the journal says was being done when the power went."""
        if self._powered:
            return
        self._powered = True
        self._introduced = False
        self._host.boot(now)
        self._tally.acks += sum(not entry.is_final for entry in self._journal.entries)
        self._desk.resume(self._host.boot_id)
        self._log(LogLevel.INFO, f"agent {self.identity.agent_version} started", now)
        self._repeat(self._timing.heartbeat, self._report, now)
        self._repeat(self._timing.health, self._report_health, now)
        if self._timing.log is not None:
            self._repeat(self._timing.log, self._chat, now)
        if self._timing.screenshot is not None:
            self._plans.add(now + self._timing.until_started, self._show)
            self._repeat(self._timing.screenshot, self._show, now)

    # What the device says of itself.

    def _repeat(self, interval: timedelta, step: Step, now: datetime) -> None:
        """Take ``step`` once per interval, beginning after the first."""

        def again(then: datetime) -> None:
            step(then)
            self._repeat(interval, step, then)

        self._plans.add(now + interval * (1 + self._random.uniform(-JITTER, JITTER)), again)

    def _report(self, now: datetime) -> None:
        if self._connected and not self._hung:
            beat = reports.heartbeat(
                self.identity, self._host, now, persistent_session=self.persistent_session
            )
            self._outbox.state(Packet(topics.heartbeat(self.identity.uuid), encode(beat)))

    def _report_health(self, now: datetime) -> None:
        if self._connected and not self._hung:
            self._host.slides_shown += 1
            health = reports.health(self.identity, self._host, now, self._journal.link)
            self._outbox.state(Packet(topics.health(self.identity.uuid), encode(health)))

    def _fail_service(self, now: datetime) -> None:
        self._host.lose_app(ProcessStatus.STOPPED)
        failed = ServiceFailed(
            unit=APP_UNIT, failed_at=now, client_uuid=UUID(self.identity.uuid), result="start-limit-hit"
        )
        self._outbox.event(packets.service_failed(self.identity.uuid, failed))
        self._log(LogLevel.ERROR, f"{APP_UNIT}: start request repeated too quickly", now)
        self._report(now)

    def _show(self, now: datetime) -> None:
        if self._connected and not self._hung and self.identity.can(Action.SCREENSHOT):
            self._outbox.state(self._screenshot())

    def _screenshot(self) -> Packet:
        picture = screenshot(self.identity.uuid, self._host.shown, self._host.slides_shown)
        return Packet(topics.screenshot(self.identity.uuid), picture)

    def _chat(self, now: datetime) -> None:
        if not self._hung:
            level, text = self._random.choice(reports.LOG_LINES)
            self._log(level, text, now)

    def _log(self, level: LogLevel, text: str, now: datetime) -> None:
        self._outbox.event(packets.log_line(self.identity.uuid, level, text, now))

    def _tell(self, topic: str, payload: bytes) -> None:
        self._outbox.event(Packet(topic, payload))
