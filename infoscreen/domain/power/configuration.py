"""What people configure about a client's power."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from infoscreen.domain.power.outlet import Outlet

SHORTEST_OFF_SECONDS, LONGEST_OFF_SECONDS = 5.0, 60.0
"""Below, capacitors keep a device alive; above, nothing gets better (PDUs allow 5 to 60 s)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientPower:
    """The outlet of a client as it is stored.

    ``sealed`` are the secrets, encrypted. A ``protected`` outlet also feeds what must not be switched off:
    a switch, the broker, this server. ``also_feeds`` are other clients whose power goes with it, beyond
    those that are configured with the same outlet: on a strip behind it, for example.
    """

    client_uuid: str
    driver: str
    address: str
    outlet: str
    username: str | None = None
    sealed: str | None = field(default=None, repr=False)
    identity: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    min_off_seconds: float = 10.0
    protected: bool = False
    also_feeds: tuple[str, ...] = ()
    updated_at: datetime

    @property
    def key(self) -> str:
        """Return what two configurations of the same outlet have in common."""
        return self.with_secrets({}).key

    @property
    def device_key(self) -> str:
        """Return what outlets of the same device have in common."""
        return self.with_secrets({}).device_key

    def with_secrets(self, secrets: Mapping[str, str]) -> Outlet:
        """Return the outlet as a driver needs it."""
        more = {name: value for name, value in secrets.items() if name != "password"}
        return Outlet(
            driver=self.driver,
            address=self.address,
            outlet=self.outlet,
            username=self.username,
            secret=secrets.get("password"),
            identity=self.identity,
            options={**self.options, **more},
            min_off_seconds=self.min_off_seconds,
        )
