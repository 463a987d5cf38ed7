"""https without a proxy: a certificate that can be replaced while connections go on."""

import asyncio
import logging
import ssl
from pathlib import Path

from infoscreen.domain.errors import CannotStart

log = logging.getLogger(__name__)


class Https:
    """The TLS of the HTTP server. New connections use the certificate that was loaded last."""

    def __init__(self, certfile: Path, keyfile: Path) -> None:
        """Load both files; raise ``CannotStart`` naming what is wrong."""
        self._current = server_context(certfile, keyfile)
        self.context = server_context(certfile, keyfile)
        """For the server. Each handshake is handed on to the newest context."""
        self.context.sni_callback = self._use_current

    def _use_current(self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        connection.context = self._current

    async def renew(self, certfile: Path, keyfile: Path) -> bool:
        """Load the files again and tell whether that worked; else the certificate from before stays."""
        try:
            self._current = await asyncio.to_thread(server_context, certfile, keyfile)
        except CannotStart as error:
            log.error(  # noqa: TRY400 - a traceback tells a sysadmin nothing
                "the certificate for https was not replaced; the one from before stays in use",
                extra={"event": "https_not_renewed", "error": str(error)},
            )
            return False
        log.info("the certificate for https was loaded", extra={"event": "https_renewed"})
        return True


def server_context(certfile: Path, keyfile: Path) -> ssl.SSLContext:
    """Return a context with this certificate; raise ``CannotStart``. Reads files."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        # Without a password OpenSSL would ask for one on the terminal and wait.
        context.load_cert_chain(certfile, keyfile, password="")
    except (OSError, ValueError) as error:
        words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise CannotStart(f"HTTP_TLS_CERTFILE={certfile} and HTTP_TLS_KEYFILE={keyfile}: {words}") from None
    return context
