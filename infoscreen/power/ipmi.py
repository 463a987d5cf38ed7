"""IPMI 2.0 (RMCP+, ``lanplus``) through Debian's ``ipmitool``, as OpenStack Ironic does it.

Power is cut and given, never reset: a reset may not free a board that hangs. The older LAN interface and
cipher suite 0, which lets anybody in, are refused. The password is in the environment, where other users
cannot see it.
"""

import re
import shutil

from infoscreen.domain.errors import PowerError
from infoscreen.domain.power import Capabilities, Outlet, OutletIdentity, PowerFault, PowerState, Reading
from infoscreen.power.options import host_and_port, secret_of, word
from infoscreen.power.processes import PATH, run

PORT = 623
SECONDS = 14.0
CIPHER_SUITES = ("3", "17")
LEVELS = ("OPERATOR", "ADMINISTRATOR")
SILENT = re.compile(r"Unable to establish|Get Auth Capabilities|no response|timeout|Timeout")
REFUSED = re.compile(r"Insufficient privilege|insufficient privilege|Node busy|command not support")
GUID = re.compile(r"^System GUID\s*:\s*([0-9A-Fa-f-]{32,36})\s*$", re.MULTILINE)


class Ipmi:
    """The chassis of a BMC. Options: ``cipher`` 3 or 17, ``level`` OPERATOR or ADMINISTRATOR."""

    # More than one command in five seconds can crash a BMC (Ironic).
    capabilities = Capabilities(pause_seconds=5.0)

    def __init__(self, outlet: Outlet) -> None:
        host, port = host_and_port(outlet, PORT)
        if host.startswith("-"):
            raise PowerError(PowerFault.BAD_CONFIGURATION, "not a host")
        self._arguments = [
            *("-I", "lanplus", "-H", host, "-p", str(port), "-U", outlet.username or "admin", "-E"),
            *("-C", word(outlet, "cipher", CIPHER_SUITES), "-L", word(outlet, "level", LEVELS)),
            *("-N", "2", "-R", "2"),
        ]
        self._environment = {"IPMI_PASSWORD": secret_of(outlet)}

    async def identify(self) -> OutletIdentity:
        """Return the system's GUID, if the BMC has one."""
        try:
            found = GUID.search(await self._run("mc", "guid"))
        except PowerError as error:
            if error.fault is not PowerFault.BAD_ANSWER:
                raise
            found = None  # not every BMC has the command
        return OutletIdentity(found[1].lower() if found else None, "IPMI chassis")

    async def status(self) -> Reading:
        """Return the power state of the chassis."""
        text = await self._run("chassis", "power", "status")
        match text.strip().rpartition(" ")[2]:
            case "on":
                return Reading(PowerState.ON)
            case "off":
                return Reading(PowerState.OFF)
            case _:
                return Reading(PowerState.UNKNOWN)

    async def off(self, restore_after: float | None = None) -> None:
        """Cut the power."""
        await self._run("chassis", "power", "off")

    async def on(self) -> None:
        """Switch on."""
        await self._run("chassis", "power", "on")

    async def close(self) -> None:
        """Nothing stays open."""

    async def _run(self, *command: str) -> str:
        program = shutil.which("ipmitool", path=PATH)
        if program is None:
            raise PowerError(PowerFault.MISSING_PROGRAM, "ipmitool is not installed")
        code, output, errors = await run([program, *self._arguments, *command], self._environment, SECONDS)
        if code == 0:
            return output
        said = (errors or output).strip().partition("\n")[0][:200]
        if SILENT.search(errors):
            # The same words for a dead host and for a wrong password.
            raise PowerError(PowerFault.NO_ANSWER_OR_BAD_CREDENTIALS, said)
        if REFUSED.search(errors):
            raise PowerError(PowerFault.REFUSED, said)
        raise PowerError(PowerFault.BAD_ANSWER, said or f"exit code {code}")
