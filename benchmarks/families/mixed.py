"""Mixes what the other families have by itself: a world of any ingredients, with what is wanted in it.

``mixed`` makes a case of plain data, so that a generator can draw, shrink and write down what it draws.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from random import Random

from benchmarks.families.case import Case, Wanted, fleet, outage, own, shared
from infoscreen.simulator.worlds import Device, World

HOUR = 3_600.0
FIRST = 900.0
"""Nothing happens before: rhythms are learned first."""


@dataclass(frozen=True, slots=True)
class Ingredient:
    """Something that happens: to ``share`` of the fleet (0: to one device), from ``at`` on, for ``lasts``.

    ``within`` is the time in which it begins for all of them, ``variant`` picks among kinds of the same.
    Seconds, from ``FIRST`` on.
    """

    what: str
    at: float
    share: float = 0.0
    lasts: float = 600.0
    within: float = 0.0
    variant: int = 0


@dataclass(frozen=True, slots=True)
class Mix:
    """A fleet and what happens to it."""

    size: int
    ingredients: tuple[Ingredient, ...]
    intervals: tuple[float, ...] = (30.0,)
    keepalive: float = 60.0
    jitter: float = 0.02
    lost: float = 0.0
    site_size: int = 0
    without_site: float = 0.0
    """The share of devices that have no site although others do."""
    seed: int = 0


class _Kitchen:
    """What the ingredients work on; no device takes part in two of them."""

    def __init__(self, mix: Mix) -> None:
        self.random = Random(mix.seed)
        devices = fleet(
            self.random,
            mix.size,
            intervals=mix.intervals,
            keepalives=(mix.keepalive,),
            site_size=mix.site_size,
        )
        for device in devices:
            device.jitter, device.lost = mix.jitter, mix.lost
            if mix.without_site and self.random.random() < mix.without_site:
                device.site = None
        self.world = World(devices, str(mix.seed))
        self.free = list(devices)
        self.random.shuffle(self.free)
        self.causes = 0
        self.late = 1.0
        self.settles = 0.0
        """When all that was planned is over."""

    def some(self, share: float) -> list[Device]:
        count = max(1, min(len(self.free), int(share * len(self.world.devices))))
        taken, self.free = self.free[:count], self.free[count:]
        return taken

    def blind(self, seconds: float) -> None:
        """Note that it cannot see, or cannot speak, for so long; that delays whatever happens then."""
        self.late = max(self.late, seconds + 900)

    def each(self, one: Ingredient, happen: Callable[[Device, float], None]) -> int:
        hit = self.some(one.share)
        for device in hit:
            at = FIRST + one.at + self.random.uniform(0, one.within)
            self.world.at(at, happen, device, at)
        self.settles = max(self.settles, FIRST + one.at + one.within + one.lasts)
        return len(hit)


SINGLE = (
    ("crash", "restart_app"),
    ("service_failed", "restart_app"),
    ("hang", "reboot_host"),
    ("crash", "reboot_host"),
)


def _single(kitchen: _Kitchen, one: Ingredient) -> None:
    kind, cure = SINGLE[one.variant % len(SINGLE)]
    kitchen.each(replace(one, share=0), lambda device, _: own(kitchen.world, device, kind, cure))


def _dead(kitchen: _Kitchen, one: Ingredient) -> None:
    kitchen.causes += kitchen.each(one, lambda device, _: own(kitchen.world, device, "dead", "human"))


def _outage(kitchen: _Kitchen, one: Ingredient) -> None:
    kitchen.causes += 1
    hit = kitchen.some(one.share)
    outage(kitchen.world, hit, FIRST + one.at, one.lasts, one.within, kitchen.random, "cut")
    kitchen.settles = max(kitchen.settles, FIRST + one.at + one.within + one.lasts)


def _reboots(kitchen: _Kitchen, one: Ingredient) -> None:
    kitchen.causes += 1
    most = min(one.lasts, 840)
    kinds = ("dead", "off")

    def reboot(device: Device, _: float) -> None:
        lasts = kitchen.random.uniform(30, max(31.0, most))
        shared(kitchen.world, device, kinds[one.variant % 2], "reboots", lasts, "human")

    kitchen.each(one, reboot)


def _blips(kitchen: _Kitchen, one: Ingredient) -> None:
    kinds = ("crash", "stopped")

    def blip(device: Device, _: float) -> None:
        lasts = kitchen.random.uniform(5, 50)
        shared(kitchen.world, device, kinds[one.variant % 2], "update", lasts, "human")

    kitchen.each(one, blip)


def _mass(kitchen: _Kitchen, one: Ingredient) -> None:
    kitchen.causes += 1
    cure = ("restart_app", "human")[one.variant % 2]
    count = kitchen.each(one, lambda device, _: shared(kitchen.world, device, "crash", "mass", None, cure))
    if cure == "human" and count < 3:
        kitchen.causes += count


def _loops(kitchen: _Kitchen, one: Ingredient) -> None:
    every = (90.0, 300.0, 900.0)[one.variant % 3]
    end = FIRST + one.at + one.lasts

    def crash(device: Device, _: float) -> None:
        # One that beats more rarely may report two of its crashes in a row, which nobody can tell from one.
        if kitchen.world.now < end and device.interval <= 30:
            shared(kitchen.world, device, "crash", "loop", kitchen.random.uniform(5, 40), "human")
            kitchen.world.later(every * kitchen.random.uniform(0.9, 1.1) + 40, crash, device, 0.0)

    kitchen.each(one, crash)


def _broker(kitchen: _Kitchen, one: Ingredient) -> None:
    kitchen.causes += 2
    lasts = min(one.lasts, HOUR)
    kitchen.blind(lasts)
    kitchen.world.at(FIRST + one.at, kitchen.world.stop_broker)
    kitchen.world.at(FIRST + one.at + lasts, kitchen.world.start_broker)
    kitchen.settles = max(kitchen.settles, FIRST + one.at + lasts)


def _connection(kitchen: _Kitchen, one: Ingredient) -> None:
    kitchen.causes += 2
    kind = ("broker", "publisher", "daemon")[one.variant % 3]
    kitchen.blind(one.lasts)
    kitchen.world.at(FIRST + one.at, lambda: kitchen.world.line(kind, up=False))
    kitchen.world.at(FIRST + one.at + one.lasts, lambda: kitchen.world.line(kind, up=True))
    kitchen.settles = max(kitchen.settles, FIRST + one.at + one.lasts)


def _clock(kitchen: _Kitchen, one: Ingredient) -> None:
    kitchen.blind(420)
    by = (-86_400, -21_600, -60, 60, 3_600, 86_400)[one.variant % 6]
    kitchen.world.at(FIRST + one.at, lambda: kitchen.world.tell("clock", step_seconds=by))


def _mute(kitchen: _Kitchen, one: Ingredient) -> None:
    """Commands reach nobody for a while."""
    kitchen.causes += 1
    kitchen.blind(one.lasts + HOUR)
    for at, muted in ((one.at, True), (one.at + one.lasts, False)):
        kitchen.world.at(FIRST + at, setattr, kitchen.world, "mute_commands", muted)
    kitchen.settles = max(kitchen.settles, FIRST + one.at + one.lasts + HOUR)


def _refuse(kitchen: _Kitchen, one: Ingredient) -> None:
    code = ("expired", "busy", "unsupported", "dry_run")[one.variant % 4]

    def refuse(device: Device, _: float) -> None:
        device.refuses = code
        shared(kitchen.world, device, "crash", "refuses", None, "human")

    kitchen.causes += kitchen.each(one, refuse)


def _remove(kitchen: _Kitchen, one: Ingredient) -> None:
    def remove(device: Device, _: float) -> None:
        device.removed = True
        kitchen.world.go_down(device)
        kitchen.world.tell("remove", uuid=device.uuid)

    kitchen.each(one, remove)


def _garbled(kitchen: _Kitchen, one: Ingredient) -> None:
    def garble(device: Device, at: float) -> None:
        if kitchen.world.now >= at + one.lasts:
            device.said = None
            return
        device.said = '"process_status":7}'
        kitchen.world.later(1.0, garble, device, at)

    kitchen.each(one, garble)


def _operator(kitchen: _Kitchen, one: Ingredient) -> None:
    """Operators reboot, restart, pause and maintain clients with which nothing is wrong."""
    world = kitchen.world
    acts: tuple[Callable[[str], None], ...] = (
        lambda uuid: world.tell("request", uuid=uuid, action="reboot_host"),
        lambda uuid: world.tell("request", uuid=uuid, action="restart_app"),
        lambda uuid: world.tell("request", uuid=uuid, action="shutdown_host"),
        lambda uuid: world.tell("maintenance", uuid=uuid, seconds=one.lasts),
        lambda uuid: world.tell("pause", uuid=uuid, seconds=one.lasts),
    )
    kitchen.each(one, lambda device, _: acts[one.variant % len(acts)](device.uuid))


def _flap(kitchen: _Kitchen, one: Ingredient) -> None:
    """Devices are cut off for some minutes, again and again, each in its own time."""
    hit = kitchen.some(one.share)
    rounds = 2 + one.variant % 4
    kitchen.causes += rounds if len(hit) > 1 else 0
    for device in hit:
        at = FIRST + one.at + kitchen.random.uniform(0, one.within)
        for _ in range(rounds):
            lasts = kitchen.random.uniform(60, 300)
            outage(kitchen.world, [device], at, lasts, 0, kitchen.random, "flap")
            at += lasts + kitchen.random.uniform(60, 400)
        kitchen.settles = max(kitchen.settles, at)


def _skew(kitchen: _Kitchen, one: Ingredient) -> None:
    """The device's clock is set to anything; nothing else is wrong."""
    by = (-86_400.0 * 400, -3_600.0, -90.0, 90.0, 3_600.0, 86_400.0 * 400)[one.variant % 6]

    def skew(device: Device, _: float) -> None:
        device.skew, device.said = by, None

    kitchen.each(one, skew)


def _join(kitchen: _Kitchen, one: Ingredient) -> None:
    """Devices that were not there before."""
    for device in kitchen.some(one.share):
        device.cut = 1
        at = FIRST + one.at + kitchen.random.uniform(0, one.within)
        kitchen.world.at(at, kitchen.world.mend, device)
        kitchen.settles = max(kitchen.settles, at + 1_800)


def _slower(kitchen: _Kitchen, one: Ingredient) -> None:
    """Devices beat more slowly, or faster, from now on."""
    factor = (0.4, 1.5, 2.0, 2.5)[one.variant % 4]

    def change(device: Device, _: float) -> None:
        device.interval = min(300.0, device.interval * factor)

    kitchen.each(one, change)


def _deaf(kitchen: _Kitchen, one: Ingredient) -> None:
    """Hosts hang and hear nothing; the connection stands."""
    kitchen.causes += kitchen.each(one, lambda device, _: own(kitchen.world, device, "deaf", "human"))


def _again(kitchen: _Kitchen, one: Ingredient) -> None:
    """One device is in trouble again soon, as often as the ladder has rungs; a restart cures it each time."""
    kind, times = (("crash", 3), ("service_failed", 2))[one.variant % 2]

    def again(device: Device, left: int) -> None:
        own(kitchen.world, device, kind, "restart_app")
        if left > 1:
            kitchen.world.later(kitchen.random.uniform(1_500, 2_500), again, device, left - 1)

    kitchen.each(replace(one, share=0), lambda device, _: again(device, times))
    kitchen.settles = max(kitchen.settles, FIRST + one.at + one.within + 5_500)


def _boots(kitchen: _Kitchen, one: Ingredient) -> None:
    """Power goes and comes back; what boots says that it has crashed for a while."""
    kitchen.causes += 1
    hit = kitchen.some(one.share)
    for device in hit:
        device.says_crashed_at_boot = (25.0, 90.0, 200.0)[one.variant % 3]
        at = FIRST + one.at + kitchen.random.uniform(0, min(one.within, 20))
        lasts = one.lasts + kitchen.random.uniform(0, 20)
        kitchen.world.at(at, shared, kitchen.world, device, "dead", "power", lasts, "human")
    kitchen.causes += len(hit) if len(hit) < 3 and one.lasts > 800 else 0
    kitchen.settles = max(kitchen.settles, FIRST + one.at + one.lasts + 600)


def _dismiss(kitchen: _Kitchen, one: Ingredient) -> None:
    """An operator dismisses all incidents; people are called for each client from then on."""
    kitchen.causes += len(kitchen.world.devices)
    kitchen.world.at(FIRST + one.at + one.lasts, lambda: kitchen.world.tell("dismiss"))


INGREDIENTS: Mapping[str, Callable[[_Kitchen, Ingredient], None]] = {
    "single": _single,
    "dead": _dead,
    "outage": _outage,
    "reboots": _reboots,
    "blips": _blips,
    "mass": _mass,
    "loops": _loops,
    "broker": _broker,
    "connection": _connection,
    "clock": _clock,
    "mute": _mute,
    "refuse": _refuse,
    "remove": _remove,
    "garbled": _garbled,
    "operator": _operator,
    "flap": _flap,
    "skew": _skew,
    "join": _join,
    "slower": _slower,
    "deaf": _deaf,
    "again": _again,
    "boots": _boots,
    "dismiss": _dismiss,
}


def mixed(mix: Mix) -> Case:
    """Return the case of a mix; the same mix makes the same world."""
    kitchen = _Kitchen(mix)
    for one in mix.ingredients:
        if kitchen.free:
            INGREDIENTS[one.what](kitchen, one)
    # Long enough for a ladder to its reboot after the last thing is over.
    lasts = max(kitchen.settles, FIRST) + 1.2 * HOUR
    return Case("mixed", mix.seed, kitchen.world, lasts, Wanted(late=kitchen.late, causes=kitchen.causes))
