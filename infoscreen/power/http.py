"""HTTP to small devices: one request at a time, bounded in time and bytes, no redirects, no proxies."""

import asyncio
import json
import ssl
from collections.abc import Mapping
from typing import Any

import aiohttp

from infoscreen.domain.errors import PowerError
from infoscreen.domain.power import Outlet, PowerFault
from infoscreen.power.options import bad, base_url

MOST_BYTES = 256 * 2**10
SECONDS = 8.0

Middlewares = tuple[aiohttp.ClientMiddlewareType, ...]


class Door:
    """Requests to one device. Refused credentials, silence and nonsense are told apart in ``PowerError``."""

    def __init__(
        self,
        outlet: Outlet,
        *,
        scheme: str = "http",
        headers: Mapping[str, str] | None = None,
        middlewares: Middlewares = (),
        seconds: float = SECONDS,
    ) -> None:
        """The option ``fingerprint`` pins the device's certificate: SHA-256 in hexadecimal."""
        self._base = base_url(outlet, scheme)
        self._headers = dict(headers or {})
        self._middlewares = middlewares
        self._timeout = aiohttp.ClientTimeout(total=seconds)
        self._tls = _tls(outlet.options.get("fingerprint"))
        self._session: aiohttp.ClientSession | None = None

    async def ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: object = None,
        public: bool = False,
    ) -> tuple[int, Any]:
        """Return the status and the JSON of the answer; ``public`` sends no credentials.

        An answer that is no JSON comes as None. 401 and 403 raise ``BAD_CREDENTIALS``.
        """
        session = self._opened()
        try:
            async with session.request(
                method,
                f"{self._base}{path}",
                params=query,
                json=body,
                headers={} if public else self._headers,
                middlewares=() if public else self._middlewares,
                allow_redirects=False,
                ssl=self._tls,
            ) as response:
                data = await _read(response)
                status = response.status
        except TimeoutError:
            raise PowerError(PowerFault.NO_ANSWER, "no answer in time") from None
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ServerFingerprintMismatch):
            raise PowerError(PowerFault.BAD_CREDENTIALS, "its certificate is not the expected one") from None
        except (aiohttp.ClientError, ssl.SSLError, OSError, ValueError) as error:
            # Never the error's own text: it may quote an address with credentials in it.
            raise PowerError(PowerFault.NO_ANSWER, type(error).__name__) from None
        if status in (401, 403):
            raise PowerError(PowerFault.BAD_CREDENTIALS, f"HTTP {status}")
        return status, data

    async def close(self) -> None:
        """Close the connection."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            # Small devices serve few connections and forget idle ones: each request has its own.
            connector = aiohttp.TCPConnector(limit=1, force_close=True)
            self._session = aiohttp.ClientSession(
                connector=connector,
                timeout=self._timeout,
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                max_line_size=8_190,
                max_field_size=8_190,
            )
        return self._session


async def _read(response: aiohttp.ClientResponse) -> Any:
    data = bytearray()
    async for chunk in response.content.iter_chunked(16_384):
        data += chunk
        if len(data) > MOST_BYTES:
            raise PowerError(PowerFault.BAD_ANSWER, f"more than {MOST_BYTES} bytes")
    try:
        # A deep nesting ends in RecursionError.
        return await asyncio.to_thread(json.loads, data) if len(data) > 16_384 else json.loads(data)
    except (ValueError, RecursionError):
        return None


def _tls(fingerprint: str | None) -> bool | aiohttp.Fingerprint:
    if fingerprint is None:
        return True
    try:
        return aiohttp.Fingerprint(bytes.fromhex(fingerprint.replace(":", "")))
    except ValueError:
        raise bad("fingerprint is not a SHA-256 in hexadecimal") from None


def basic(username: str | None, secret: str | None) -> dict[str, str]:
    """Return the header for HTTP Basic, none without a password; raise ``PowerError`` for a wrong user."""
    if secret is None:
        return {}
    try:
        return {"Authorization": aiohttp.encode_basic_auth(username or "admin", secret)}
    except ValueError:
        raise bad("user or password have characters that HTTP cannot carry") from None


def object_of(status: int, data: Any) -> dict[str, Any]:
    """Return the JSON object of a good answer; raise ``PowerError`` for anything else."""
    if status == 404:
        raise PowerError(PowerFault.UNSUPPORTED, "HTTP 404")
    if not 200 <= status < 300:
        raise PowerError(PowerFault.BAD_ANSWER, f"HTTP {status}")
    if not isinstance(data, dict):
        raise PowerError(PowerFault.BAD_ANSWER, "not a JSON object")
    return data


def watts_of(value: Any) -> float | None:
    """Return a measured power, None if it is none: missing, text, negative, infinite."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value < 1_000_000 else None
