"""Tasmota plugs, and OpenBeken, which speaks their dialect, over HTTP.

Unknown commands and locked relays are answered with ``{}`` or the old state and status 200, so an answer
without a power state counts as a failure. The password goes in the query, because Tasmota takes it nowhere
else; it never reaches a log or an error.
"""

import math
from typing import Any

from infoscreen.domain.errors import PowerError
from infoscreen.domain.power import Capabilities, Outlet, OutletIdentity, PowerFault, PowerState, Reading
from infoscreen.power.http import Door, object_of, watts_of
from infoscreen.power.options import number_of, word

LONGEST_DELAY_SECONDS = 360
"""``Delay`` takes at most 3600 tenths of a second."""


class Tasmota:
    """A relay of a Tasmota device; outlets count from 1.

    The option ``backlog`` (``off`` or ``on``) lets the plug switch on again by itself. OpenBeken has no
    ``Delay`` and would switch on at once, so it is off by default.
    """

    def __init__(self, outlet: Outlet) -> None:
        self._relay = number_of(outlet, last=32)
        restores = word(outlet, "backlog", ("off", "on")) == "on"
        self.capabilities = Capabilities(restores_itself=restores, metered=True)
        self._credentials = (
            {} if outlet.secret is None else {"user": outlet.username or "admin", "password": outlet.secret}
        )
        self._door = Door(outlet)

    async def identify(self) -> OutletIdentity:
        """Return its MAC address; OpenBeken may have none to tell."""
        told = await self._command("Status 5")
        network = told.get("StatusNET")
        if not isinstance(network, dict):
            return OutletIdentity(None, f"Tasmota relay {self._relay}")
        mac, name = network.get("Mac"), network.get("Hostname")
        label = name[:100] if isinstance(name, str) and name else "Tasmota"
        return OutletIdentity(
            mac[:100] if isinstance(mac, str) and mac else None, f"{label} relay {self._relay}"
        )

    async def status(self) -> Reading:
        """Return the relay and, if it has a meter, the power draw."""
        state = self._state_in(await self._command(f"Power{self._relay}"))
        sensors = (await self._command("Status 10")).get("StatusSNS")
        energy = sensors.get("ENERGY") if isinstance(sensors, dict) else None
        watts = energy.get("Power") if isinstance(energy, dict) else None
        if isinstance(watts, list):  # one for each relay
            watts = watts[self._relay - 1] if self._relay <= len(watts) else None
        return Reading(state, watts_of(watts))

    async def off(self, restore_after: float | None = None) -> None:
        """Switch off; with ``backlog`` it switches on again by itself."""
        if restore_after is None:
            self._state_in(await self._command(f"Power{self._relay} 0"))
            return
        tenths = min(math.ceil(restore_after), LONGEST_DELAY_SECONDS) * 10
        await self._command(f"Backlog Power{self._relay} 0; Delay {tenths}; Power{self._relay} 1")

    async def on(self) -> None:
        """Switch on."""
        self._state_in(await self._command(f"Power{self._relay} 1"))

    async def close(self) -> None:
        """Close the connection."""
        await self._door.close()

    async def _command(self, command: str) -> dict[str, Any]:
        status, data = await self._door.ask("GET", "/cm", query={"cmnd": command, **self._credentials})
        told = object_of(status, data)
        warning = told.get("WARNING")
        if warning is not None:  # "Need user=<username>&password=<password>"
            raise PowerError(PowerFault.BAD_CREDENTIALS, str(warning)[:100])
        return told

    def _state_in(self, told: dict[str, Any]) -> PowerState:
        return state_of(told, self._relay)


def state_of(told: dict[str, Any], relay: int) -> PowerState:
    """Return the state of a relay in an answer; raise ``PowerError`` if there is none."""
    state = told.get(f"POWER{relay}", told.get("POWER") if relay == 1 else None)
    match state:
        case "ON":
            return PowerState.ON
        case "OFF":
            return PowerState.OFF
        case None:
            raise PowerError(PowerFault.UNSUPPORTED, f"no state of relay {relay} in the answer")
        case _:
            return PowerState.UNKNOWN
