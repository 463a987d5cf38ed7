"""The demo's mailbox: takes what a webhook would get, and shows it on a page. Keeps the newest in memory."""

import contextlib
import json
from collections import deque
from collections.abc import AsyncIterator
from html import escape
from typing import Any

from aiohttp import web

from infoscreen.demo.parts import HOST

KEPT = 200
BODY_LIMIT = 64 * 1024
HEADERS = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="5">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Mailbox of the infoscreen demo</title>
<style>
body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 46rem; margin: 1.5rem auto; padding: 0 1rem;
  color: #14191e; background: #f1efe8; }}
article {{ background: #fffefb; border: 1px solid #dcd7ca; border-radius: 4px; padding: 0.8rem 1rem;
  margin: 0 0 1rem; }}
h2 {{ margin: 0; font-size: 1.1rem; }}
p {{ margin: 0.3rem 0; white-space: pre-line; overflow-wrap: anywhere; }}
.when {{ color: #4f565d; font-size: 0.875rem; }}
</style></head><body><h1>Mailbox of the infoscreen demo</h1>
<p>What a mail, a chat or an SMS would have said. This page loads itself again every five seconds.</p>
{messages}
</body></html>
"""
NOTHING = "<p>Nothing yet. The first messages come within a minute or two, when clients need attention.</p>"


class Mailbox:
    """The newest messages, newest first."""

    def __init__(self) -> None:
        self._messages: deque[dict[str, Any]] = deque(maxlen=KEPT)

    async def take(self, request: web.Request) -> web.Response:
        """Take a message; one with an id that is here already is the same again."""
        try:
            message = json.loads(await request.text())
        except ValueError:
            raise web.HTTPBadRequest from None
        if not isinstance(message, dict):
            raise web.HTTPBadRequest
        known = {one.get("message_id") for one in self._messages}
        if message.get("message_id") not in known:
            self._messages.appendleft(message)
        return web.Response(status=204)

    async def show(self, request: web.Request) -> web.Response:
        """Show the messages."""
        shown = "".join(map(_article, self._messages)) or NOTHING
        return web.Response(text=PAGE.format(messages=shown), content_type="text/html", headers=HEADERS)


def _article(message: dict[str, Any]) -> str:
    def said(name: str) -> str:
        return escape(str(message.get(name) or ""))

    links = "".join(
        f' <a href="{said(name)}">{words}</a>'
        for name, words in (("url", "Show in the panel"), ("acknowledge_url", "Acknowledge"))
        if str(message.get(name) or "").startswith(("http://", "https://"))
    )
    return (
        f'<article><h2>{said("title")}</h2><p class="when">{said("sent_at")} · {said("step")}</p>'
        f"<p>{said('text')}</p><p>{links}</p></article>"
    )


@contextlib.asynccontextmanager
async def mailbox() -> AsyncIterator[str]:
    """Serve a mailbox on loopback while the block lasts; yields its address."""
    kept = Mailbox()
    application = web.Application(client_max_size=BODY_LIMIT)
    application.router.add_post("/take", kept.take)
    application.router.add_get("/", kept.show)
    runner = web.AppRunner(application, shutdown_timeout=1.0, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, HOST, 0).start()
        yield f"http://{HOST}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
