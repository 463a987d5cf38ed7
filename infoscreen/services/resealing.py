"""Seals every stored secret again once there is a new key, so that the older ones can be taken away.

What cannot be read stays as it is; its owner says so.
"""

import logging
from collections.abc import Callable, Mapping
from types import MappingProxyType

from infoscreen.clock import Clock
from infoscreen.progress import expect_within
from infoscreen.services import second_factors
from infoscreen.services.loops import every
from infoscreen.services.notify import delivery
from infoscreen.services.power import outlets
from infoscreen.services.secrets import Secrets
from infoscreen.storage import sealed
from infoscreen.storage.engine import Store
from infoscreen.storage.sealed import SealedColumn, SealedRow

log = logging.getLogger(__name__)

AGAIN_SECONDS = 3_600.0
"""Another server with the older key may still store secrets after our start."""

AT_ONCE = 100

PURPOSES: Mapping[SealedColumn, Callable[[int | str], str]] = MappingProxyType(
    {
        sealed.CHANNEL_URL: lambda key: delivery.URL.format(id=key),
        sealed.CHANNEL_SECRET: lambda key: delivery.SECRET.format(id=key),
        sealed.OUTLET: lambda key: outlets.purpose(str(key)),
        sealed.SECOND_FACTOR: lambda key: second_factors.purpose(int(key)),
        sealed.OFFERED_FACTOR: lambda key: second_factors.purpose(int(key)),
    }
)
"""What the texts of each column are bound to, by the key of the row."""


class Resealing:
    """Looks for secrets under older keys, at the start and once an hour."""

    def __init__(self, store: Store, clock: Clock, secrets: Secrets) -> None:
        self._store = store
        self._clock = clock
        self._secrets = secrets

    async def run(self) -> None:
        """Look until cancelled."""
        await every(AGAIN_SECONDS, self.step, self._clock)

    async def step(self) -> int:
        """Seal again what is sealed under an older key; return how many secrets that were."""
        prefix = self._secrets.prefix
        if prefix is None:
            return 0
        done = sum([await self._column(where, prefix) for where in PURPOSES])
        if done:
            log.info(
                "secrets are encrypted with the new key", extra={"event": "secrets_resealed", "count": done}
            )
        return done

    async def _column(self, where: SealedColumn, prefix: str) -> int:
        done, after = 0, None
        while True:
            expect_within()
            async with self._store.read() as connection:
                rows = await sealed.not_under(connection, where, prefix, after, AT_ONCE)
            if not rows:
                return done
            after = rows[-1].key
            fresh = [(row, text) for row in rows if (text := self._resealed(where, row)) is not None]
            if fresh:
                async with self._store.write() as connection:
                    for row, text in fresh:
                        await sealed.replace(connection, where, row, text)
            done += len(fresh)

    def _resealed(self, where: SealedColumn, row: SealedRow) -> str | None:
        return self._secrets.resealed(row.sealed, PURPOSES[where](row.key))
