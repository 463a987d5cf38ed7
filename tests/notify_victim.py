"""Processes that begin an incident, tell it, end it, tell that, and kill themselves at one of these steps.

``python -m tests.notify_victim DATABASE RECEIVER`` forks one for each line ``ROUND POINT`` that it reads, and
answers with ``killed``, or with how many points it has passed; with POINT -1 it lives.
"""

import asyncio
import os
import random
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta

from infoscreen.domain.notifying import ChannelKind
from infoscreen.domain.recovery import Closing, Incident, IncidentKind
from infoscreen.notify.process import ProcessSender
from infoscreen.services.notify.channels import Notifying
from infoscreen.services.notify.delivery import Delivery
from infoscreen.services.notify.sources import Sources
from infoscreen.services.notify.telling import Telling
from infoscreen.services.ports import Delivered, Notice, Receiver
from infoscreen.storage.engine import Connection, Store
from infoscreen.storage.notify import channels
from infoscreen.storage.recovery import incidents
from tests.fakes import FakeClock
from tests.spine import ADMIN, MORNING
from tests.web import SECRETS

ROUND_APART = timedelta(minutes=30)
"""So that no channel comes to its limit, and what failed is due again."""

LONGEST_SEND = 1.0


class Death:
    """Counts the points of a life, and ends it at one of them."""

    def __init__(self, at: int) -> None:
        self._at = at
        self.passed = 0

    def is_here(self) -> bool:
        self.passed += 1
        return self.passed - 1 == self._at

    def point(self) -> None:
        if self.is_here():
            self.come()

    @staticmethod
    def come() -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class MortalStore(Store):
    """A store whose user may die before and after each commit."""

    death: Death

    @asynccontextmanager
    async def write(self, *, at_once: bool = False) -> AsyncIterator[Connection]:
        async with super().write(at_once=at_once) as connection:
            yield connection
            self.death.point()
        self.death.point()


class MortalSender(ProcessSender):
    """A sender whose user may die before, during and after a delivery."""

    death: Death

    async def send(self, receiver: Receiver, notice: Notice) -> Delivered:
        self.death.point()
        sending = asyncio.create_task(super().send(receiver, notice))
        if self.death.is_here():
            await asyncio.sleep(random.uniform(0, LONGEST_SEND))
            self.death.come()
        outcome = await sending
        self.death.point()
        return outcome


async def live(url: str, number: int, at: int, receiver: str) -> int:
    """Live one round and return how many points were passed."""
    death = Death(at)
    clock = FakeClock(MORNING + number * ROUND_APART)
    store = MortalStore(url)
    store.death = death
    store.open()
    sender = MortalSender(clock, "https://panel.example", allow_private=True)
    sender.death = death
    wake = asyncio.Event()
    delivery = Delivery(store, clock, sender, SECRETS, wake)
    telling = Telling(store, clock, Sources(store, clock, list, lambda: None))
    async with store.read() as connection:
        known = await channels.every(connection)
    if not known:
        managing = Notifying(store, clock, sender, SECRETS, delivery, wake)
        await managing.add_rule("default", {"delay_seconds": 0}, ADMIN)
        await managing.add_channel("hook", ChannelKind.WEBHOOK, receiver, "en", ADMIN)
        return 0

    async def tell() -> None:
        await telling.step()
        for _ in range(100):
            await delivery.step()
            if not delivery.under_way:
                return
            await delivery.settled()
        raise AssertionError("there is always something to deliver")

    begun = Incident(
        key=f"round {number}", kind=IncidentKind.SITE_OUTAGE, began_at=clock.now(), site=f"Round {number}"
    )
    if number > 0:
        async with store.write() as connection:
            await incidents.save(connection, begun)
    await tell()
    clock.advance(60)
    async with store.write() as connection:
        for one in await incidents.under_way(connection):
            ended = replace(one.fact, ended_at=clock.now(), closing=Closing.OVER)
            await incidents.save(connection, ended)
    await tell()
    await store.close()
    return death.passed


def _answer(text: object) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main(url: str, receiver: str) -> None:
    """Fork: importing everything takes longer than a life."""
    for line in sys.stdin:
        number, at = map(int, line.split())
        child = os.fork()
        if child == 0:
            passed = asyncio.run(live(url, number, at, receiver))
            _answer(passed)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            _answer("killed")
        elif os.WEXITSTATUS(status):
            _answer("failed")


if __name__ == "__main__":
    main(*sys.argv[1:])
