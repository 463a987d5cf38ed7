"""Outlets of a world: switched by the daemon's own services, in no time of the world's clock."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from infoscreen.clock import Clock, ClockStep
from infoscreen.domain.errors import PowerError
from infoscreen.domain.power import Capabilities, Outlet, OutletIdentity, PowerFault, PowerState, Reading
from infoscreen.domain.power.configuration import ClientPower
from infoscreen.judge.lines import BadLine, Line, flag_of, optional_text
from infoscreen.services.power.cycles import PowerCycles
from infoscreen.storage import commands, power
from infoscreen.storage.engine import Store

ANSWERS = ("yes", "no", "lies")
"""Whether an outlet answers, and does what it is told."""

DRIVER = "world"


@dataclass(frozen=True, slots=True)
class Cycled:
    """A power cycle that ended; ``switched`` are the clients whose power was cut and restored."""

    client_uuid: str
    status: str
    error_code: str | None
    switched: tuple[str, ...]

    def told(self) -> dict[str, Any]:
        """Return it as the answer to a poll has it."""
        return {
            "client_uuid": self.client_uuid,
            "status": self.status,
            "error_code": self.error_code,
            "switched": list(self.switched),
        }


class CycleClock:
    """The world's wall time, beside a monotonic one on which sleeping takes no time."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._slept = 0.0

    def now(self) -> datetime:
        """Return the world's wall time."""
        return self._clock.now()

    @property
    def last_step(self) -> ClockStep | None:
        """Return the last step of the wall time."""
        return self._clock.last_step

    def monotonic(self) -> float:
        """Return the world's seconds and those that were slept."""
        return self._clock.monotonic() + self._slept

    async def sleep(self, seconds: float) -> None:
        """Let time pass for the cycle alone."""
        self._slept += max(0.0, seconds)


class WorldOutlet:
    """A driver for an outlet that answers as a line says."""

    capabilities = Capabilities(pause_seconds=0.0)

    def __init__(self, outlet: Outlet) -> None:
        self._answers = outlet.options.get("answers", "yes")
        self._on = True

    async def identify(self) -> OutletIdentity:
        """Return no identity."""
        self._require_answer()
        return OutletIdentity(None, "outlet of a world")

    async def status(self) -> Reading:
        """Return what it says of its state."""
        self._require_answer()
        return Reading(PowerState.ON if self._on else PowerState.OFF)

    async def off(self, restore_after: float | None = None) -> None:
        """Switch off, if it does as it is told."""
        self._require_answer()
        self._on = self._answers == "lies"

    async def on(self) -> None:
        """Switch on."""
        self._require_answer()
        self._on = True

    async def close(self) -> None:
        """Nothing stays open."""

    def _require_answer(self) -> None:
        if self._answers == "no":
            raise PowerError(PowerFault.NO_ANSWER, "the world says so")


def outlet_of(line: Line, uuid: str, now: datetime) -> ClientPower | None:
    """Return the outlet that a ``client`` line describes, None if it says that there is none.

    Raises ``BadLine``.
    """
    told = line["power"]
    if not isinstance(told, dict):
        told = {"outlet": uuid} if flag_of(line, "power", False) else None
    if told is None:
        return None
    inner = {"kind": "client: power", **told}
    answers = optional_text(inner, "answers") or "yes"
    if answers not in ANSWERS:
        raise BadLine(f"client: power: answers is {answers!r}, known are {', '.join(ANSWERS)}")
    return ClientPower(
        client_uuid=uuid,
        driver=DRIVER,
        address=optional_text(inner, "outlet") or uuid,
        outlet="1",
        options={"answers": answers},
        protected=flag_of(inner, "protected", False),
        updated_at=now,
    )


async def carry_out(cycles: PowerCycles, store: Store) -> list[Cycled]:
    """Carry out the power cycles that are asked for, and tell what became of each."""
    done = []
    while taken := await cycles.take_up():
        for stored in taken:
            await cycles.carry_out(stored)
            async with store.read() as connection:
                command = await commands.get(connection, stored.command_id)
                fed = (await power.fed_by(connection, [stored.outlet]))[stored.client_uuid]
            if command is None:
                continue
            lies = stored.outlet.options.get("answers") == "lies"
            switched = {stored.client_uuid, *fed} if command.started_at is not None and not lies else set()
            done.append(
                Cycled(command.client_uuid, command.status.value, command.error_code, tuple(sorted(switched)))
            )
    return done
