"""Switched rack PDUs of APC and Schneider (PowerNet MIB), over SNMP.

The families differ in numbering, and one of them says on and off the other way round, so none shares a
constant. A PDU takes no writes with plain ``write`` access while somebody is logged on to its web page: use
``write+``.
"""

from dataclasses import dataclass
from typing import Any

from infoscreen.domain.errors import PowerError
from infoscreen.domain.power import Capabilities, Outlet, OutletIdentity, PowerFault, PowerState, Reading
from infoscreen.power.options import number_of, word
from infoscreen.power.snmp import Snmp

POWERNET = "1.3.6.1.4.1.318.1.1"


@dataclass(frozen=True, slots=True)
class Family:
    """Objects of an outlet, without its number, and what their values mean."""

    control: str
    state: str
    pending: str | None
    name: str | None
    on: int
    off: int
    states: dict[int, PowerState]


FAMILIES = {
    "rpdu": Family(
        control=f"{POWERNET}.12.3.3.1.1.4",
        state=f"{POWERNET}.12.3.5.1.1.4",
        pending=f"{POWERNET}.12.3.5.1.1.5",
        name=f"{POWERNET}.12.3.5.1.1.2",
        on=1,
        off=2,
        states={1: PowerState.ON, 2: PowerState.OFF},
    ),
    "rpdu2": Family(
        control=f"{POWERNET}.26.9.2.4.1.5",
        state=f"{POWERNET}.26.9.2.3.1.5",
        pending=f"{POWERNET}.26.9.2.3.1.6",
        name=f"{POWERNET}.26.9.2.3.1.3",
        on=1,
        off=2,
        states={1: PowerState.OFF, 2: PowerState.ON},
    ),
    "masterswitch": Family(
        control=f"{POWERNET}.4.4.2.1.3",
        state=f"{POWERNET}.4.4.2.1.3",
        pending=f"{POWERNET}.4.4.2.1.2",
        name=f"{POWERNET}.4.4.2.1.4",
        on=1,
        off=2,
        states={1: PowerState.ON, 2: PowerState.OFF},
    ),
    "easy": Family(
        control=f"{POWERNET}.30.6.2.1.4",
        state=f"{POWERNET}.30.6.1.1.4",
        pending=None,
        name=None,
        on=1,
        off=2,
        states={1: PowerState.OFF, 2: PowerState.ON},
    ),
}
PENDING = 1


class Apc:
    """An outlet of an APC PDU; the option ``family`` is rpdu, rpdu2, masterswitch or easy."""

    capabilities = Capabilities(pause_seconds=1.0)

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = number_of(outlet)
        self._family = FAMILIES[word(outlet, "family", tuple(FAMILIES))]
        self._snmp = Snmp(outlet)

    async def identify(self) -> OutletIdentity:
        """Return the name that was given to the outlet at the PDU."""
        if self._family.name is None:
            return OutletIdentity(None, f"outlet {self._outlet}")
        [name] = await self._snmp.get(self._of(self._family.name))
        text = text_of(name)
        return OutletIdentity(text or None, text or f"outlet {self._outlet}")

    async def status(self) -> Reading:
        """Return the state, and whether a command is pending."""
        names = [self._of(self._family.state)]
        if self._family.pending is not None:
            names.append(self._of(self._family.pending))
        state, *pending = [integer(value) for value in await self._snmp.get(*names)]
        return Reading(self._family.states.get(state, PowerState.UNKNOWN), pending=pending == [PENDING])

    async def off(self, restore_after: float | None = None) -> None:
        """Switch off at once."""
        await self._snmp.set(self._of(self._family.control), self._family.off)

    async def on(self) -> None:
        """Switch on at once."""
        await self._snmp.set(self._of(self._family.control), self._family.on)

    async def close(self) -> None:
        """Close the socket."""
        await self._snmp.close()

    def _of(self, column: str) -> str:
        return f"{column}.{self._outlet}"


def text_of(value: Any) -> str:
    """Return an object's text; raise ``PowerError`` for an object of another type."""
    if not hasattr(value, "asOctets"):
        raise PowerError(PowerFault.BAD_ANSWER, f"{type(value).__name__} instead of a text")
    return str(value.asOctets().decode("utf-8", "replace")).strip()[:100]


def integer(value: Any) -> int:
    """Return an object's integer; raise ``PowerError`` for an object of another type."""
    try:
        return int(value)
    except (TypeError, ValueError):
        raise PowerError(PowerFault.BAD_ANSWER, f"{type(value).__name__} instead of an integer") from None
