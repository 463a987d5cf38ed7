"""What the agent has yet to say and must not forget. What is to be kept is on disk before it is sent."""

import asyncio
import contextlib
import logging
from collections.abc import Hashable
from pathlib import Path

from infoscreen.agent.protocol.journal import Journal, Record
from infoscreen.agent.protocol.outbox import Outbox
from infoscreen.agent.protocol.packets import Packet
from infoscreen.agent.state_files import StateFiles

log = logging.getLogger(__name__)


class Mail:
    """Outbox and journal of one agent. A ``Path`` as token is a file that goes when its event is sent."""

    def __init__(self, files: StateFiles, records: list[Record]) -> None:
        self._files = files
        self._unsaved: list[Record] = []
        self._saving = asyncio.Lock()
        self._changed = asyncio.Event()
        self._moved = asyncio.Event()
        self._closing = False
        self._broken = False
        self.outbox = Outbox()
        self.journal = Journal(records, keep=self._unsaved.append)

    def event(self, packet: Packet, token: Hashable = None) -> None:
        """Keep ``packet`` until it is sent."""
        self.outbox.event(packet, token)
        self._changed.set()

    def state(self, packet: Packet) -> None:
        """Send ``packet`` soon, or never if something newer comes before."""
        self.outbox.state(packet)
        self._changed.set()

    def wake(self) -> None:
        """Look at the outbox again: something was put into it."""
        self._changed.set()

    def close(self) -> None:
        """Let ``next`` return None once all events are sent."""
        self._closing = True
        self._changed.set()

    async def save(self) -> bool:
        """Write to disk what must not be forgotten; False if that cannot be, which is tried again later."""
        async with self._saving:
            records = list(self._unsaved)
            if not records:
                return True
            try:
                await asyncio.to_thread(self._files.append, records)
            except OSError as error:
                if not self._broken:
                    log.log(
                        logging.ERROR,
                        "the journal cannot be written; commands will be refused",
                        extra={"event": "journal_unavailable", "error": str(error)},
                    )
                self._broken = True
                return False
            self._broken = False
            del self._unsaved[: len(records)]
            return True

    async def next(self) -> Packet | None:
        """Wait for something to send and return it; None when there is nothing more to wait for."""
        while True:
            self._changed.clear()
            await self.save()
            if self._closing and self.outbox.events == 0:
                return None
            packet = self.outbox.next()
            if packet is not None:
                return packet
            await self._changed.wait()

    def sent(self, packet: Packet) -> None:
        """Forget a packet that the broker has acknowledged."""
        match self.outbox.sent(packet):
            case int() as serial:
                self.journal.sent(serial)
            case Path() as file:
                with contextlib.suppress(OSError):  # then it is sent again after a restart
                    file.unlink()
            case _:
                pass
        self._moved.set()

    async def drained(self, within: float) -> bool:
        """Wait until all events are sent; False if that took longer than ``within`` seconds."""
        try:
            async with asyncio.timeout(within):
                while self.outbox.events:
                    self._moved.clear()
                    await self._moved.wait()
        except TimeoutError:
            return False
        return True
