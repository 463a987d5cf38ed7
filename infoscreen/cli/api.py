"""A small client of the HTTP API; what can go wrong on the way becomes one sentence."""

import json
import ssl
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import click

from infoscreen.cli.output import plain

TIMEOUT_SECONDS = 30


class Unreachable(click.ClickException):
    """The server cannot be reached, or not just now."""


class Api:
    """A session with the server; use it as an async context manager."""

    def __init__(self, url: str, token: str | None, ca: Path | None = None) -> None:
        """Prepare; trust ``ca`` instead of the system's CAs. Raise ``click.UsageError`` if it is none."""
        self._url = url.rstrip("/")
        if ca is not None and not self._url.lower().startswith("https://"):
            raise click.UsageError(f"--ca needs an https address, not {self._url!r}.")
        try:
            tls = ssl.create_default_context(cafile=ca)
        except (OSError, ValueError) as error:
            raise click.UsageError(f"{ca} has no CA certificate: {error}.") from None
        tls.minimum_version = ssl.TLSVersion.TLSv1_2
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=tls),
            # Without a token a request has to say that no page of another site has made it.
            headers={"Accept": "application/json"}
            | ({"Sec-Fetch-Site": "none"} if token is None else {"Authorization": f"Bearer {token}"}),
            timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS),
        )

    async def __aenter__(self) -> Self:
        """Return itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the session."""
        await self._session.close()

    async def get(self, path: str, **query: Any) -> dict[str, Any]:
        """Return what the server answers.

        Raises:
            Unreachable: there is no answer.
            click.ClickException: the answer is a refusal, or not of an infoscreen server.
        """
        return await self._request("GET", path, params=query)

    async def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Send the body and return the answer; see ``get``."""
        return await self._request("POST", path, json=body)

    async def patch(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Send the changes and return the answer; see ``get``."""
        return await self._request("PATCH", path, json=body)

    async def every(self, path: str, **query: Any) -> list[dict[str, Any]]:
        """Return the items of a list from all its pages; see ``get``."""
        page = await self.get(path, limit=500, **query)
        items: list[dict[str, Any]] = page["items"]
        while page["next_cursor"] is not None:
            page = await self.get(path, limit=500, cursor=page["next_cursor"], **query)
            items += page["items"]
        return items

    async def _request(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        try:
            # A redirect would turn a POST into a GET and could carry the token elsewhere.
            async with self._session.request(
                method, self._url + path, allow_redirects=False, **options
            ) as response:
                return _answer(self._url, response, await response.text())
        except TimeoutError:
            raise Unreachable(f"{self._url} did not answer within {TIMEOUT_SECONDS} seconds.") from None
        except aiohttp.InvalidURL:
            raise click.UsageError(f"{self._url!r} is no URL such as https://panel.example.") from None
        except aiohttp.ClientSSLError as error:  # which trying again does not mend
            raise click.ClickException(f"Cannot trust {self._url}: {error}") from None
        except (aiohttp.ClientError, UnicodeDecodeError) as error:
            raise Unreachable(f"Cannot reach {self._url}: {error}") from None


def _answer(url: str, response: aiohttp.ClientResponse, text: str) -> dict[str, Any]:
    if 300 <= response.status < 400:
        elsewhere = plain(response.headers.get("Location", "somewhere else"))
        raise click.ClickException(f"{url} sends on to {elsewhere}; use the address there as --url.")
    try:
        answer = json.loads(text)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise click.ClickException(
            f"{url} does not answer like infoscreen (status {response.status}, {response.content_type})."
        )
    if response.status >= 400:
        raise click.ClickException(plain(_refusal(answer, response.status)))
    return answer


def _refusal(problem: dict[str, Any], status: int) -> str:
    sentence = str(problem.get("detail") or problem.get("title") or f"The server answered {status}.")
    more = [f"{error['field']}: {error['message']}" for error in problem.get("errors") or []]
    more += [f"{name} {problem[name]}" for name in ("command_id", "locked_until") if problem.get(name)]
    return f"{sentence} ({'; '.join(more)})" if more else sentence
