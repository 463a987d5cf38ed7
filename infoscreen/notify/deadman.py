"""Fetches an address every minute while everything is well, so that others notice when it is not."""

import logging
from collections.abc import Awaitable, Callable

from aiohttp import ClientError, ClientSession, ClientTimeout

from infoscreen.clock import Clock

log = logging.getLogger(__name__)

EVERY_SECONDS, LIMIT_SECONDS = 60.0, 20.0


class DeadMan:
    """The sign of life. The address may hold a secret and is never logged."""

    def __init__(self, url: str, clock: Clock, is_well: Callable[[], Awaitable[bool]]) -> None:
        """``is_well`` tells whether the daemon does its job: broker and database can be used."""
        self._url = url
        self._clock = clock
        self._is_well = is_well
        self._failing = False

    async def run(self) -> None:
        """Give a sign of life every minute until cancelled."""
        while True:
            await self.step()
            await self._clock.sleep(EVERY_SECONDS)

    async def step(self) -> bool:
        """Fetch the address if everything is well; return whether it took the sign."""
        if not await self._is_well():
            return False
        status, fault = None, None
        try:
            async with (
                ClientSession(timeout=ClientTimeout(total=LIMIT_SECONDS)) as session,
                session.get(self._url, allow_redirects=False) as answer,
            ):
                status = answer.status
        except (ClientError, OSError, ValueError) as error:
            fault = type(error).__name__
        taken = status is not None and status < 400
        if taken is self._failing:
            log.log(
                logging.INFO if taken else logging.WARNING,
                "the sign of life is taken again" if taken else "the sign of life was not taken",
                extra={"event": "sign_of_life", "status": status, "fault": fault},
            )
        self._failing = not taken
        return taken
