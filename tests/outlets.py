"""Outlets for tests: one in memory that can misbehave, and web servers that speak as small devices do.

The web servers are ours, because nobody offers a simulator of these devices: they answer with the fields
that the vendors document, and with the misbehaviour that the power design lists.
"""

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web

from infoscreen.clock import ClockStep
from infoscreen.domain.errors import PowerError
from infoscreen.domain.power import Capabilities, OutletIdentity, PowerFault, PowerState, Reading

MAC = "A8032ABE54DC"


class VirtualClock:
    """A clock on which sleeping takes no time."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.last_step: ClockStep | None = None
        self.stop_at = float("inf")

    def now(self) -> datetime:
        return datetime(2026, 3, 1, tzinfo=UTC) + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.seconds += max(0.0, seconds)
        if self.seconds > self.stop_at:
            raise TimeoutError("the test's time is over")
        await asyncio.sleep(0)


Behaviour = Callable[["MemoryOutlet"], bool]


class MemoryOutlet:
    """An outlet in memory. ``script`` lists faults of the next requests; None means that one works."""

    def __init__(self, clock: VirtualClock, *, identity: str | None = MAC) -> None:
        self.clock = clock
        self.identity = identity
        self.power = PowerState.ON
        self.watts: float | None = None
        self.log: list[tuple[float, str]] = []
        self.faults: dict[str, list[PowerFault | None]] = {}
        self.executes_failed = False
        self.ignores_off = self.ignores_on = 0
        self.delay = 0.0
        self.capabilities = Capabilities()
        self._changes: list[tuple[float, PowerState]] = []
        self.off_since: float | None = None
        self.longest_off = 0.0

    def _settle(self) -> None:
        for at, state in list(self._changes):
            if at <= self.clock.seconds:
                self._changes.remove((at, state))
                self._become(state, at)

    def _become(self, state: PowerState, at: float) -> None:
        if state is PowerState.OFF and self.power is not PowerState.OFF:
            self.off_since = at
        if state is PowerState.ON and self.off_since is not None:
            self.longest_off = max(self.longest_off, at - self.off_since)
            self.off_since = None
        self.power = state

    def _fails(self, verb: str) -> PowerFault | None:
        self._settle()
        self.log.append((self.clock.seconds, verb))
        waiting = self.faults.get(verb)
        return waiting.pop(0) if waiting else None

    def switched(self) -> list[str]:
        return [verb for _, verb in self.log if verb in ("off", "on")]

    async def identify(self) -> OutletIdentity:
        if (fault := self._fails("identify")) is not None:
            raise PowerError(fault, "test")
        return OutletIdentity(self.identity, "test")

    async def status(self) -> Reading:
        if (fault := self._fails("status")) is not None:
            raise PowerError(fault, "test")
        return Reading(self.power, self.watts)

    async def off(self, restore_after: float | None = None) -> None:
        fault = self._fails("off")
        if fault is None or self.executes_failed:
            if self.ignores_off > 0:
                self.ignores_off -= 1
            else:
                self._changes.append((self.clock.seconds + self.delay, PowerState.OFF))
                if restore_after is not None:
                    self._changes.append((self.clock.seconds + restore_after, PowerState.ON))
        if fault is not None:
            raise PowerError(fault, "test")

    async def on(self) -> None:
        fault = self._fails("on")
        if fault is None or self.executes_failed:
            if self.ignores_on > 0:
                self.ignores_on -= 1
            else:
                self._changes = [(self.clock.seconds + self.delay, PowerState.ON)]
        if fault is not None:
            raise PowerError(fault, "test")

    async def close(self) -> None:
        """Nothing stays open."""


@dataclass
class SmallDevice:
    """What the web servers below have in common: a relay, a password, and ways to misbehave."""

    on: bool = True
    password: str | None = None
    watts: float = 42.0
    breaks: str | None = None
    requests: list[str] = field(default_factory=list)
    timer: float | None = None

    def switch(self, on: bool) -> None:
        if self.breaks != "does_not_switch":
            self.on = on

    async def misbehave(self, request: web.Request) -> web.StreamResponse | None:
        self.requests.append(f"{request.method} {request.rel_url}")
        match self.breaks:
            case "hangs":
                await asyncio.sleep(3_600)
            case "500":
                return web.json_response({"error": "oops"}, status=500)
            case "half":
                response = web.StreamResponse(headers={"Content-Length": "100"})
                await response.prepare(request)
                await response.write(b'{"id":1,')
                assert request.transport is not None
                request.transport.abort()
                return response
            case "reset":
                assert request.transport is not None
                request.transport.abort()
            case "html":
                return web.Response(text="<html>login</html>", content_type="text/html")
            case "huge":
                return web.Response(body=b" " * 2**20, content_type="application/json")
            case "deep":
                return web.Response(body=b"[" * 200_000, content_type="application/json")
            case "empty":
                return web.json_response({})
            case "redirect":
                return web.Response(status=302, headers={"Location": "http://127.0.0.1:1/"})
            case "list":
                return web.json_response([1, 2])
        return None


NONCE = "dcd98b7102dd2f0e8b11d0f600bfb0c0"


def digest_is_right(header: str, method: str, password: str, realm: str) -> bool:
    """Check an Authorization header of RFC 7616 with SHA-256 and the user ``admin``."""
    fields = dict(re.findall(r'(\w+)="?([^",]+)"?', header))

    def sha(text: str) -> str:
        return hashlib.sha256(text.encode()).hexdigest()

    first, second = sha(f"admin:{realm}:{password}"), sha(f"{method}:{fields.get('uri')}")
    joined = ":".join(
        (first, fields.get("nonce", ""), fields.get("nc", ""), fields.get("cnonce", ""), "auth", second)
    )
    return fields.get("nonce") == NONCE and fields.get("response") == sha(joined)


def shelly_app(device: SmallDevice) -> web.Application:
    """Return a Shelly of generation 2: RPC, digest authentication for all but ``/shelly``."""
    realm = f"shellyplus1pm-{MAC.lower()}"

    async def about(request: web.Request) -> web.StreamResponse:
        if (bad := await device.misbehave(request)) is not None:
            return bad
        return web.json_response(
            {"id": realm, "mac": MAC, "model": "SNSW-001P16EU", "gen": 2, "auth_en": True, "app": "Plus1PM"}
        )

    async def rpc(request: web.Request) -> web.StreamResponse:
        if (bad := await device.misbehave(request)) is not None:
            return bad
        if device.password is not None:
            given = request.headers.get("Authorization", "")
            if not digest_is_right(given, "POST", device.password, realm):
                challenge = f'Digest qop="auth", realm="{realm}", nonce="{NONCE}", algorithm=SHA-256'
                return web.Response(status=401, headers={"WWW-Authenticate": challenge})
        call = await request.json()
        method, parameters = call["method"], call["params"]
        if parameters.get("id") != 0:
            error = {"code": -105, "message": f"Argument 'id', value {parameters.get('id')} not found!"}
            return web.json_response({"id": call["id"], "error": error}, status=500)
        if method == "Switch.GetStatus":
            result: dict[str, Any] = {"id": 0, "source": "init", "output": device.on, "voltage": 230.1}
            result["apower"] = device.watts if device.on or device.breaks == "draws" else 0.0
        elif method == "Switch.Set":
            result = {"was_on": device.on}
            device.switch(parameters["on"])
            device.timer = parameters.get("toggle_after")
        else:
            return web.json_response({"id": 1, "error": {"code": 404, "message": "No handler"}}, status=404)
        return web.json_response({"id": call["id"], "src": realm, "result": result})

    app = web.Application()
    app.add_routes([web.get("/shelly", about), web.post("/rpc", rpc)])
    return app


def _basic_is_right(request: web.Request, password: str) -> bool:
    from infoscreen.power.http import basic

    return request.headers.get("Authorization") == basic("admin", password)["Authorization"]


def shelly_gen1_app(device: SmallDevice) -> web.Application:
    """Return a Shelly Plug S of generation 1."""

    async def about(request: web.Request) -> web.StreamResponse:
        bad = await device.misbehave(request)
        told = {"type": "SHPLG-S", "mac": MAC, "auth": device.password is not None, "num_outputs": 1}
        return bad or web.json_response(told)

    async def answer(request: web.Request, make: Callable[[], Any]) -> web.StreamResponse:
        if (bad := await device.misbehave(request)) is not None:
            return bad
        if device.password is not None and not _basic_is_right(request, device.password):
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="shelly"'})
        return web.json_response(make())

    async def status(request: web.Request) -> web.StreamResponse:
        return await answer(
            request,
            lambda: {
                "relays": [{"ison": device.on, "has_timer": False}],
                "meters": [{"power": device.watts if device.on else 0.0, "is_valid": True}],
            },
        )

    async def relay(request: web.Request) -> web.StreamResponse:
        def turn() -> dict[str, Any]:
            if (wanted := request.query.get("turn")) in ("on", "off"):
                device.switch(wanted == "on")
                device.timer = float(request.query["timer"]) if "timer" in request.query else None
            return {"ison": device.on, "has_timer": device.timer is not None}

        return await answer(request, turn)

    app = web.Application()
    app.add_routes([web.get("/shelly", about), web.get("/status", status), web.get("/relay/0", relay)])
    return app


def tasmota_app(device: SmallDevice) -> web.Application:
    """Return a Tasmota plug with a meter."""

    async def command(request: web.Request) -> web.StreamResponse:
        if (bad := await device.misbehave(request)) is not None:
            return bad
        if device.password is not None and request.query.get("password") != device.password:
            return web.json_response({"WARNING": "Need user=<username>&password=<password>"}, status=200)
        match request.query["cmnd"].split(" ", 1):
            case ["Power1" | "Power"]:
                pass
            case ["Power1", wanted]:
                device.switch(wanted == "1")
            case ["Status", "5"]:
                return web.json_response({"StatusNET": {"Hostname": "plug7", "Mac": "A8:03:2A:BE:54:DC"}})
            case ["Status", "10"]:
                watts = device.watts if device.on else 0
                return web.json_response({"StatusSNS": {"ENERGY": {"Power": watts}}})
            case ["Backlog", rest]:
                device.switch("Power1 0" not in rest)
                device.timer = float(rest.split("Delay ")[1].split(";")[0]) / 10
                return web.json_response({})
            case _:
                return web.json_response({"Command": "Unknown"})
        return web.json_response({"POWER": "ON" if device.on else "OFF"})

    app = web.Application()
    app.add_routes([web.get("/cm", command)])
    return app


def raritan_app(device: SmallDevice) -> web.Application:
    """Return outlet 3 of a Raritan PDU by JSON-RPC."""

    async def rpc(request: web.Request) -> web.StreamResponse:
        if (bad := await device.misbehave(request)) is not None:
            return bad
        if device.password is not None and not _basic_is_right(request, device.password):
            return web.Response(status=401)
        call = await request.json()
        result: Any
        match call["method"]:
            case "getSettings":
                result = {"name": "screen 7", "cycleDelay": 10}
            case "getState":
                result = {"available": True, "powerState": int(device.on), "cycleInProgress": False}
            case "setPowerState":
                result = 5 if device.breaks == "locked" else 0
                if result == 0:
                    device.switch(call["params"]["pstate"] == 1)
            case _:
                return web.json_response({"jsonrpc": "2.0", "id": 1, "error": {"code": -32601}})
        return web.json_response({"jsonrpc": "2.0", "id": 1, "result": {"_ret_": result}})

    app = web.Application()
    app.add_routes([web.post("/model/pdu/0/outlet/2", rpc)])
    return app


@asynccontextmanager
async def serving_device(app: web.Application) -> AsyncIterator[str]:
    """Serve a small device; yield its address."""
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        host, port = runner.addresses[0][:2]
        yield f"{host}:{port}"
    finally:
        await runner.cleanup()
