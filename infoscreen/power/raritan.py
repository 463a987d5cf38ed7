"""Raritan and Server Technology PDUs with Xerus firmware: SNMP (PDU2-MIB), and their JSON-RPC over https.

What they report is the state that was commanded last, unlike a measurement; the power draw tells more where
the model measures it.
"""

from typing import Any

from infoscreen.domain.errors import PowerError
from infoscreen.domain.power import Capabilities, Outlet, OutletIdentity, PowerFault, PowerState, Reading
from infoscreen.power.apc import integer, text_of
from infoscreen.power.http import Door, basic, object_of
from infoscreen.power.options import number_of
from infoscreen.power.snmp import Snmp

PDU2 = "1.3.6.1.4.1.13742.6"
OPERATION = f"{PDU2}.4.1.2.1.2.1"
STATE = f"{PDU2}.4.1.2.1.3.1"
NAME = f"{PDU2}.3.5.3.1.3.1"
SWITCHABLE = f"{PDU2}.3.5.3.1.28.1"
OFF, ON = 0, 1
STATES = {7: PowerState.ON, 8: PowerState.OFF}
RELAY = {OFF: PowerState.OFF, ON: PowerState.ON}
REASONS = {1: "the outlet is not switchable", 3: "the outlet is disabled", 5: "relay control is disabled"}


class Raritan:
    """An outlet of a Raritan PDU over SNMP; outlets count from 1."""

    capabilities = Capabilities(pause_seconds=1.0)

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = number_of(outlet)
        self._snmp = Snmp(outlet)

    async def identify(self) -> OutletIdentity:
        """Return the name that was given to the outlet at the PDU."""
        name, switchable = await self._snmp.get(f"{NAME}.{self._outlet}", f"{SWITCHABLE}.{self._outlet}")
        if integer(switchable) != 1:
            raise PowerError(PowerFault.UNSUPPORTED, REASONS[1])
        text = text_of(name)
        return OutletIdentity(text or None, text or f"outlet {self._outlet}")

    async def status(self) -> Reading:
        """Return the state of the relay."""
        [state] = await self._snmp.get(f"{STATE}.{self._outlet}")
        return Reading(STATES.get(integer(state), PowerState.UNKNOWN))

    async def off(self, restore_after: float | None = None) -> None:
        """Switch off."""
        await self._snmp.set(f"{OPERATION}.{self._outlet}", OFF)

    async def on(self) -> None:
        """Switch on."""
        await self._snmp.set(f"{OPERATION}.{self._outlet}", ON)

    async def close(self) -> None:
        """Close the socket."""
        await self._snmp.close()


class RaritanJson:
    """An outlet of a Raritan PDU over JSON-RPC; outlets count from 1, although the protocol counts from 0."""

    capabilities = Capabilities(pause_seconds=1.0)

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = number_of(outlet)
        self._door = Door(outlet, scheme="https", headers=basic(outlet.username, outlet.secret))

    async def identify(self) -> OutletIdentity:
        """Return the name that was given to the outlet, or its label at the PDU."""
        settings = await self._call("getSettings")
        name = settings.get("name") if isinstance(settings, dict) else None
        text = name.strip()[:100] if isinstance(name, str) else ""
        return OutletIdentity(text or None, text or f"outlet {self._outlet}")

    async def status(self) -> Reading:
        """Return the state of the relay, and whether it is about to change."""
        state = await self._call("getState")
        if not isinstance(state, dict) or state.get("available") is False:
            return Reading(PowerState.UNKNOWN)
        relay = state.get("powerState")
        power = RELAY.get(relay, PowerState.UNKNOWN) if isinstance(relay, int) else PowerState.UNKNOWN
        pending = state.get("switchOnInProgress") is True or state.get("cycleInProgress") is True
        return Reading(power, pending=pending)

    async def off(self, restore_after: float | None = None) -> None:
        """Switch off."""
        await self._switch(OFF)

    async def on(self) -> None:
        """Switch on."""
        await self._switch(ON)

    async def close(self) -> None:
        """Close the connection."""
        await self._door.close()

    async def _switch(self, state: int) -> None:
        code = await self._call("setPowerState", {"pstate": state})
        if code != 0:
            reason = REASONS.get(code, f"code {code!r:.20}") if isinstance(code, int) else "no code"
            raise PowerError(PowerFault.REFUSED, reason)

    async def _call(self, method: str, parameters: dict[str, Any] | None = None) -> Any:
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters or {}}
        path = f"/model/pdu/0/outlet/{self._outlet - 1}"
        answer = object_of(*await self._door.ask("POST", path, body=request))
        result = answer.get("result")
        if "error" in answer or not isinstance(result, dict) or "_ret_" not in result:
            raise PowerError(PowerFault.BAD_ANSWER, f"{method} was not answered with a result")
        return result["_ret_"]
