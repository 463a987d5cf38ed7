"""A world with what is wanted in it, and how far it was reached."""

from dataclasses import dataclass, field
from random import Random
from typing import Any

from infoscreen.simulator.worlds import Device, Fault, World


@dataclass(slots=True)
class Wanted:
    """What counts as kept promise.

    ``late`` is the most seconds that the actions of one fault may come later than the configured waits
    demand (one poll and the batches are allowed for already). ``causes`` is the most alarms: incidents that
    are opened and calls for a human, None for no limit. ``actions`` bounds all of them. ``over_within`` is
    for mass faults: all cured within so many seconds of their beginning.
    """

    needless: int = 0
    late: float = 1.0
    cured: bool = True
    causes: int | None = None
    actions: int | None = None
    over_within: float | None = None
    at_all: int | None = None
    """Actions that must be made at least."""


@dataclass(slots=True)
class Case:
    """One world of a family."""

    family: str
    seed: int
    world: World
    lasts: float
    wanted: Wanted = field(default_factory=Wanted)
    settings: dict[str, object] = field(default_factory=dict)

    def failures(self) -> list[str]:
        """Return what was not kept, in words; call it after the world was played."""
        score, wanted, found = self.world.score, self.wanted, []
        needless = [act for act in score.acts if act.needless]
        if len(needless) > wanted.needless:
            first = needless[0]
            found.append(
                f"{len(needless)} needless actions, the first at {first.at:.0f} s: {first.action} of device "
                f"{first.device} ({first.needless})"
            )
        if wanted.actions is not None and len(score.acts) > wanted.actions:
            found.append(f"{len(score.acts)} actions, at most {wanted.actions} wanted")
        if wanted.at_all is not None and len(score.acts) < wanted.at_all:
            found.append(f"{len(score.acts)} actions, at least {wanted.at_all} wanted")
        found += self._late_or_never()
        if score.without_reason:
            found.append(f"{score.without_reason} decisions without a reason")
        if score.undecided:
            found.append(
                f"{len(score.undecided)} unwell clients without any decision: {min(score.undecided)}"
            )
        alarms = self.alarms()
        if wanted.causes is not None and alarms > wanted.causes:
            kinds = sorted(str(one["kind"]) for one in score.incidents.values())
            found.append(
                f"{alarms} alarms ({len(kinds)} incidents {kinds[:4]}, {len(score.human_calls)} calls for a "
                f"human), {wanted.causes} causes"
            )
        return found

    def alarms(self) -> int:
        """Return how often people were told of something."""
        return len(self.world.score.incidents) + len(self.world.score.human_calls)

    def _late_or_never(self) -> list[str]:
        score, wanted, found = self.world.score, self.wanted, []
        end = self.lasts - 2_400
        own = [(device, fault) for device, fault in score.recoverable() if fault.began < end]
        never = [(device, fault) for device, fault in own if fault.healed is None]
        if never and wanted.cured:
            device, fault = never[0]
            found.append(
                f"{len(never)} of {len(own)} recoverable faults never cured, one: {fault.kind} of device "
                f"{device.number} since {fault.began:.0f} s (cure {fault.cured_by}), acted at {fault.acted}"
            )
        late = [(fault.late, device, fault) for device, fault in own if fault.cause is None and fault.acted]
        if late:
            worst, device, fault = max(late, key=lambda one: one[0])
            if worst > wanted.late:
                found.append(
                    f"{sum(one > wanted.late for one, _, _ in late)} of {len(late)} recovered late, most by "
                    f"{worst:.0f} s: {fault.kind} of device {device.number} at {fault.began:.0f} s, first "
                    f"possible {fault.best or 0:.0f}, acted at {[round(at) for at in fault.acted]}"
                )
        if wanted.over_within is not None:
            slow = [
                (device, fault)
                for device, fault in own
                if fault.cause and (fault.healed or 1e9) > fault.began + wanted.over_within
            ]
            if slow:
                found.append(f"{len(slow)} of the mass fault not over within {wanted.over_within:.0f} s")
        return found


def fleet(
    random: Random,
    size: int,
    *,
    intervals: tuple[float, ...] = (30.0,),
    keepalives: tuple[float, ...] = (60.0,),
    site_size: int = 0,
    **same: object,
) -> list[Device]:
    """Return devices, alike but for what is drawn from the given."""
    devices = []
    for number in range(size):
        device = Device(
            number=number,
            uuid=f"{random.getrandbits(32):08x}-0000-4000-8000-{number:012x}",
            interval=random.choice(intervals),
            keepalive=random.choice(keepalives),
            boot_seconds=random.uniform(30, 60),
            start_seconds=random.uniform(4, 12),
            ip=f"10.{number // 16384 % 256}.{number // 64 % 256}.{number % 64 + 1}",
            site=f"site-{number // site_size}" if site_size else None,
        )
        for name, value in same.items():
            setattr(device, name, value)
        devices.append(device)
    return devices


def fleet_world(random: Random, size: int, **more: Any) -> World:
    """Return a world of such a fleet; ``more`` is for ``fleet``."""
    return World(fleet(random, size, **more), str(random.random()))


def singles(
    world: World,
    random: Random,
    begin: float,
    end: float,
    crashes: int = 4,
    failures: int = 2,
    hangs: int = 2,
    among: list[Device] | None = None,
) -> None:
    """Plan single faults of devices' own, a restart or reboot cures them, at any time in between."""
    kinds = ["crash"] * crashes + ["service_failed"] * failures + ["hang"] * hangs
    pool = random.sample(among or world.devices, min(len(kinds), len(among or world.devices)))
    for kind, device in zip(kinds, pool, strict=False):
        at = random.uniform(begin, end)
        cure = "reboot_host" if kind == "hang" else "restart_app"
        world.at(at, own, world, device, kind, cure)


def own(world: World, device: Device, kind: str, cure: str, **more: Any) -> None:
    """Begin a fault of the device's own now."""
    world.strike(device, Fault(kind, world.now, cure, **more))


def shared(world: World, device: Device, kind: str, cause: str, lasts: float | None, cure: str) -> None:
    """Begin a fault that the device shares with others now."""
    heals = None if lasts is None else world.now + lasts
    world.strike(device, Fault(kind, world.now, cure, heals, cause=cause))


def outage(
    world: World, devices: list[Device], at: float, lasts: float, within: float, random: Random, cause: str
) -> None:
    """Cut devices off, one after the other within some time, for as long, each for itself."""
    for device in devices:
        begin = at + (random.uniform(0, within) if within else 0)
        world.at(begin, shared, world, device, "network", cause, lasts, "human")
