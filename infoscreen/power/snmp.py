"""SNMP v2c and v3 for power distribution units, with pysnmp (the extra ``power``).

An outlet that does not exist is answered with a value that says so, not with an error. SNMP v2c answers a
wrong community with silence.
"""

import asyncio
import importlib
from typing import Any

from infoscreen.domain.errors import PowerError
from infoscreen.domain.power import Outlet, PowerFault
from infoscreen.power.options import bad, host_and_port, secret_of, word

PORT = 161
SECONDS, RETRIES = 2.0, 2

AUTHENTICATION = {
    "sha": "usmHMACSHAAuthProtocol",
    "sha256": "usmHMAC192SHA256AuthProtocol",
    "sha512": "usmHMAC384SHA512AuthProtocol",
    "md5": "usmHMACMD5AuthProtocol",
}
PRIVACY = {"aes": "usmAesCfb128Protocol", "des": "usmDESPrivProtocol"}
CREDENTIAL_ERRORS = (
    "WrongDigest",
    "UnknownUserName",
    "UnsupportedSecurityLevel",
    "DecryptionError",
    "AuthenticationFailure",
    "AuthenticationError",
)
NO_ACCESS = (6, 16)
"""``noAccess`` and ``authorizationError``."""
REFUSED = (4, 5, 13, 17)
"""``readOnly``, ``genErr``, ``resourceUnavailable``, ``notWritable``: locked, or in use by somebody else."""


class Snmp:
    """Reads and sets objects of one agent.

    Version 2c unless a user is given: then v3, with the outlet's secret for authentication and the option
    ``privacy_secret`` (else the same secret) for privacy. Options: ``version``, ``authentication``,
    ``privacy``, ``context``.
    """

    def __init__(self, outlet: Outlet) -> None:
        self._address = host_and_port(outlet, PORT)
        self._secret = secret_of(outlet)
        self._user = outlet.username
        self._version = word(outlet, "version", ("3", "2c") if outlet.username else ("2c", "3"))
        if self._version == "3" and not self._user:
            raise bad("SNMP v3 needs a user")
        self._authentication = AUTHENTICATION[word(outlet, "authentication", tuple(AUTHENTICATION))]
        self._privacy = PRIVACY[word(outlet, "privacy", tuple(PRIVACY))]
        self._privacy_secret = outlet.options.get("privacy_secret", self._secret)
        self._context = outlet.options.get("context", "").encode()
        if self._version == "3" and min(len(self._secret), len(self._privacy_secret)) < 8:
            raise bad("secrets of SNMP v3 have at least 8 characters")
        self._opened: tuple[Any, Any, Any] | None = None
        self._turn = asyncio.Lock()

    async def get(self, *names: str) -> list[Any]:
        """Return the values of objects; raise ``UNSUPPORTED`` if one does not exist."""
        return await self._ask("get_cmd", [(name, None) for name in names])

    async def set(self, name: str, value: int) -> None:
        """Set an integer."""
        await self._ask("set_cmd", [(name, value)])

    async def close(self) -> None:
        """Close the socket."""
        opened, self._opened = self._opened, None
        if opened is not None:
            opened[0].close_dispatcher()

    async def _ask(self, command: str, wanted: list[tuple[str, int | None]]) -> list[Any]:
        async with self._turn:
            library = await _library()
            engine, user, target = await self._open(library)
            objects = [
                library.ObjectType(library.ObjectIdentity(name))
                if value is None
                else library.ObjectType(library.ObjectIdentity(name), library.Integer32(value))
                for name, value in wanted
            ]
            try:
                indication, status, _, found = await getattr(library, command)(
                    engine,
                    user,
                    target,
                    library.ContextData(contextName=self._context),
                    *objects,
                    lookupMib=False,
                )
            except Exception as error:
                if not _is_of_library(error):
                    raise
                # Never its own text, which quotes secrets.
                raise bad(f"SNMP cannot carry user, secret or context ({type(error).__name__})") from None
        self._raise(indication, int(status or 0))
        values = [value for _, value in found]
        if len(values) != len(wanted) or any(_is_missing(value) for value in values):
            raise PowerError(PowerFault.UNSUPPORTED, "no such outlet")
        return values

    def _raise(self, indication: Any, status: int) -> None:
        if indication:
            name = type(indication).__name__
            if any(word in name for word in CREDENTIAL_ERRORS):
                raise PowerError(PowerFault.BAD_CREDENTIALS, name)
            raise PowerError(PowerFault.NO_ANSWER_OR_BAD_CREDENTIALS, str(indication)[:100])
        if status in NO_ACCESS:
            raise PowerError(PowerFault.BAD_CREDENTIALS, f"SNMP error {status}")
        if status in REFUSED:
            raise PowerError(PowerFault.REFUSED, f"SNMP error {status}")
        if status:
            raise PowerError(PowerFault.UNSUPPORTED, f"SNMP error {status}")

    async def _open(self, library: Any) -> tuple[Any, Any, Any]:
        if self._opened is None:
            # An engine of its own for each device: users of v3 are known to an engine by name alone.
            engine = await asyncio.to_thread(library.SnmpEngine)
            kind = library.Udp6TransportTarget if ":" in self._address[0] else library.UdpTransportTarget
            try:
                target = await kind.create(self._address, timeout=SECONDS, retries=RETRIES)
            except Exception as error:
                if not _is_of_library(error):
                    raise
                raise PowerError(PowerFault.NO_ANSWER, "its address cannot be resolved") from None
            self._opened = engine, self._credentials(library), target
        return self._opened

    def _credentials(self, library: Any) -> Any:
        if self._version == "2c":
            return library.CommunityData(self._secret, mpModel=1)
        return library.UsmUserData(
            self._user,
            authKey=self._secret,
            privKey=self._privacy_secret,
            authProtocol=getattr(library, self._authentication),
            privProtocol=getattr(library, self._privacy),
        )


def _is_of_library(error: Exception) -> bool:
    return type(error).__module__.partition(".")[0] in ("pysnmp", "pyasn1")


def _is_missing(value: Any) -> bool:
    return type(value).__name__ in ("NoSuchInstance", "NoSuchObject", "EndOfMibView", "Null")


async def _library() -> Any:
    """Return pysnmp, imported in a thread: that takes most of a second."""
    try:
        return await asyncio.to_thread(importlib.import_module, "pysnmp.hlapi.v3arch.asyncio")
    except ImportError:
        raise PowerError(
            PowerFault.MISSING_PROGRAM, "pysnmp is not installed: pip install 'infoscreen[power]'"
        ) from None
