"""The daemon's way to the broker helper, over its Unix socket."""

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

from infoscreen.domain.enrolment import NewDevice
from infoscreen.domain.error_codes import ErrorCode
from infoscreen.domain.errors import Conflict, HelperMissing, HelperUnable
from infoscreen.provisioning.socket_paths import fitting

log = logging.getLogger(__name__)

ANSWER_SECONDS = 90.0
"""A restart of the broker writes all it holds, and systemd allows it 90 s."""
MOST_ANSWER_BYTES = 64 * 1024


class HelperClient:
    """Asks the helper; each request is a connection."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    async def add_device(self, uuid: str, *, password: str | None = None, replace: bool = False) -> NewDevice:
        """Give a device an account.

        Args:
            uuid: in lower case with hyphens.
            password: 40 hexadecimal digits; None makes one. The same request twice is no error with one.
            replace: give a device that has an account a new password.

        Raises:
            Conflict: it has an account.
            HelperMissing: nobody answers at the socket.
            HelperUnable: the helper could not do it; its journal says why.
        """
        asked = {"do": "add_device", "uuid": uuid, "password": password, "replace": replace}
        said = await self._ask(asked, uuid)
        if said.get("error") == "exists":
            raise Conflict(ErrorCode.DEVICE_HAS_ACCOUNT, uuid=uuid)
        try:
            return NewDevice(
                uuid, said["password"], said["host"], int(said["port"]), said["ca"], said["file"]
            )
        except (KeyError, TypeError, ValueError):
            raise HelperUnable(ErrorCode.HELPER_UNABLE) from None

    async def restart_broker(self) -> bool:
        """Restart the broker; False if that was done within the last hour, or it is not run by systemd.

        Raises ``HelperMissing`` and ``HelperUnable``.
        """
        said = await self._ask({"do": "restart_broker"}, "UUID")
        if said.get("error") in ("too_soon", "not_running"):
            return False
        if "ok" not in said:
            raise HelperUnable(ErrorCode.HELPER_UNABLE)
        return True

    async def _ask(self, asked: dict[str, Any], uuid: str) -> dict[str, Any]:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                with fitting(self._socket) as address:
                    reader, writer = await asyncio.open_unix_connection(address, limit=MOST_ANSWER_BYTES)
                try:
                    writer.write(json.dumps(asked).encode() + b"\n")
                    await writer.drain()
                    line = await reader.readline()
                finally:
                    writer.close()
        except (FileNotFoundError, ConnectionRefusedError, PermissionError):
            raise HelperMissing(ErrorCode.HELPER_MISSING, uuid=uuid) from None
        except (OSError, ValueError, TimeoutError):
            raise HelperUnable(ErrorCode.HELPER_UNABLE) from None
        try:
            said = json.loads(line)
        except ValueError:
            said = None
        if not isinstance(said, dict):
            raise HelperUnable(ErrorCode.HELPER_UNABLE)
        return said
