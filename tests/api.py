"""Asking the JSON API in one line."""

from typing import Any

from aiohttp import ClientSession


async def ask(session: ClientSession, method: str, path: str, *, status: int = 200, **more: Any) -> Any:
    """Send a request, check the status, and return the JSON of the answer, None without a body."""
    async with session.request(method, path, **more) as response:
        text = await response.text()
        assert response.status == status, f"{method} {path}: {response.status} {text}"
        if not text:
            return None
        wanted = "application/json" if status < 400 else "application/problem+json"
        assert response.content_type == wanted
        return await response.json(content_type=wanted)
