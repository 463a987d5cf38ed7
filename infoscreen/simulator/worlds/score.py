"""The score of one world, kept by the truth: what was needless, what came late, what was never cured.

``best`` is written from the rules as documented, not from their code: a device that says it is sick is acted
on at the first poll after its second report in a row that is a grace younger than the first; a silent one
once it, its keepalive and nearly all of its scope would have been missed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from infoscreen.simulator.worlds.device import CRASHED, STOPPED, Device, Fault, Host

if TYPE_CHECKING:
    from infoscreen.simulator.worlds.world import Terms

DISRUPTIVE = frozenset({"restart_app", "reboot_host", "shutdown_host", "power_cycle"})
SLACK = 3.0
"""Seconds that batches and rounding may cost."""

BATCH = 2.5
"""Seconds by which a report's receipt may be dated late."""

SURE_SHARE = 0.95


@dataclass(slots=True)
class Act:
    """Something ordered by the daemon by itself."""

    at: float
    device: int
    action: str
    needless: str | None


@dataclass(slots=True)
class Score:
    """Counts of one world. ``best`` times are by the rules' own waits."""

    devices: Sequence[Device]
    terms: Terms
    acts: list[Act] = field(default_factory=list)
    faults: list[tuple[Device, Fault]] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)
    without_reason: int = 0
    undecided: set[str] = field(default_factory=set)
    humans: set[str] = field(default_factory=set)
    human_calls: list[tuple[float, str, str]] = field(default_factory=list)
    incidents: dict[Any, Mapping[str, Any]] = field(default_factory=dict)
    polls: int = 0
    _blind_from: float | None = None
    _blind: list[tuple[float, float]] = field(default_factory=list)
    _statuses: dict[str, str] = field(default_factory=dict)
    _unwell_since: dict[str, int] = field(default_factory=dict)
    _decided: set[str] = field(default_factory=set)
    _known: set[str] = field(default_factory=set)
    _commands: set[str] = field(default_factory=set)

    # --- told by the world

    def beat(self, device: Device, now: float) -> None:
        """Take notice of a heartbeat that was sent."""
        device.last_beat = now
        device.heard_beats += 1
        if device.boots != device.boot_told:
            device.boot_told, device.boot_seen = device.boots, now
        if device.app in (CRASHED, STOPPED):
            device.sick.append(now)
        else:
            device.sick.clear()

    def began(self, device: Device, fault: Fault) -> None:
        """Take notice of a fault."""
        self.faults.append((device, fault))

    def blind(self, now: float) -> None:
        """Take notice that the daemon cannot see or speak."""
        if self._blind_from is None:
            self._blind_from = now

    def sees(self, now: float) -> None:
        """Take notice that it can again; for twice the longest threshold it may not be sure."""
        if self._blind_from is not None:
            self._blind.append((self._blind_from, now + 2 * self._sure(None)))
            self._blind_from = None

    def ordered(self, device: Device, command: Mapping[str, Any], now: float) -> None:
        """Judge a command that was published."""
        key, action = command["command_id"], command["action"]
        if key in self._commands or command["requested_by"] is not None or action not in DISRUPTIVE:
            return
        self._commands.add(key)
        fault = device.fault
        needless = self._needless(device, fault)
        self.acts.append(Act(now, device.number, action, needless))
        if fault is None or needless:
            return
        best = self._best(device, fault)
        if best is not None:
            fault.late += max(0.0, now - best - self.terms.poll - SLACK)
            fault.best = best if fault.best is None else fault.best
        fault.acted.append(now)

    def cycled(self, device: Device, now: float) -> None:
        """Judge that the daemon cut the power of a device."""
        needless = self._needless(device, device.fault)
        self.acts.append(Act(now, device.number, "power_cycle", needless))
        if device.fault is not None and not needless:
            device.fault.acted.append(now)

    def accepted(self, device: Device, action: str, now: float) -> None:
        """Take notice that a device carries a command out."""

    def answered(self, answer: Mapping[str, Any], now: float) -> None:
        """Take notice of what the daemon thinks."""
        self.polls += 1
        self._statuses |= answer["statuses"]
        for uuid, status in answer["statuses"].items():
            if status in ("online", "never_seen"):
                self._unwell_since.pop(uuid, None)
                self._decided.discard(uuid)
                self.humans.discard(uuid)
            else:
                self._unwell_since.setdefault(uuid, self.polls)
        for decision in answer["decisions"]:
            uuid = decision["client_uuid"]
            self._decided.add(uuid)
            self.reasons[str(decision.get("reason"))] += 1
            if not decision.get("reason") or not decision.get("verb"):
                self.without_reason += 1
            if decision.get("rung") == "human" or decision.get("action") == "human":
                if uuid not in self.humans:
                    self.humans.add(uuid)
                    self.human_calls.append((now, uuid, decision["reason"]))
            elif decision["verb"] != "act":
                # A new try does not end the call by itself.
                self.humans.discard(uuid)
        for incident in answer["incidents"]:
            self.incidents[incident["id"]] = incident
        for uuid, since in self._unwell_since.items():
            if self.polls - since >= 2 and uuid not in self._decided:
                self.undecided.add(uuid)

    # --- the rules, from their description

    def _needless(self, device: Device, fault: Fault | None) -> str | None:
        """Return why an action was one too many, None if it was not."""
        if fault is not None and fault.unknowable:
            return None
        if fault is not None and fault.heals_at is None and device.cut == 0:
            return None
        if device.cut or (fault is not None and fault.kind == "network"):
            return "cut off"
        if fault is not None:
            return f"{fault.kind} would have passed by itself"
        return "healthy" if device.is_well else "on its way up"

    def threshold(self, device: Device) -> float:
        """Return about after how long a silence a device is missed."""
        if device.heard_beats < 6:
            return max(self.terms.stale_unknown, 3 * device.interval)
        spread = device.interval * (device.jitter + 2 * device.lost)
        return max(self.terms.stale_minimum, 3 * device.interval + 2 * spread)

    def _sure(self, site: str | None) -> float:
        found = sorted(self.threshold(one) for one in self.devices if site is None or one.site == site)
        return found[min(len(found) - 1, int(SURE_SHARE * len(found)))] if found else 0.0

    def _best(self, device: Device, fault: Fault) -> float | None:
        """Return when the next action was due at the earliest; None when that cannot be said."""
        waits = {"restart_app": self.terms.restart_wait, "reboot_host": self.terms.reboot_wait}
        due = self._after_blindness(fault.began)
        mine = [act for act in self.acts[:-1] if act.device == device.number and act.at >= fault.began]
        if mine:
            due = max(due, mine[-1].at + waits.get(mine[-1].action, 900.0))
        if len(mine) >= 2:
            # The lockout keeps its last place for people.
            due = max(due, mine[-2].at + self.terms.lockout_window)
        if device.host in (Host.HUNG, Host.DEAF):
            if device.last_beat is None:
                return None
            evidence = 1.5 * (device.keepalive if device.announces else 300.0)
            missed = max(self.threshold(device), self._sure(None))
            return self._after_blindness(
                max(due, device.last_beat + max(evidence, missed) + self.terms.grace)
            )
        if len(device.sick) < 2:
            return None
        first = device.sick[0]
        enough = [at for at in device.sick[1:] if at >= first + self.terms.grace + BATCH]
        if not enough:
            return None
        due = max(due, enough[0])
        if device.boots:
            # The report that counts is the first after the boot's own grace.
            young = device.boot_seen + self.terms.boot_grace
            if enough[0] < young:
                due = max(due, next((at for at in enough if at >= young), young + device.interval))
        return self._after_blindness(due)

    def _after_blindness(self, at: float) -> float:
        for begin, end in self._blind:
            if begin <= at < end:
                at = end
        return at

    # --- the outcome

    def recoverable(self) -> list[tuple[Device, Fault]]:
        """Return the faults that a command can cure and that do not pass by themselves."""
        return [
            (device, fault)
            for device, fault in self.faults
            if fault.heals_at is None
            and (
                (
                    fault.cured_by in ("restart_app", "reboot_host")
                    and fault.kind in ("crash", "service_failed", "stopped", "starting", "hang")
                )
                or (fault.cured_by == "power_cycle" and device.has_outlet and fault.kind in ("dead", "deaf"))
            )
        ]
