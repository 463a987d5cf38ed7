"""BMCs that speak Redfish: iDRAC, iLO, XCC, OpenBMC and others.

Success codes prove nothing here: some BMCs answer 204 to anything, some report ``Off`` before it is true
and drop an ``On`` sent in that moment. ``PushPowerButton`` toggles and is never sent.
"""

from typing import Any

from infoscreen.domain.errors import PowerError
from infoscreen.domain.power import Capabilities, Outlet, OutletIdentity, PowerFault, PowerState, Reading
from infoscreen.power.http import Door, basic, object_of, watts_of

STATES = {"On": PowerState.ON, "Off": PowerState.OFF}
CHANGING = {"PoweringOn": PowerState.ON, "PoweringOff": PowerState.OFF}
SYSTEMS = "/redfish/v1/Systems"
ALREADY = (400, 409)
"""Answers of BMCs that are in the wanted state already, or not ready yet; the state is read afterwards."""


class Redfish:
    """A computer system of a BMC.

    ``outlet`` is the system's name in the list of systems; 1, the default, is the only one there is.
    """

    capabilities = Capabilities(metered=False, pause_seconds=2.0)

    def __init__(self, outlet: Outlet) -> None:
        self._name = outlet.outlet.strip()
        headers = {"Accept": "application/json", **basic(outlet.username, outlet.secret)}
        self._door = Door(outlet, scheme="https", headers=headers, seconds=12.0)
        self._path: str | None = None

    async def identify(self) -> OutletIdentity:
        """Return the system's UUID, else its serial number."""
        system = await self._system()
        known = (system.get(name) for name in ("UUID", "SerialNumber"))
        found = next((text for text in known if isinstance(text, str) and text), None)
        name = system.get("Name")
        label = name[:100] if isinstance(name, str) else "Redfish system"
        return OutletIdentity(found and found[:100], label)

    async def status(self) -> Reading:
        """Return the power state."""
        state = (await self._system()).get("PowerState")
        if not isinstance(state, str):
            return Reading(PowerState.UNKNOWN)
        pending = state in CHANGING
        return Reading(CHANGING.get(state, STATES.get(state, PowerState.UNKNOWN)), watts_of(None), pending)

    async def off(self, restore_after: float | None = None) -> None:
        """Cut the power of the board at once."""
        await self._reset("ForceOff")

    async def on(self) -> None:
        """Switch on, with what the BMC allows."""
        await self._reset("On", "ForceOn")

    async def close(self) -> None:
        """Close the connection."""
        await self._door.close()

    async def _system(self) -> dict[str, Any]:
        if self._path is None:
            self._path = await self._find()
        return object_of(*await self._door.ask("GET", self._path))

    async def _find(self) -> str:
        members = object_of(*await self._door.ask("GET", SYSTEMS)).get("Members")
        paths: list[str] = [
            member["@odata.id"]
            for member in (members if isinstance(members, list) else ())
            if isinstance(member, dict) and isinstance(member.get("@odata.id"), str)
        ]
        paths = [path.rstrip("/") for path in paths if path.startswith(f"{SYSTEMS}/") and ".." not in path]
        named = [path for path in paths if path.rpartition("/")[2] == self._name]
        if named:
            return named[0]
        if self._name == "1" and len(paths) == 1:
            return paths[0]
        names = ", ".join(path.rpartition("/")[2] for path in paths[:5])
        raise PowerError(PowerFault.UNSUPPORTED, f"no system {self._name}; there are: {names}"[:200])

    async def _reset(self, *wanted: str) -> None:
        system = await self._system()
        actions = system.get("Actions")
        reset = actions.get("#ComputerSystem.Reset") if isinstance(actions, dict) else None
        if not isinstance(reset, dict):
            raise PowerError(PowerFault.UNSUPPORTED, "the system cannot be reset")
        listed = reset.get("ResetType@Redfish.AllowableValues")
        allowed = [kind for kind in wanted if kind in listed] if isinstance(listed, list) else list(wanted)
        if not allowed:
            raise PowerError(PowerFault.UNSUPPORTED, f"{wanted[0]} is not allowed")
        target = reset.get("target")
        own = f"{self._path}/Actions/ComputerSystem.Reset"
        if not isinstance(target, str) or not target.startswith("/redfish/") or ".." in target:
            target = own
        status, data = await self._door.ask("POST", target, body={"ResetType": allowed[0]})
        if 200 <= status < 300 or status in ALREADY:
            return
        object_of(status, data)
