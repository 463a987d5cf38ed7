"""Which faults happen to a fleet, and when. Only chooses; the fleet carries them out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random

from infoscreen.domain.errors import InvalidArguments
from infoscreen.simulator.device import DeviceFault

MOST_PER_HOUR = 3600.0
"""Once a second: more is no fault that a device could still report."""

_NEVER_HOURS = 1e6


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """Which faults happen to the fleet: a share of it once, or each device again and again at a rate.

    Of the shares, a device suffers one fault at most, at some time ``within`` after its start; a share above
    zero means one device at least. ``per_hour`` is how often per hour a fault happens to a device on average,
    at times that nobody can foresee. ``relief_after`` is when after a fault the outside helps (see
    ``SimulatedDevice.relieve``), None for never.
    """

    shares: Mapping[DeviceFault, float] = field(default_factory=dict)
    within: timedelta = timedelta(seconds=60)
    relief_after: timedelta | None = None
    per_hour: Mapping[DeviceFault, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if any(not share >= 0 for share in self.shares.values()) or sum(self.shares.values()) > 1:
            given = ", ".join(f"{fault}={share:g}" for fault, share in self.shares.items())
            raise InvalidArguments(
                f"the shares of the faults are 0 to 1, and at most 1 together; given: {given}"
            )
        for fault, rate in self.per_hour.items():
            if not 0 <= rate <= MOST_PER_HOUR:
                raise InvalidArguments(
                    f"{fault}={rate:g}/h: a rate is 0 to {MOST_PER_HOUR:g} per hour and device"
                )

    def victims(self, clients: int, random: Random) -> dict[int, DeviceFault]:
        """Choose the devices of the shares, by their position in the fleet."""
        order = random.sample(range(clients), clients)
        faults = [
            fault
            for fault, share in self.shares.items()
            for _ in range(max(1, round(share * clients)) if share else 0)
        ]
        return dict(zip(order, faults, strict=False))

    def next_by_rate(self, clients: int, random: Random) -> tuple[timedelta, int, DeviceFault] | None:
        """Choose when, counted from the last one, a fault comes by rate, to which device, and which."""
        rate = sum(self.per_hour.values()) * clients
        if rate == 0:
            return None
        [fault] = random.choices(list(self.per_hour), list(self.per_hour.values()))
        hours = min(random.expovariate(rate), _NEVER_HOURS)
        return timedelta(hours=hours), random.randrange(clients), fault
