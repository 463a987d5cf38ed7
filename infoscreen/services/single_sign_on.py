"""Who signs in at a provider: the user here that belongs to them, with the role of their groups."""

from collections.abc import Mapping

from infoscreen.clock import Clock
from infoscreen.domain.accounts import Actor, Role, SignInWay, User
from infoscreen.domain.error_codes import ErrorCode
from infoscreen.domain.errors import IdentityRefused
from infoscreen.domain.events import AccessChanged
from infoscreen.services.accounts import USERNAME
from infoscreen.services.bus import Bus
from infoscreen.services.logins import Knock
from infoscreen.services.ports import IdentityProvider, ProviderIdentity
from infoscreen.services.signing_in import SignedIn, begin_session
from infoscreen.storage import accounts, audit, identities
from infoscreen.storage.engine import Connection, Store


class SingleSignOn:
    """Signing in with the word of a provider."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        provider: IdentityProvider,
        roles: Mapping[Role, frozenset[str]],
        bus: Bus | None = None,
    ) -> None:
        """``roles`` says which groups have which role; in several, the highest counts."""
        self.provider = provider
        self._store = store
        self._clock = clock
        self._roles = roles
        self._bus = bus

    async def sign_in(self, identity: ProviderIdentity, knock: Knock, user_agent: str | None) -> SignedIn:
        """Begin a session, adding the user at the first sign-in; raise ``IdentityRefused``.

        The groups of now decide the role. Where that changes, the user's other sessions end; where there is
        none any more, API tokens as well.
        """
        role, now = self._role_of(identity), self._clock.now()
        async with self._store.write() as connection:
            user = await self._user(connection, identity, role)
            actor = Actor(user.id, user.username, user.role, "provider", knock.address)
            if role is None or role is not user.role:
                await accounts.remove_sessions_of(connection, user.id)
            if role is None:
                await accounts.remove_tokens_of(connection, user.id)
            elif role is not user.role:
                await accounts.change_user(connection, user.id, role=role)
                await audit.record(
                    connection, now, actor, "user.role", f"user/{user.username}", {"role": role}
                )
            held = await accounts.hold_user(connection, user.id)
            signed_in = None
            if role is not None and held is not None and not held.disabled:
                signed_in = await begin_session(connection, held, knock, user_agent, SignInWay.PROVIDER, now)
        if role is not user.role and self._bus is not None:
            self._bus.publish(AccessChanged(user.id))
        if signed_in is None:
            raise IdentityRefused(ErrorCode.NO_ROLE_HERE)
        return signed_in

    def _role_of(self, identity: ProviderIdentity) -> Role | None:
        roles = [role for role, groups in self._roles.items() if groups & identity.groups]
        return max(roles, key=list(Role).index, default=None)

    async def _user(self, connection: Connection, identity: ProviderIdentity, role: Role | None) -> User:
        """Return the user of an identity, held; the first time a new one, never an account that was there."""
        issuer, now = self.provider.issuer, self._clock.now()
        known = await identities.user_of(connection, issuer, identity.subject)
        user = None if known is None else await accounts.hold_user(connection, known)
        if user is not None:
            return user
        if role is None:
            raise IdentityRefused(ErrorCode.NO_ROLE_HERE)
        if not USERNAME.fullmatch(identity.username):
            raise IdentityRefused(ErrorCode.IDENTITY_NAME, name=identity.username[:100])
        added = await accounts.add_user(connection, identity.username, identities.NO_PASSWORD, role, now)
        if added is None:
            raise IdentityRefused(ErrorCode.IDENTITY_NAME_TAKEN, name=identity.username)
        await identities.add(connection, issuer, identity.subject, added.id)
        actor = Actor(added.id, added.username, role, "provider")
        await audit.record(connection, now, actor, "user.add", f"user/{added.username}", {"role": role})
        return added
