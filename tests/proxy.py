"""A bad line between two parts: a TCP proxy that delays, lets through little at a time, or goes dead."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from tests.programs import find_free_port


class Proxy:
    """Passes connections on to a port on loopback. What it is told holds for all of them at once."""

    def __init__(self, to_port: int) -> None:
        self.port = find_free_port()
        self.delay_seconds = 0.0
        """How long each piece is held up."""
        self.piece_bytes = 65_536
        """How much is let through at a time."""
        self.cut_at: bytes | None = None
        """Cut the connection once, as soon as this is sent to the server; no answer comes back."""
        self.cut_passes_after: float | None = 0.0
        """After how many seconds what was cut at still reaches the server; None: never."""
        self.loses_what_is_sent = False
        """Lose what is sent to the server; what it sends still arrives."""
        self.cuts = 0
        """How often that was done."""
        """How many were made so far."""
        self._to_port = to_port
        self._open = asyncio.Event()
        self._open.set()

    def go_dead(self) -> None:
        """Let nothing through any more, without a word to either side: neither sees an end."""
        self._open.clear()

    def come_back(self) -> None:
        """Let everything through again, also what was held up."""
        self._open.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._open.wait()  # the kernel accepts, which is no answer of the broker
        with suppress(OSError):
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._to_port)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pass_on(reader, there_writer, writer))
                both.create_task(self._pass_on(there_reader, writer))
        writer.close()

    async def _pass_on(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        back: asyncio.StreamWriter | None = None,
    ) -> None:
        try:
            with suppress(OSError):
                while data := await reader.read(self.piece_bytes):
                    await asyncio.sleep(self.delay_seconds)
                    await self._open.wait()
                    if back is not None and self.loses_what_is_sent:
                        continue
                    if back is not None and self.cut_at is not None and self.cut_at in data:
                        self.cut_at = None
                        self.cuts += 1
                        back.transport.abort()
                        if self.cut_passes_after is None:
                            writer.transport.abort()
                            return
                        await asyncio.sleep(self.cut_passes_after)
                    writer.write(data)
                    await writer.drain()
        finally:
            writer.close()


@asynccontextmanager
async def proxied(to_port: int) -> AsyncIterator[Proxy]:
    """Yield a proxy that runs, and cut all its connections at the end."""
    proxy = Proxy(to_port)
    tasks: set[asyncio.Task[None]] = set()

    def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(proxy._serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(serve, "127.0.0.1", proxy.port)
    try:
        yield proxy
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
