"""The truth: devices, their connections and the broker. It knows no rules; the daemon only hears of it.

A healthy device that nothing touches is quiet: its heartbeats are arithmetic, not events. As soon as
anything happens to it, each of its heartbeats is played, until it has been well for a while.
"""

from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from random import Random

from infoscreen.domain.clients import Presence, ProcessStatus
from infoscreen.domain.commands import AckStatus, Action, ClientCommand
from infoscreen.domain.presence import Beat, StalePolicy
from infoscreen.domain.presence import Rhythm as Learned
from infoscreen.domain.recovery import Rung
from infoscreen.simulator.scenarios import Fleet, Kind
from infoscreen.simulator.virtual.daemon import Daemon
from infoscreen.simulator.virtual.figures import Figures
from infoscreen.simulator.virtual.knowledge import Known
from infoscreen.simulator.virtual.scoring import GOING_DOWN, best_end, is_needless
from infoscreen.simulator.virtual.screen import Fault, Host, Screen
from infoscreen.simulator.virtual.terms import Mode, Policies
from infoscreen.simulator.virtual.timeline import START, Timeline, moment

QUIET_AFTER = 8
"""So many heartbeats must have been played before a well device may be quiet again."""

HEARD_AFTER = 0.2
"""Seconds until a command has reached a connected device."""

ACKNOWLEDGED_AFTER = 1_800.0
"""Seconds after which somebody acknowledges a failed service that is well again."""


class World:
    """Devices, broker and daemon on one timeline."""

    def __init__(
        self,
        fleet: Fleet,
        screens: list[Screen],
        timeline: Timeline,
        mode: Mode,
        policies: Policies,
        figures: Figures,
        random: Random,
    ) -> None:
        self.screens = screens
        self.timeline = timeline
        self._fleet = fleet
        self._policies = policies
        self._figures = figures
        self._random = random
        self._broker_is_up = True
        self._broker_life = 0
        self._known: dict[int, Known] = {}
        self._watched: dict[int, Known] = {}
        self._kept: dict[int, ClientCommand] = {}
        self._learned = lru_cache(maxsize=None)(lambda interval: learned(interval, policies.stale))
        self.sites: dict[str, list[Screen]] = {}
        members: dict[str | None, list[int]] = {None: [screen.number for screen in screens]}
        for screen in screens:
            if screen.site is not None:
                self.sites.setdefault(screen.site, []).append(screen)
                members.setdefault(screen.site, []).append(screen.number)
        self.daemon = Daemon(timeline, self, mode, policies, members)
        self.daemon.begin()
        self._steady = fleet.is_steady
        if not self._steady:
            for screen in screens:
                self.watch(screen)

    # What the daemon asks and does.

    def watched(self, number: int) -> Known:
        """Return what the daemon knows of a client."""
        return self.watch(self.screens[number])

    def watching(self) -> Iterable[tuple[int, Known]]:
        """Return all clients whose heartbeats are played."""
        return list(self._watched.items())

    def is_quiet(self, number: int) -> bool:
        """Tell whether the client's heartbeats are arithmetic at present."""
        return number not in self._watched

    def noticed(self, number: int, known: Known) -> None:
        """Note when the daemon took notice of a fault, and how soon it could be over."""
        fault = self.screens[number].fault
        if fault is not None and fault.noticed is None:
            fault.noticed = self.timeline.now
            fault.best = best_end(fault, self.screens[number], known, self._policies.recovery)

    def deliver(self, number: int, command: ClientCommand) -> None:
        """Take a command for a device; the broker keeps it for a persistent session."""
        screen = self.screens[number]
        self._figures.actions[command.action.value] += 1
        needless, healthy = is_needless(screen)
        self._figures.needless += needless
        self._figures.healthy += healthy
        self._figures.in_outages += screen.cut > 0 or not self._broker_is_up
        if screen.connected:
            self.timeline.plan(self.timeline.now + HEARD_AFTER, self._hear, screen, command)
        elif screen.persistent:
            self._kept[number] = command

    # Heartbeats.

    def watch(self, screen: Screen) -> Known:
        """Play the device's heartbeats from now on, one by one."""
        known = self._watched.get(screen.number)
        if known is not None:
            return known
        known = self._known.get(screen.number)
        if known is None:
            rhythm = self._learned(screen.interval)
            known = Known(screen.uuid, screen.site, screen.persistent, rhythm, self._policies.stale)
            known.boot_id, known.app_started_at = str(screen.boots), screen.app_says_started
            self._known[screen.number] = known
        self._watched[screen.number] = known
        # Until now it has been beating in its rhythm.
        since = (self.timeline.now - screen.phase) % screen.interval
        last = self.timeline.now - since
        known.resume(moment(last), moment(last + screen.skew))
        self._plan_beat(screen, screen.interval - since)
        self.daemon.expect(screen.number, known)
        return known

    def _plan_beat(self, screen: Screen, after: float) -> None:
        screen.beat_plan += 1
        jitter = 1 + self._random.uniform(-self._fleet.jitter, self._fleet.jitter)
        self.timeline.plan(self.timeline.now + after * jitter, self._beat_due, screen, screen.beat_plan)

    def _beat_due(self, screen: Screen, plan: int) -> None:
        if plan != screen.beat_plan:
            return
        if self._may_be_quiet(screen):
            del self._watched[screen.number]
            screen.phase = self.timeline.now % screen.interval
            return
        if screen.host is Host.UP and screen.connected and self._random.random() >= self._fleet.lost:
            self.beat(screen)
        self._plan_beat(screen, screen.interval)

    def _may_be_quiet(self, screen: Screen) -> bool:
        known = self._watched[screen.number]
        return (
            self._steady
            and known.heartbeats_since_watched >= QUIET_AFTER
            and screen.is_well
            and screen.connected
            and screen.fault is None
            and self.daemon.listening_since is not None
            and not self.daemon.is_busy_with(screen.number)
        )

    def beat(self, screen: Screen) -> None:
        """Send one heartbeat now."""
        device_time = moment(self.timeline.now + screen.skew)
        started = screen.app_says_started if screen.app is ProcessStatus.RUNNING else None
        beat = Beat(moment(self.timeline.now), device_time, str(screen.boots))
        self.daemon.heartbeat(screen.number, beat, (screen.app, started))

    # Connections.

    def connect(self, screen: Screen, link: int) -> None:
        """Have the device connect, unless something has happened to it since this was planned."""
        if link != screen.link or screen.connected or screen.cut or screen.host is Host.DOWN:
            return
        if not self._broker_is_up:
            return
        screen.connected = True
        screen.link += 1
        self.watch(screen)
        if screen.host is Host.UP:
            self.daemon.presence(screen.number, Presence.ONLINE)
            self.beat(screen)
            self._plan_beat(screen, screen.interval)
        kept = self._kept.pop(screen.number, None)
        if kept is not None and moment(self.timeline.now) < kept.expires_at:
            self.timeline.plan(self.timeline.now + HEARD_AFTER, self._hear, screen, kept)

    def cut(self, screen: Screen) -> None:
        """Cut the device off from the broker, for one more reason."""
        screen.cut += 1
        if screen.connected:
            self.drop(screen)

    def mend(self, screen: Screen) -> None:
        """Take one reason away; after the last one the device connects again."""
        screen.cut -= 1
        if not screen.cut:
            self.reconnect(screen)

    def reconnect(self, screen: Screen) -> None:
        """Have the device connect in its own good time."""
        after = self._random.uniform(1.0, max(1.0, self._fleet.reconnects_within))
        self.timeline.plan(self.timeline.now + after, self.connect, screen, screen.link)

    def drop(self, screen: Screen) -> None:
        """End the connection without a word; the broker takes notice by the keepalive."""
        self.watch(screen)
        screen.connected = False
        screen.link += 1
        last_packet = self._random.uniform(0, min(screen.interval, self._fleet.keepalive))
        at = self.timeline.now + 1.5 * self._fleet.keepalive - last_packet
        self.timeline.plan(at, self._last_will, screen, screen.link, self._broker_life)

    def _last_will(self, screen: Screen, link: int, life: int) -> None:
        if link == screen.link and life == self._broker_life and self._broker_is_up:
            self.daemon.presence(screen.number, Presence.OFFLINE)

    def say_goodbye(self, screen: Screen) -> None:
        """End the connection in order."""
        self.watch(screen)
        if screen.connected:
            self.daemon.presence(screen.number, Presence.OFFLINE)
        screen.connected = False
        screen.link += 1

    def stop_broker(self) -> None:
        """Take the broker away, from devices and daemon alike."""
        self._broker_is_up = False
        self._broker_life += 1
        self.daemon.disconnect()
        for screen in self.screens:
            self.watch(screen)
            screen.connected = False
            screen.link += 1

    def start_broker(self) -> None:
        """Bring the broker back, with what it has kept."""
        self._broker_is_up = True
        self.timeline.plan(self.timeline.now + self._random.uniform(1, 5), self.daemon.connect)
        for screen in self.screens:
            if not screen.cut and screen.host is not Host.DOWN:
                self.reconnect(screen)

    def stop_daemon(self) -> None:
        """Stop the daemon; every device is looked at closely until all is as it was."""
        for screen in self.screens:
            self.watch(screen)
        self.daemon.stop()

    def start_daemon(self) -> None:
        """Start the daemon again."""
        self.daemon.start()
        if self._broker_is_up:
            self.timeline.plan(self.timeline.now + 1, self.daemon.connect)

    # Commands, as a device that follows the contract carries them out.

    def _hear(self, screen: Screen, command: ClientCommand) -> None:
        if not screen.hears or moment(self.timeline.now) >= command.expires_at:
            return
        self.watch(screen)
        self.daemon.ack(screen.number, command.command_id, AckStatus.ACCEPTED)
        self.daemon.ack(screen.number, command.command_id, AckStatus.EXECUTION_STARTED)
        if command.action is Action.RESTART_APP:
            screen.version += 1
            screen.app = ProcessStatus.STARTING
            after = self.timeline.now + screen.app_start
            self.timeline.plan(after, self._app_started, screen, screen.version, command, Rung.RESTART_APP)
        else:
            self.go_down(screen)
            screen.rebooting = True
            after = self.timeline.now + GOING_DOWN + screen.boot
            self.timeline.plan(after, self.booted, screen, screen.version, command)

    def go_down(self, screen: Screen) -> None:
        """Halt in order, for a reboot."""
        self.say_goodbye(screen)
        screen.version += 1
        screen.host = Host.DOWN

    def booted(self, screen: Screen, version: int, command: ClientCommand | None) -> None:
        """Be up again; the application takes a little longer."""
        if version != screen.version:
            return
        screen.host = Host.UP
        screen.boots += 1
        screen.rebooting = False
        screen.app = ProcessStatus.STARTING
        self.connect(screen, screen.link)
        after = self.timeline.now + screen.app_start
        self.timeline.plan(after, self._app_started, screen, version, command, Rung.REBOOT_HOST)

    def _app_started(self, screen: Screen, version: int, command: ClientCommand | None, rung: Rung) -> None:
        if version != screen.version:
            return
        screen.app = ProcessStatus.RUNNING
        self._started_app(screen)
        if command is not None and screen.connected:
            self.daemon.ack(screen.number, command.command_id, AckStatus.COMPLETED)
        fault = screen.fault
        if fault is None:
            return
        if fault.cured_by <= rung or fault.kind is Kind.SELF_REBOOT:
            self.healed(screen, fault)
        else:
            self.timeline.plan(self.timeline.now + fault.again_after, self.manifest, screen, fault, version)

    def _started_app(self, screen: Screen) -> None:
        # What a device says of the start is fixed then, whatever its clock does later.
        screen.app_says_started = moment(self.timeline.now + screen.skew)

    # Faults.

    def befall(self, screen: Screen, fault: Fault) -> bool:
        """Let something be wrong with the device; one that has another fault is spared."""
        if screen.fault is not None or screen.host is not Host.UP or screen.app is not ProcessStatus.RUNNING:
            return False
        self.watch(screen)
        screen.fault = fault
        if fault.heals_at is not None:
            self.timeline.plan(fault.heals_at, self._pass, screen, fault)
        self.manifest(screen, fault, screen.version)
        return True

    def manifest(self, screen: Screen, fault: Fault, version: int) -> None:
        """Let the fault show, at first and again after a cure that was too mild."""
        if screen.fault is not fault or version != screen.version:
            return
        match fault.kind:
            case Kind.CRASH:
                screen.app = ProcessStatus.CRASHED
            case Kind.SERVICE_FAILED:
                screen.app = ProcessStatus.STOPPED
                self.daemon.service_failed(screen.number, moment(self.timeline.now + screen.skew))
                if screen.connected:
                    self.beat(screen)
            case Kind.HANG | Kind.DEAF:
                screen.host = Host.HUNG
            case Kind.DEAD:
                screen.host = Host.DOWN
                self.drop(screen)
            case Kind.SELF_REBOOT:
                self.go_down(screen)
                screen.rebooting = True
                assert fault.heals_at is not None  # noqa: S101 - the format demands it
                up = max(self.timeline.now, fault.heals_at - screen.app_start)
                self.timeline.plan(up, self.booted, screen, screen.version, None)
            case Kind.NETWORK:
                self.cut(screen)
            case _:
                raise AssertionError(fault.kind)

    def _pass(self, screen: Screen, fault: Fault) -> None:
        """Let a fault be over by itself, unless it has been cured or the device is on its way up anyway."""
        if screen.fault is not fault:
            return
        match fault.kind:
            case Kind.NETWORK:
                self.mend(screen)
            case Kind.SELF_REBOOT:
                return
            case _:
                screen.host = Host.UP
                screen.app = ProcessStatus.RUNNING
                self._started_app(screen)
        self.healed(screen, fault)

    def healed(self, screen: Screen, fault: Fault) -> None:
        """Let the fault be over."""
        screen.fault = None
        fault.healed = self.timeline.now
        blind = 0.0
        if fault.noticed is not None:
            blind = self.daemon.blind_between(fault.noticed, self.timeline.now)
        self._figures.add(fault, blind)
        if fault.kind is Kind.SERVICE_FAILED:
            at = self.timeline.now + ACKNOWLEDGED_AFTER
            self.timeline.plan(at, self.daemon.service_failed, screen.number, None)

    def end(self) -> None:
        """Count what is still wrong."""
        for screen in self.screens:
            if screen.fault is not None:
                self._figures.add(screen.fault)
        tally, figures = self.daemon.tally, self._figures
        figures.decisions, figures.without_reason = tally.decisions, tally.without_reason
        figures.alarms, figures.reasons = tally.alarms, Counter(tally.reasons)
        figures.incidents = self.daemon.begun


def learned(interval: float, policy: StalePolicy) -> Learned:
    """Return what the daemon has learned of a device that has beaten steadily for long."""
    known = Known("", None, True, Learned(), policy)
    for number in range(60):
        at = moment((number - 60) * interval)
        known.beat(at, Beat(at, at, "0"), START.replace(year=START.year - 1), policy)
    return known.rhythm
