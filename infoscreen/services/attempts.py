"""Counting guesses: each is noted as failed before it is looked at, and failures make the next one wait.

Attempts have lanes: one for each proof of being known (a device, an open session), and one for strangers. A
proof that has failed too often is worth nothing for a while, and then it goes by the strangers' lane.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from math import ceil

from infoscreen.domain.accounts import login_blocked_until
from infoscreen.storage import logins
from infoscreen.storage.engine import Connection


@dataclass(frozen=True, slots=True)
class Counter:
    """Failures under a key: the first ``free`` cost nothing. ``forgiven``: a success clears all of them."""

    key: str
    free: int
    forgiven: bool = True


Lane = Sequence[Counter]


async def count(connection: Connection, lanes: Sequence[Lane], now: datetime) -> tuple[Lane, int]:
    """Count an attempt in the first lane that need not wait; else return the seconds to wait."""
    await logins.forget_old_failures(connection, now)
    waits = []
    for lane in lanes:
        until = None
        for counter in sorted(lane, key=lambda one: one.key):  # one order, so that nobody deadlocks
            held = await logins.hold_failures(connection, counter.key, now)
            blocked = login_blocked_until(held.failures, held.last_at, now, counter.free)
            until = max(filter(None, (until, blocked)), default=None)
        if until is None:
            for counter in lane:
                await logins.add_failure(connection, counter.key, now)
            return lane, 0
        waits.append(ceil((until - now).total_seconds()))
    return [], min(waits)


async def take_back(connection: Connection, lane: Lane) -> None:
    """Take an attempt back that turned out to be none."""
    for counter in lane:
        await logins.take_back_failure(connection, counter.key)


async def succeed(connection: Connection, lane: Lane) -> None:
    """Forget the failures of who turned out to be right."""
    for counter in lane:
        forget = logins.forget_failures if counter.forgiven else logins.take_back_failure
        await forget(connection, counter.key)
