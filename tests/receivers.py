"""Receivers of notifications: HTTP servers that note what they get and misbehave when told to, and mail."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from infoscreen.domain.notifying import ChannelKind, DeliveryFault
from infoscreen.services.ports import Delivered, Notice, Receiver
from tests.waiting import DEADLINE_SECONDS

Answering = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Request:
    """One request that a receiver got."""

    method: str
    path: str
    headers: dict[str, str]
    body: str

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class HttpReceiver:
    """A server on loopback. ``answer`` may be replaced."""

    host: str
    got: list[Request] = field(default_factory=list)
    answer: Answering | None = None
    _something: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.text()
        self.got.append(Request(request.method, request.path_qs, dict(request.headers), body))
        self._something.set()
        if self.answer is not None:
            return await self.answer(request)
        return web.json_response({"id": "1", "ok": True})

    async def until(self, count: int) -> None:
        """Wait until so many requests have come."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while len(self.got) < count:
                self._something.clear()
                await self._something.wait()


@asynccontextmanager
async def http_receiver(tls: ssl.SSLContext | None = None) -> AsyncIterator[HttpReceiver]:
    """Serve a receiver while the block lasts."""
    receiver = HttpReceiver("")
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", receiver.handle)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    receiver.host = f"127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield receiver
    finally:
        await runner.cleanup()


class FakeSender:
    """A way out that takes no time: notes what it is given and answers as told."""

    def __init__(self, answers: Sequence[Delivered] = ()) -> None:
        self.sent: list[Notice] = []
        self.receivers: list[Receiver] = []
        self.answers = list(answers)
        self.hangs: set[str] = set()
        self.understood = True

    async def check(self, kind: ChannelKind, url: str) -> Delivered:
        fault = None if self.understood else DeliveryFault.NOT_UNDERSTOOD
        return Delivered(ok=self.understood, fault=fault)

    async def send(self, receiver: Receiver, notice: Notice) -> Delivered:
        if receiver.url in self.hangs:
            await asyncio.Event().wait()
        self.sent.append(notice)
        self.receivers.append(receiver)
        return self.answers.pop(0) if self.answers else Delivered(ok=True)

    def preview(self, notice: Notice, language: str) -> tuple[str, str]:
        return notice.step.value, language
