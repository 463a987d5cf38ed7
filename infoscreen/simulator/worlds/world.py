"""The world: time, the network between devices and broker, and the answers to commands."""

import heapq
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from random import Random
from typing import Any

from infoscreen.simulator.worlds.device import (
    CRASHED,
    CURES,
    GOING_DOWN,
    RUNNING,
    STARTING,
    STOPPED,
    Device,
    Fault,
    Host,
)
from infoscreen.simulator.worlds.score import Score

ZERO = datetime(2026, 1, 1, tzinfo=UTC)
"""What 0 on the world's clock is, as in ``docs/judge.md``."""

OFF_SECONDS = 10.0
"""How long the power is away in a power cycle."""

Line = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Terms:
    """What world and daemon have agreed on: the settings that the score needs, in seconds."""

    poll: float = 15.0
    grace: float = 60.0
    stale_minimum: float = 45.0
    stale_unknown: float = 180.0
    restart_wait: float = 120.0
    reboot_wait: float = 900.0
    boot_grace: float = 300.0
    lockout_window: float = 900.0


class World:
    """A fleet and what happens to it. Ask for ``lines`` until a time, and hand in the answer to each poll."""

    def __init__(self, devices: Sequence[Device], seed: str, terms: Terms | None = None) -> None:
        self.devices = list(devices)
        self.random = Random(seed)
        self.terms = terms or Terms()
        self.now = 0.0
        self.score = Score(self.devices, self.terms)
        self.reconnects_within = 20.0
        self.broker_up = True
        self.mute_commands = False
        """Commands reach nobody, though the broker takes them."""
        self.bursting: Mapping[int, float] = {}
        """Devices, by number, that hold their heartbeats back for so long and send them at once."""
        self._held: dict[int, list[Line]] = {}
        self._by_uuid = {device.uuid: device for device in self.devices}
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = count()
        self._lines: list[Line] = []
        self._kept: dict[int, Line] = {}
        self._seen: dict[int, set[str]] = {}
        for device in self.devices:
            self.later(self.random.uniform(0, min(device.interval, 60)), self._first_start, device)

    # --- time

    def at(self, when: float, step: Callable[..., None], *arguments: Any) -> None:
        """Plan a step."""
        heapq.heappush(self._heap, (max(when, self.now), next(self._order), step, arguments))

    def later(self, after: float, step: Callable[..., None], *arguments: Any) -> None:
        """Plan a step in so many seconds."""
        self.at(self.now + after, step, *arguments)

    def lines(self, until: float) -> list[Line]:
        """Let time pass, and return what is said meanwhile."""
        heap = self._heap
        while heap and heap[0][0] <= until:
            self.now, _, step, arguments = heapq.heappop(heap)
            step(*arguments)
        self.now = until
        lines, self._lines = self._lines, []
        return lines

    def stamp(self, at: float) -> str:
        """Return a time as devices write it."""
        return (ZERO + timedelta(seconds=at)).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def tell(self, kind: str, **fields: Any) -> None:
        """Say a line that is no device's message."""
        self._lines.append({"at": round(self.now, 3), "kind": kind, **fields})

    def say(self, device: Device, topic: str, payload: object, *, retain: bool = False) -> None:
        """Have a device say something, if the broker is there."""
        if not self.broker_up or device.removed:
            return
        line: Line = {
            "at": round(self.now, 3),
            "kind": "message",
            "topic": f"infoscreen/{device.uuid}/{topic}",
            "payload": payload,
        }
        if retain:
            line["retain"] = True
        if device.number in self.bursting and topic == "heartbeat":
            held = self._held.setdefault(device.number, [])
            held.append(line)
            if len(held) == 1:
                self.later(self.bursting[device.number], self._burst, device.number)
            return
        self._lines.append(line)

    def _burst(self, number: int) -> None:
        self._lines += [{**line, "at": round(self.now, 3)} for line in self._held.pop(number)]

    # --- connections and heartbeats

    def _first_start(self, device: Device) -> None:
        device.booted = self.now - self.random.uniform(3_600, 90_000)
        device.app_started = device.booted + 20
        if device.site is not None or device.power:
            told = {"uuid": device.uuid, "site": device.site}
            self.tell("client", **told, **({"power": device.power} if device.power else {}))
        self.connect(device, device.link)

    def connect(self, device: Device, link: int) -> None:
        """Have a device connect, unless something has happened to it since this was planned."""
        if link != device.link or device.connected or device.cut or not self.broker_up:
            return
        if device.host is not Host.UP:
            return
        device.connected = True
        device.link += 1
        device.last_packet = self.now
        self.say(device, "presence", "online")
        told: dict[str, Any] = {"uuid": device.uuid, "hostname": f"screen-{device.number}"}
        told["capabilities"] = ["restart_app", "reboot_host", "shutdown_host"]
        if device.announces:
            told["keepalive_seconds"] = int(device.keepalive)
        self.say(device, "discovery", told)
        if device.fault is not None and device.fault.kind == "service_failed":
            self.show(device, device.fault)
        self.beat(device)
        self._plan_beat(device)
        kept = self._kept.pop(device.number, None)
        if kept is not None and self.now < kept["expires"]:
            self.later(1.0, self._hear, device, kept["command"])

    def beat(self, device: Device) -> None:
        """Send one heartbeat now."""
        device.last_packet = self.now
        self.score.beat(device, self.now)
        self.say(device, "heartbeat", device.beat_body(self))

    def _plan_beat(self, device: Device) -> None:
        device.beats_planned += 1
        wait = device.interval * (1 + self.random.uniform(-device.jitter, device.jitter))
        self.later(wait, self._beat_due, device, device.beats_planned)

    def _beat_due(self, device: Device, plan: int) -> None:
        if plan != device.beats_planned or device.host is not Host.UP or not device.connected:
            return
        if device.lost == 0 or self.random.random() >= device.lost:
            self.beat(device)
        self._plan_beat(device)

    def cut(self, device: Device) -> None:
        """Take the network away, for one more reason; the broker notices by the keepalive."""
        device.cut += 1
        if device.connected:
            self._lose(device)

    def _lose(self, device: Device) -> None:
        device.connected = False
        device.link += 1
        device.beats_planned += 1
        # A client pings when it has said nothing for a keepalive.
        quiet = (self.now - device.last_packet) % device.keepalive
        self.later(1.5 * device.keepalive - quiet, self._last_will, device, device.link)

    def _last_will(self, device: Device, link: int) -> None:
        if link == device.link:
            self.say(device, "presence", "offline")

    def mend(self, device: Device, within: float | None = None) -> None:
        """Take one reason away; after the last the device connects in its own time."""
        device.cut -= 1
        if device.cut == 0:
            self.reconnect(device, within)

    def reconnect(self, device: Device, within: float | None = None) -> None:
        """Have a device connect soon."""
        if device.host is Host.UP:
            most = self.reconnects_within if within is None else within
            self.later(self.random.uniform(1, max(1.5, most)), self.connect, device, device.link)

    def leave(self, device: Device) -> None:
        """End the connection in order."""
        if device.connected:
            self.say(device, "presence", "offline")
        device.connected = False
        device.link += 1
        device.beats_planned += 1

    # --- hosts and applications

    def go_down(self, device: Device, *, orderly: bool = True) -> None:
        """Halt."""
        device.life += 1
        if orderly:
            self.leave(device)
        elif device.connected:
            self._lose(device)
        device.host = Host.DOWN

    def boot(self, device: Device, life: int, cure: str | None = None, command: str | None = None) -> None:
        """Be up again; the application starts a little later. ``cure`` is the action that did it."""
        if life != device.life:
            return
        device.host = Host.UP
        device.boots += 1
        device.booted = self.now
        device.becomes(CRASHED if device.says_crashed_at_boot else STARTING)
        self.connect(device, device.link)
        after = device.start_seconds + device.says_crashed_at_boot
        self.later(after, self._app_up, device, life, cure, command)

    def restart(self, device: Device, cure: str | None = None, command: str | None = None) -> None:
        """Start the application again."""
        device.life += 1
        device.becomes(STARTING)
        self.later(device.start_seconds, self._app_up, device, device.life, cure, command)

    def _app_up(self, device: Device, life: int, cure: str | None, command: str | None) -> None:
        if life != device.life:
            return
        device.pid += self.random.randint(1, 400)
        device.app_started = self.now
        device.becomes(RUNNING)
        if command is not None and device.connected:
            self._ack(device, command, "completed")
        fault = device.fault
        if fault is not None and cure is not None:
            if CURES.index(cure) >= CURES.index(fault.cured_by):
                self.heal(device, fault)
                if device.connected:
                    self.beat(device)
                return
            self.later(fault.again_after, self._again, device, life, fault)
        if device.connected:
            self.beat(device)

    def _again(self, device: Device, life: int, fault: Fault) -> None:
        if life == device.life and device.fault is fault:
            self.show(device, fault)

    # --- faults

    def strike(self, device: Device, fault: Fault) -> bool:
        """Let something be wrong with a device; one that has another fault is spared."""
        if not device.is_well or device.removed:
            return False
        device.fault = fault
        self.score.began(device, fault)
        if fault.heals_at is not None:
            self.at(fault.heals_at, self._passes, device, fault)
        self.show(device, fault)
        return True

    def show(self, device: Device, fault: Fault) -> None:
        """Let a fault show, at first and again after a cure that was too mild."""
        match fault.kind:
            case "crash":
                device.becomes(CRASHED)
            case "service_failed":
                device.becomes(STOPPED)
                failed = {
                    "event": "service_failed",
                    "unit": "infoscreen-app.service",
                    "client_uuid": device.uuid,
                }
                failed |= {"failed_at": self.stamp(self.now + device.skew), "result": "start-limit-hit"}
                if device.connected:
                    self.say(device, "service_failed", failed)
            case "stopped" | "starting":
                device.becomes(fault.kind)
            case "hang":
                device.host = Host.HUNG
            case "deaf":
                device.host = Host.DEAF
            case "dead":
                self.go_down(device, orderly=False)
            case "off":
                self.go_down(device, orderly=True)
            case "network":
                self.cut(device)
            case _:
                raise AssertionError(fault.kind)

    def _passes(self, device: Device, fault: Fault) -> None:
        """Let a fault be over by itself, unless it has been cured."""
        if device.fault is not fault:
            return
        match fault.kind:
            case "network":
                self.heal(device, fault)
                self.mend(device)
            case "dead" | "off":
                self.heal(device, fault)
                self.boot(device, device.life)
            case "hang" | "deaf":
                device.host = Host.UP
                self.heal(device, fault)
                if device.connected:
                    self.beat(device)
                    self._plan_beat(device)
                else:
                    self.reconnect(device)
            case _:
                self.heal(device, fault)
                device.life += 1
                device.app_started = self.now
                device.pid += 1
                device.becomes(RUNNING)

    def heal(self, device: Device, fault: Fault) -> None:
        """Let the fault be over."""
        device.fault = None
        fault.healed = self.now
        if fault.kind == "service_failed" and device.connected:
            self.say(device, "service_failed", "")

    # --- the broker and our own connections

    def stop_broker(self) -> None:
        """Take the broker away, from devices and daemon alike."""
        self.broker_up = False
        self.score.blind(self.now)
        self.tell("broker", connected=False)
        self.tell("publisher", connected=False)
        for device in self.devices:
            device.connected = False
            device.link += 1
            device.beats_planned += 1

    def start_broker(self) -> None:
        """Bring the broker back."""
        self.broker_up = True
        self.tell("broker", connected=True)
        self.tell("publisher", connected=True)
        self.score.sees(self.now)
        for device in self.devices:
            if not device.cut:
                self.reconnect(device)

    def line(self, kind: str, *, up: bool) -> None:
        """Lose or get back our own connection (``broker``, ``publisher``) or the daemon itself."""
        (self.score.sees if up else self.score.blind)(self.now)
        self.tell(kind, **{"running" if kind == "daemon" else "connected": up})

    # --- answers

    def answered(self, answer: Line) -> None:
        """Take the answer to a poll: devices hear what was published."""
        self.score.answered(answer, self.now)
        for message in answer["published"]:
            _, uuid, *tail = message["topic"].split("/")
            device = self._by_uuid.get(uuid)
            if device is None or tail != ["commands"]:
                continue
            command = message["payload"]
            self.score.ordered(device, command, self.now)
            if device.hears:
                self.later(self.random.uniform(0.1, 1.5), self._hear, device, command)
            elif device.persistent:
                expires = (datetime.fromisoformat(command["expires_at"]) - ZERO).total_seconds()
                self._kept[device.number] = {"command": command, "expires": expires}

        for cycle in answer.get("power_cycles", ()):
            self._cycled(cycle)

    def _cycled(self, cycle: Line) -> None:
        """Let the power of devices go and come back; all of them boot."""
        for uuid in cycle["switched"]:
            device = self._by_uuid.get(uuid)
            if device is not None and not device.removed:
                self.score.cycled(device, self.now)
                self.go_down(device, orderly=False)
                self.later(OFF_SECONDS + device.boot_seconds, self.boot, device, device.life, "power_cycle")

    def _hear(self, device: Device, command: Line) -> None:
        if not device.hears or not self.broker_up or self.mute_commands:
            return
        seen = self._seen.setdefault(device.number, set())
        key = command["command_id"]
        if key in seen:
            return
        seen.add(key)
        if device.refuses is not None:
            self._ack(device, key, "failed", device.refuses)
            return
        self._ack(device, key, "accepted")
        self._ack(device, key, "execution_started")
        self.score.accepted(device, command["action"], self.now)
        match command["action"]:
            case "restart_app":
                self.restart(device, "restart_app", key)
            case "reboot_host":
                self.go_down(device)
                boots_in = GOING_DOWN + device.boot_seconds
                self.later(boots_in, self.boot, device, device.life, "reboot_host", key)
            case "shutdown_host":
                self.go_down(device)
            case _:
                pass  # screenshots and the like

    def _ack(self, device: Device, key: str, status: str, error: str | None = None) -> None:
        told = {"command_id": key, "status": status, "error_code": error, "error_message": error}
        body = json.dumps(told)
        for topic in ("commands/ack", "command/ack"):
            self.say(device, topic, body)


def some(random: Random, devices: Iterable[Device], many: int) -> list[Device]:
    """Return so many of the devices, in no order."""
    pool = list(devices)
    return random.sample(pool, min(many, len(pool)))
