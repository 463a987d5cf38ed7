"""Shelly plugs and relays.

``Shelly`` is for generations 2 and later (JSON-RPC over HTTP, digest authentication with SHA-256),
``ShellyGen1`` for the first one (HTTP GET, Basic authentication). Sources: Shelly's API documentation; see
the power design.
"""

import math
from typing import Any

import aiohttp

from infoscreen.domain.errors import PowerError
from infoscreen.domain.power import Capabilities, Outlet, OutletIdentity, PowerFault, PowerState, Reading
from infoscreen.power.http import Door, basic, object_of, watts_of
from infoscreen.power.options import number_of

NO_SUCH_METHOD, INVALID_ARGUMENT, NOT_FOUND = 404, -103, -105

LABEL_CHARACTERS = 100


class Shelly:
    """A switch of a Shelly of generation 2 or later; outlets count from 0."""

    capabilities = Capabilities(restores_itself=True, metered=True)

    def __init__(self, outlet: Outlet) -> None:
        self._switch = number_of(outlet, first=0, last=15)
        digest = () if outlet.secret is None else (aiohttp.DigestAuthMiddleware("admin", outlet.secret),)
        self._door = Door(outlet, middlewares=digest)

    async def identify(self) -> OutletIdentity:
        """Return its MAC address."""
        told = object_of(*await self._door.ask("GET", "/shelly", public=True))
        generation = told.get("gen")
        if not isinstance(generation, int) or generation < 2:
            raise PowerError(PowerFault.UNSUPPORTED, "not a Shelly of generation 2 or later")
        return _identity(told, self._switch)

    async def status(self) -> Reading:
        """Return output and power draw."""
        told = await self._call("Switch.GetStatus", {"id": self._switch})
        return Reading(_state(told.get("output")), watts_of(told.get("apower")))

    async def off(self, restore_after: float | None = None) -> None:
        """Switch off, and have it switch on again by its own timer."""
        wanted: dict[str, Any] = {"id": self._switch, "on": False}
        if restore_after is not None:
            wanted["toggle_after"] = math.ceil(restore_after)
        await self._call("Switch.Set", wanted)

    async def on(self) -> None:
        """Switch on; this also ends the timer."""
        await self._call("Switch.Set", {"id": self._switch, "on": True})

    async def close(self) -> None:
        """Close the connection."""
        await self._door.close()

    async def _call(self, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
        request = {"id": 1, "src": "infoscreen", "method": method, "params": parameters}
        status, data = await self._door.ask("POST", "/rpc", body=request)
        error = data.get("error", data) if isinstance(data, dict) else {}
        if isinstance(error, dict) and "code" in error:
            raise _refusal(error)
        result = object_of(status, data).get("result")
        if not isinstance(result, dict):
            raise PowerError(PowerFault.BAD_ANSWER, "no result")
        return result


class ShellyGen1:
    """A relay of a Shelly of the first generation; outlets count from 0."""

    capabilities = Capabilities(restores_itself=True, metered=True)

    def __init__(self, outlet: Outlet) -> None:
        self._relay = number_of(outlet, first=0, last=15)
        self._door = Door(outlet, headers=basic(outlet.username, outlet.secret))

    async def identify(self) -> OutletIdentity:
        """Return its MAC address."""
        told = object_of(*await self._door.ask("GET", "/shelly", public=True))
        if "gen" in told or "type" not in told:
            raise PowerError(PowerFault.UNSUPPORTED, "not a Shelly of generation 1")
        return _identity(told, self._relay)

    async def status(self) -> Reading:
        """Return the relay and, if it has a valid meter, the power draw."""
        told = object_of(*await self._door.ask("GET", "/status"))
        relays, meters = told.get("relays"), told.get("meters")
        if not isinstance(relays, list) or self._relay >= len(relays):
            raise PowerError(PowerFault.UNSUPPORTED, f"no relay {self._relay}")
        relay = relays[self._relay]
        if not isinstance(relay, dict):
            raise PowerError(PowerFault.BAD_ANSWER, "no relay object")
        watts = None
        if isinstance(meters, list) and self._relay < len(meters) and isinstance(meters[self._relay], dict):
            meter = meters[self._relay]
            watts = watts_of(meter.get("power")) if meter.get("is_valid") is True else None
        return Reading(_state(relay.get("ison")), watts)

    async def off(self, restore_after: float | None = None) -> None:
        """Switch off, and have it switch on again by its own timer."""
        query = {"turn": "off"}
        if restore_after is not None:
            query["timer"] = str(math.ceil(restore_after))
        await self._turn(query)

    async def on(self) -> None:
        """Switch on; this also ends the timer."""
        await self._turn({"turn": "on"})

    async def close(self) -> None:
        """Close the connection."""
        await self._door.close()

    async def _turn(self, query: dict[str, str]) -> None:
        told = object_of(*await self._door.ask("GET", f"/relay/{self._relay}", query=query))
        if not isinstance(told.get("ison"), bool):
            raise PowerError(PowerFault.BAD_ANSWER, "no state in the answer")


def _identity(told: dict[str, Any], channel: int) -> OutletIdentity:
    mac = told.get("mac")
    if not isinstance(mac, str) or not mac:
        raise PowerError(PowerFault.BAD_ANSWER, "no MAC address")
    named = (told.get(name) for name in ("name", "model", "type"))
    name = next((text for text in named if isinstance(text, str) and text), "Shelly")
    return OutletIdentity(mac[:LABEL_CHARACTERS], f"{name[:LABEL_CHARACTERS]} switch {channel}")


def _state(on: object) -> PowerState:
    match on:
        case True:
            return PowerState.ON
        case False:
            return PowerState.OFF
        case _:
            return PowerState.UNKNOWN


def _refusal(error: dict[str, Any]) -> PowerError:
    code = error["code"]
    detail = f"{code} {str(error.get('message', ''))[:LABEL_CHARACTERS]}".strip()
    if code == 401:
        return PowerError(PowerFault.BAD_CREDENTIALS, detail)
    if code in (NO_SUCH_METHOD, INVALID_ARGUMENT, NOT_FOUND):
        return PowerError(PowerFault.UNSUPPORTED, detail)
    return PowerError(PowerFault.BAD_ANSWER, detail)
