"""Messages of the agent that are not delivered yet, kept on disk.

What is to be kept is on disk before it is sent, as long as the disk can be written.
"""

import asyncio
import contextlib
import logging
from collections.abc import Hashable
from pathlib import Path

from infoscreen.agent.journal_file import JournalFile, JournalUnavailable
from infoscreen.agent.protocol.journal import Journal, JournalContents, Record
from infoscreen.agent.protocol.packet_queue import PacketQueue
from infoscreen.agent.protocol.packets import Packet
from infoscreen.clock import Clock

log = logging.getLogger(__name__)


class Mail:
    """Outbox and journal of one agent. A ``Path`` as token is a file that goes when its event is sent."""

    def __init__(self, file: JournalFile, known: JournalContents | None, clock: Clock) -> None:
        """Prepare; ``known`` is None when the file could not be opened, which is tried again."""
        self._file = file
        self._clock = clock
        self._unsaved: list[Record] = []
        self._saving = asyncio.Lock()
        self._changed = asyncio.Event()
        self._moved = asyncio.Event()
        self._closing = False
        self._broken = False
        self._told = False
        self.outbox = PacketQueue()
        # Serials count from 1, so those of a process that does not know them yet begin far above.
        first = 1 if known is not None else int(clock.now().timestamp()) * 1_000
        self.journal = Journal(known, keep=self._unsaved.append, first_serial=first)

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
            try:
                if not self._file.is_open:
                    self.journal.recall(await asyncio.to_thread(self._file.open, self._clock.now()))
                    self._broken = True
                if self._broken:
                    await self._write(self.journal.everything(), instead=True)
                elif self._unsaved:
                    await self._write(self._unsaved)
            except JournalUnavailable as error:
                if not self._told:
                    log.log(
                        logging.ERROR,
                        "the journal cannot be written; commands will be refused",
                        extra={"event": "journal_unavailable", "error": str(error)},
                    )
                self._broken = self._told = True
                self._unsaved.clear()  # everything is written once that is possible
                return False
            self._broken = self._told = False
            return True

    async def _write(self, records: list[Record], *, instead: bool = False) -> None:
        unsaved = len(self._unsaved)
        await asyncio.to_thread(self._file.append, list(records), instead=instead)
        del self._unsaved[:unsaved]

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
