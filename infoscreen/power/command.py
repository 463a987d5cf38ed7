"""An executable of the customer's own, for outlets that no other driver knows.

It is run without a shell, with one word as its last argument: ``identify``, ``status``, ``off`` or ``on``.
Outlet, address, user and password are in its environment (``INFOSCREEN_OUTLET``, ``..._ADDRESS``,
``..._USERNAME``, ``..._PASSWORD``). ``status`` prints ``on``, ``off`` or ``unknown``, and may add a space
and watts; ``identify`` prints one line. Exit code 0 is success; 3 refused credentials, 4 unsupported.
"""

import os
import stat
from pathlib import Path

from infoscreen.domain.errors import PowerError
from infoscreen.domain.power import Capabilities, Outlet, OutletIdentity, PowerFault, PowerState, Reading
from infoscreen.power.http import watts_of
from infoscreen.power.options import bad
from infoscreen.power.processes import run

SECONDS = 10.0
EXIT_FAULTS = {3: PowerFault.BAD_CREDENTIALS, 4: PowerFault.UNSUPPORTED}


class CommandOutlet:
    """An outlet behind a program; ``address`` is what the program makes of it.

    The option ``program`` is its absolute path. It must belong to root or to the daemon's user, and nobody
    else may be able to write it.
    """

    capabilities = Capabilities(metered=True)

    def __init__(self, outlet: Outlet) -> None:
        program = Path(outlet.options.get("program", ""))
        if not program.is_absolute() or "\0" in str(program):
            raise bad("program is not an absolute path")
        self._program = program
        self._environment = {
            "INFOSCREEN_OUTLET": outlet.outlet,
            "INFOSCREEN_ADDRESS": outlet.address,
            "INFOSCREEN_USERNAME": outlet.username or "",
            "INFOSCREEN_PASSWORD": outlet.secret or "",
        }

    async def identify(self) -> OutletIdentity:
        """Return the line that the program prints; an empty one is no identity."""
        line = await self._run("identify")
        return OutletIdentity(line or None, line or self._program.name)

    async def status(self) -> Reading:
        """Return what the program says."""
        state, _, watts = (await self._run("status")).partition(" ")
        if state not in PowerState.__members__.values():
            raise PowerError(PowerFault.BAD_ANSWER, f"status printed {state[:40]!r}")
        try:
            measured = watts_of(float(watts)) if watts else None
        except ValueError:
            raise PowerError(PowerFault.BAD_ANSWER, f"status printed {watts[:40]!r} as watts") from None
        return Reading(PowerState(state), measured)

    async def off(self, restore_after: float | None = None) -> None:
        """Switch off."""
        await self._run("off")

    async def on(self) -> None:
        """Switch on."""
        await self._run("on")

    async def close(self) -> None:
        """Nothing stays open."""

    async def _run(self, verb: str) -> str:
        try:
            about = self._program.stat()
        except OSError as error:
            raise PowerError(PowerFault.MISSING_PROGRAM, error.strerror or "not there") from None
        if not stat.S_ISREG(about.st_mode) or about.st_mode & (stat.S_IWOTH | stat.S_IWGRP):
            raise bad("program is not a file, or others may write it")
        if about.st_uid not in (0, os.geteuid()):
            raise bad("program belongs neither to root nor to the daemon's user")
        code, output, errors = await run([str(self._program), verb], self._environment, SECONDS)
        line = output.partition("\n")[0].strip()[:100]
        if code != 0:
            fault = EXIT_FAULTS.get(code, PowerFault.BAD_ANSWER)
            raise PowerError(fault, errors.strip().partition("\n")[0][:200] or f"exit code {code}")
        return line
