"""Loops that repeat a step. The step is what tests call; the loop only waits."""

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from infoscreen.clock import Clock
from infoscreen.domain.errors import StoreUnavailable
from infoscreen.progress import SLACK_SECONDS, expect_within

T = TypeVar("T")
log = logging.getLogger(__name__)

TROUBLE_SECONDS = 1.0
"""A loop whose step had trouble waits at least so long, also one that otherwise does not wait at all."""


async def every(seconds: float, step: Callable[[], Awaitable[object]], clock: Clock) -> None:
    """Run the step, wait, and repeat until cancelled.

    Trouble with the database passes (locked by a backup, disk full, server restarted): the turn is skipped,
    which is said once, and the next one is a second away at least. Anything else is ours and ends the
    process.
    """
    in_trouble = False
    while True:
        expect_within()
        try:
            await step()
        except StoreUnavailable as error:
            if not in_trouble:
                log.warning(
                    "the database does not take a step of a loop; trying again",
                    extra={
                        "event": "store_unavailable",
                        "step": _name(step),
                        "trouble": error.trouble,
                        "error": str(error),
                    },
                )
            in_trouble = True
        else:
            if in_trouble:
                log.warning("the database is back", extra={"event": "store_back", "step": _name(step)})
            in_trouble = False
        pause = max(seconds, TROUBLE_SECONDS) if in_trouble else seconds
        expect_within(pause + SLACK_SECONDS)
        await clock.sleep(pause)


def _name(step: Callable[[], Awaitable[object]]) -> str:
    return getattr(step, "__qualname__", repr(step))
