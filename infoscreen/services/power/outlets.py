"""Outlets of clients: configuring them, and asking what they are and say. Nothing is switched here."""

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from infoscreen.clock import Clock
from infoscreen.domain.accounts import Actor
from infoscreen.domain.error_codes import ErrorCode
from infoscreen.domain.errors import (
    Busy,
    InvalidInput,
    NoOutlet,
    NotFound,
    OutletFault,
    OutletShared,
    PowerError,
    SecretUnreadable,
)
from infoscreen.domain.events import ClientChanged
from infoscreen.domain.faults import FieldFault
from infoscreen.domain.power import Outlet, OutletIdentity, PowerFault, Reading, same_identity
from infoscreen.domain.power.configuration import ClientPower
from infoscreen.services.bus import Bus
from infoscreen.services.ports import PowerDriver
from infoscreen.services.secrets import Secrets
from infoscreen.storage import audit, clients, power
from infoscreen.storage.engine import Connection, Store

log = logging.getLogger(__name__)

OpenOutlet = Callable[[Outlet], PowerDriver]
"""Makes the driver for an outlet; raises ``PowerError``."""

SECRET_NAMES = frozenset({"password", "privacy_secret"})

TEST_SECONDS = 20.0
TESTS_AT_ONCE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedPower:
    """An outlet as somebody enters it.

    ``secrets`` by name, see ``SECRET_NAMES``. Those that are left out stay as they are stored,
    as long as driver and address stay; None deletes one. ``shared`` says that other clients may use the
    same outlet.
    """

    driver: str
    address: str
    outlet: str
    username: str | None = None
    secrets: Mapping[str, str | None] = field(default_factory=dict, repr=False)
    identity: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    min_off_seconds: float = 10.0
    protected: bool = False
    shared: bool = False
    also_feeds: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ShownPower:
    """An outlet as it may be shown: ``secrets`` are the names of those that are stored.

    ``shared_with`` are all other clients whose power goes with it.
    """

    power: ClientPower
    secrets: tuple[str, ...]
    shared_with: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TestedOutlet:
    """What an outlet said of itself. ``expected`` is the identity it should have, None if any will do."""

    __test__ = False

    found: OutletIdentity
    reading: Reading
    expected: str | None
    is_expected: bool


class Outlets:
    """Configures and tests the outlets of clients. Secrets are encrypted here and never shown again."""

    def __init__(
        self, store: Store, clock: Clock, bus: Bus, secrets: Secrets, open_outlet: OpenOutlet
    ) -> None:
        self._store = store
        self._clock = clock
        self._bus = bus
        self._secrets = secrets
        self._open = open_outlet
        self._testing = asyncio.Semaphore(TESTS_AT_ONCE)

    async def configure(self, client_uuid: str, wanted: WantedPower | None, actor: Actor) -> None:
        """Set a client's outlet, or forget it.

        Raises:
            NotFound: there is no such client.
            InvalidInput: the configuration makes no sense to its driver, or ``also_feeds`` names no client.
            OutletShared: another client has the same outlet, and ``shared`` was not given.
            SecretUnreadable: there is no key to encrypt secrets with, or the stored ones were encrypted with
                another one and no new password is given.
        """
        async with self._store.write() as connection:
            await self.configure_in(connection, client_uuid, wanted, actor)
        self._bus.publish(ClientChanged(client_uuid))

    async def configure_in(
        self, connection: Connection, client_uuid: str, wanted: WantedPower | None, actor: Actor
    ) -> None:
        """Do as ``configure`` in a transaction that is under way; the caller tells of the change."""
        if wanted is not None and (hidden := SECRET_NAMES & wanted.options.keys()):
            # Options are stored in the clear and shown.
            raise InvalidInput.of("power.options", FieldFault.OTHER, rule=f"{min(hidden)} is no option")
        if client_uuid not in await clients.for_change(connection, [client_uuid]):
            raise NotFound(ErrorCode.NO_CLIENT, uuid=client_uuid)
        now = self._clock.now()
        if wanted is None:
            if await power.remove(connection, client_uuid):
                await audit.record(connection, now, actor, "client.power", f"client/{client_uuid}", None)
            return
        secrets = self._merged(await power.get(connection, client_uuid), wanted)
        after = ClientPower(
            client_uuid=client_uuid,
            driver=wanted.driver,
            address=wanted.address.strip(),
            outlet=wanted.outlet.strip(),
            username=wanted.username,
            sealed=self._sealed(client_uuid, secrets),
            identity=wanted.identity,
            options=dict(wanted.options),
            min_off_seconds=wanted.min_off_seconds,
            protected=wanted.protected,
            also_feeds=tuple(one for one in wanted.also_feeds if one != client_uuid),
            updated_at=now,
        )
        self._require_sense(after.with_secrets(secrets))
        unknown = set(after.also_feeds) - (await clients.keep_targets(connection, after.also_feeds)).keys()
        if unknown:
            rule = f"{min(unknown)} is no client"
            raise InvalidInput.of("power.also_feeds", FieldFault.OTHER, rule=rule)
        if not wanted.shared:
            await _require_alone(connection, after)
        await power.put(connection, after)
        detail = {
            "driver": after.driver,
            "address": after.address,
            "outlet": after.outlet,
            "protected": after.protected,
            "secrets": sorted(secrets),
        }
        await audit.record(connection, now, actor, "client.power", f"client/{client_uuid}", detail)

    async def shown(self, client_uuid: str) -> ShownPower | None:
        """Return a client's outlet, None if it has none."""
        async with self._store.read() as connection:
            return await self.shown_in(connection, client_uuid)

    async def shown_in(self, connection: Connection, client_uuid: str) -> ShownPower | None:
        """Do as ``shown`` in a transaction that is under way."""
        found = await power.get(connection, client_uuid)
        if found is None:
            return None
        shared_with = await sharing(connection, found)
        try:
            names = tuple(sorted(self._unsealed(found)))
        except SecretUnreadable:
            names = ("unreadable",)
        return ShownPower(found, names, shared_with)

    async def test(self, client_uuid: str) -> TestedOutlet:
        """Ask a client's outlet what it is and says.

        Raises:
            NoOutlet: the client has none.
            OutletFault: it cannot be used.
            Busy: other outlets are being tested.
            SecretUnreadable: its password cannot be decrypted.
        """
        async with self._store.read() as connection:
            found = await power.get(connection, client_uuid)
        if found is None:
            raise NoOutlet(ErrorCode.NO_OUTLET, uuid=client_uuid)
        if self._testing.locked():
            raise Busy(ErrorCode.OUTLETS_BUSY)
        async with self._testing:
            try:
                driver = self._open(self.opened(found))
                try:
                    async with asyncio.timeout(TEST_SECONDS):
                        identity, reading = await driver.identify(), await driver.status()
                finally:
                    await driver.close()
            except PowerError as error:
                raise OutletFault(error.fault, error.detail) from None
            except TimeoutError:
                raise OutletFault(PowerFault.NO_ANSWER, f"no answer within {TEST_SECONDS:g} s") from None
        expected = found.identity
        fits = expected is None or same_identity(identity.id, expected)
        return TestedOutlet(identity, reading, expected, fits)

    def opened(self, found: ClientPower) -> Outlet:
        """Return the outlet with its secrets; raise ``SecretUnreadable``."""
        return found.with_secrets(self._unsealed(found))

    def _merged(self, before: ClientPower | None, wanted: WantedPower) -> dict[str, str]:
        kept: dict[str, str] = {}
        same_place = before is not None and (before.driver, before.address) == (
            wanted.driver,
            wanted.address.strip(),
        )
        if before is not None and same_place and before.sealed is not None:
            # A stored password never goes to another address than the one it was entered for.
            try:
                kept = self._unsealed(before)
            except SecretUnreadable:
                if "password" not in wanted.secrets:
                    raise
        given = {**kept, **wanted.secrets}
        return {name: value for name, value in given.items() if value}

    def _sealed(self, client_uuid: str, secrets: Mapping[str, str]) -> str | None:
        return self._secrets.seal(json.dumps(dict(secrets)), purpose(client_uuid)) if secrets else None

    def _unsealed(self, found: ClientPower) -> dict[str, str]:
        if found.sealed is None:
            return {}
        read: dict[str, str] = json.loads(self._secrets.unseal(found.sealed, purpose(found.client_uuid)))
        return read

    def _require_sense(self, outlet: Outlet) -> None:
        try:
            self._open(outlet)
        except PowerError as error:
            raise InvalidInput.of("power", FieldFault.OTHER, rule=error.detail) from None


async def sharing(connection: Connection, found: ClientPower) -> tuple[str, ...]:
    """Return the other clients whose power goes with this outlet."""
    return tuple(sorted((await power.fed_by(connection, [found]))[found.client_uuid]))


async def _require_alone(connection: Connection, after: ClientPower) -> None:
    at_it = await power.of_outlet(connection, after.key)
    others = sorted({one.client_uuid for one in at_it} - {after.client_uuid})
    if others:
        raise OutletShared(ErrorCode.OUTLET_SHARED, clients=", ".join(others[:3]))


def purpose(client_uuid: str) -> str:
    """Return what the secret is bound to."""
    return f"power {client_uuid}"
