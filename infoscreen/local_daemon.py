"""Asks the daemon of this host whether it is there and how it is, over HTTP, as anybody else would."""

import http.client
import json
import ssl
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from infoscreen.settings import Settings

ANSWER_SECONDS = 5.0
MOST_BYTES = 2 * 2**20


class DaemonPresence(StrEnum):
    """What is found where the daemon should be."""

    DAEMON = "daemon"
    NOBODY = "nobody"
    SILENT = "silent"
    SOMETHING_ELSE = "something_else"


@dataclass(frozen=True, slots=True)
class LocalReply:
    """An answer; ``status`` is None without one."""

    presence: DaemonPresence
    status: int | None = None
    body: bytes = b""

    @property
    def json(self) -> Any:
        """Return the body as JSON; None if it is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


def where(settings: Settings) -> tuple[str, int]:
    """Return the address under which this host reaches the daemon."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.http_host, settings.http_host)  # noqa: S104 - no bind
    return host, settings.http_port


def ask(settings: Settings, path: str) -> LocalReply:
    """Send a GET request and return the answer; never raises for what the network does. Blocks."""
    connection = _connection(settings)
    try:
        connection.request("GET", path, headers=_headers(settings))
        response = connection.getresponse()
        return LocalReply(DaemonPresence.DAEMON, response.status, response.read(MOST_BYTES))
    except TimeoutError:
        return LocalReply(DaemonPresence.SILENT)
    except (ConnectionResetError, ssl.SSLError, http.client.HTTPException):
        return LocalReply(DaemonPresence.SOMETHING_ELSE)
    except OSError:
        return LocalReply(DaemonPresence.NOBODY)
    finally:
        connection.close()


def look(settings: Settings) -> DaemonPresence:
    """Tell what is there. Blocks."""
    reply = ask(settings, "/healthz")
    if reply.presence is DaemonPresence.DAEMON and not (
        isinstance(reply.json, dict) and reply.json.get("status") == "ok"
    ):
        return DaemonPresence.SOMETHING_ELSE
    return reply.presence


def is_running(settings: Settings) -> bool:
    """Tell whether the daemon answers, or might be there and be too busy to answer. Blocks."""
    return look(settings) in (DaemonPresence.DAEMON, DaemonPresence.SILENT)


def _headers(settings: Settings) -> dict[str, str]:
    token = settings.metrics_token
    given = {} if token is None else {"Authorization": f"Bearer {token.get_secret_value()}"}
    return {"Accept": "*/*", **given}


def _connection(settings: Settings) -> http.client.HTTPConnection:
    host, port = where(settings)
    if settings.http_tls_certfile is None:
        return http.client.HTTPConnection(host, port, timeout=ANSWER_SECONDS)
    # Asked on this host, by an address that the certificate need not name.
    unchecked = ssl.create_default_context()
    unchecked.check_hostname, unchecked.verify_mode = False, ssl.CERT_NONE
    return http.client.HTTPSConnection(host, port, timeout=ANSWER_SECONDS, context=unchecked)
