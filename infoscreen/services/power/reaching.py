"""The outlet of one power cycle, as a driver that is opened when it is needed, and again after trouble."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from infoscreen.domain.errors import PowerError
from infoscreen.domain.power import Capabilities, Outlet, OutletIdentity, Reading
from infoscreen.services.ports import PowerDriver

T = TypeVar("T")

Find = Callable[[], Awaitable[Outlet]]
"""Returns where the outlet is, with its secrets; raises ``PowerError``."""


class ReachedOutlet:
    """A ``PowerDriver`` that asks where its outlet is before its first request and after each that failed.

    A cycle may wait for hours for an outlet whose password or address was changed in the middle.
    """

    def __init__(self, find: Find, open_outlet: Callable[[Outlet], PowerDriver]) -> None:
        self._find = find
        self._open_outlet = open_outlet
        self._driver: PowerDriver | None = None

    @property
    def capabilities(self) -> Capabilities:
        """Return what the outlet can do, as far as it was reached."""
        return Capabilities() if self._driver is None else self._driver.capabilities

    async def identify(self) -> OutletIdentity:
        """Return what the outlet says that it is."""
        return await self._with(lambda driver: driver.identify())

    async def status(self) -> Reading:
        """Return what the outlet says of its state."""
        return await self._with(lambda driver: driver.status())

    async def off(self, restore_after: float | None = None) -> None:
        """Ask for OFF."""
        await self._with(lambda driver: driver.off(restore_after))

    async def on(self) -> None:
        """Ask for ON."""
        await self._with(lambda driver: driver.on())

    async def close(self) -> None:
        """Give back connections."""
        driver, self._driver = self._driver, None
        if driver is not None:
            await driver.close()

    async def _with(self, ask: Callable[[PowerDriver], Awaitable[T]]) -> T:
        if self._driver is None:
            self._driver = self._open_outlet(await self._find())
        try:
            return await ask(self._driver)
        except PowerError:
            await self.close()
            raise
