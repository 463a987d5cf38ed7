"""The web application on the spine, served by the real server, and the browsers and programs before it."""

import asyncio
from collections.abc import AsyncIterator, Collection, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from aiohttp import ClientSession, CookieJar, web
from argon2 import PasswordHasher
from yarl import URL

from infoscreen.domain.accounts import Role, User
from infoscreen.domain.alerts import AlertSource
from infoscreen.metrics import Metrics
from infoscreen.notify.process import ProcessSender
from infoscreen.openid.provider import OpenIdProvider
from infoscreen.power.registry import open_outlet
from infoscreen.provisioning.helper_client import HelperClient
from infoscreen.services.accounts import CLI, Accounts
from infoscreen.services.enrolling import Enrolling
from infoscreen.services.monitoring import Monitoring
from infoscreen.services.notify.channels import Notifying
from infoscreen.services.notify.delivery import Delivery
from infoscreen.services.notify.links import AcknowledgeLinks
from infoscreen.services.passwords import Passwords
from infoscreen.services.ports import AccountMaker, Sender
from infoscreen.services.power.outlets import Outlets
from infoscreen.services.second_factors import SecondFactors
from infoscreen.services.secrets import Secrets
from infoscreen.services.single_sign_on import SingleSignOn
from infoscreen.web.application import create_app, create_runner
from infoscreen.web.keys import Parts, WebConfig
from infoscreen.web.live import LiveFeed
from tests.spine import Spine, open_spine, sqlite_url

PASSWORD = "correct horse battery"  # noqa: S105 - of users who live as long as a test
SECRETS_KEY = bytes(range(32))
QUICK_HASHER = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
"""Real argon2id, only not slow."""

SAME_ORIGIN = {"Sec-Fetch-Site": "same-origin"}


SECRETS = Secrets([bytes(range(40))])


def notifying_of(spine: Spine, sender: Sender, secrets: Secrets = SECRETS) -> Notifying:
    """Return what manages channels, with a delivery that nobody runs."""
    wake = asyncio.Event()
    delivery = Delivery(spine.store, spine.clock, sender, secrets, wake)
    return Notifying(spine.store, spine.clock, sender, secrets, delivery, wake)


GROUPS = {Role.VIEWER: frozenset({"staff"}), Role.OPERATOR: frozenset({"ops"}), Role.ADMIN: frozenset({"it"})}


def single_sign_on(provider: OpenIdProvider, spine: Spine) -> SingleSignOn:
    """Return what signs people in at a provider, with the roles of ``GROUPS``."""
    return SingleSignOn(spine.store, spine.clock, provider, GROUPS, spine.bus)


@dataclass
class Site:
    """A running application. ``spine`` is what devices and time do to it."""

    spine: Spine
    parts: Parts
    url: URL
    _stack: AsyncExitStack

    async def visitor(self, headers: Mapping[str, str] | None = None) -> ClientSession:
        """Return someone with cookies of their own, who sends the headers with every request."""
        session = ClientSession(self.url, headers=headers, cookie_jar=CookieJar(unsafe=True))
        return await self._stack.enter_async_context(session)

    async def browser(self, role: Role | None = None) -> ClientSession:
        """Return a browser, signed in as the user of that role unless it is None."""
        browser = await self.visitor(SAME_ORIGIN)
        if role is not None:
            user = await self.user(role)
            credentials = {"username": user.username, "password": PASSWORD}
            async with browser.post("/api/auth/login", json=credentials) as response:
                assert response.status == 200, await response.text()
        return browser

    async def program(self, role: Role, *, manages_accounts: bool = False) -> ClientSession:
        """Return a program with an API token of the user of that role."""
        made = await self.parts.accounts.create_token(
            (await self.user(role)).id, "program", role, CLI, manages_accounts=manages_accounts
        )
        return await self.visitor({"Authorization": f"Bearer {made.secret}"})

    async def user(self, role: Role) -> User:
        """Return the user who has the role's word for a name and ``PASSWORD``; the first call adds them."""
        users = (await self.parts.accounts.users(500)).items
        found = [user for user in users if user.username == role.value]
        return found[0] if found else await self.parts.accounts.add_user(role.value, PASSWORD, role, CLI)


@asynccontextmanager
async def serving(
    directory: Path,
    config: WebConfig | None = None,
    url: str | None = None,
    *,
    alerts: Sequence[AlertSource] = (),
    notifying: Notifying | None = None,
    helper: AccountMaker | None = None,
    codes: timedelta | None = None,
    required: Collection[Role] = (),
    secrets: Secrets = SECRETS,
    provider: OpenIdProvider | None = None,
    port: int = 0,
) -> AsyncIterator[Site]:
    """Serve the application from a fresh database in ``directory``, or from the empty one at ``url``.

    ``required`` are the roles that need a second factor.
    """
    async with AsyncExitStack() as stack:
        spine = await stack.enter_async_context(open_spine(url or sqlite_url(directory)))
        passwords = Passwords(QUICK_HASHER)
        stack.callback(passwords.close)
        factors = SecondFactors(spine.store, spine.clock, secrets, spine.bus, required)
        parts = Parts(
            store=spine.store,
            clock=spine.clock,
            accounts=Accounts(spine.store, spine.clock, passwords, spine.bus, factors),
            commanding=spine.commanding,
            bulk=spine.bulk,
            sites=spine.sites,
            fleet=spine.fleet,
            outlets=Outlets(spine.store, spine.clock, spine.bus, Secrets([SECRETS_KEY]), open_outlet),
            pausing=spine.pausing,
            single_sign_on=None if provider is None else single_sign_on(provider, spine),
            enrolling=Enrolling(
                spine.store, spine.clock, helper or HelperClient(directory / "no-helper"), codes
            ),
            recovering=spine.recovering,
            notifying=notifying or notifying_of(spine, ProcessSender(spine.clock, None, allow_private=True)),
            links=AcknowledgeLinks(spine.store, spine.clock, spine.bus, SECRETS),
            monitoring=Monitoring(spine.store, spine.clock, spine.link, spine.ingest, alerts=alerts),
            bus=spine.bus,
            live=LiveFeed(spine.store, spine.bus, spine.link, spine.clock),
            link=spine.link,
            metrics=Metrics(),
            config=config or WebConfig(),
        )
        runner = create_runner(create_app(parts))
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        await stack.enter_async_context(_running(parts.live.run()))
        # Event streams end first, or the server would wait for them.
        stack.callback(spine.bus.close)
        host, port = runner.addresses[0][:2]
        yield Site(spine, parts, URL(f"http://{host}:{port}"), stack)


@asynccontextmanager
async def _running(endless: Coroutine[None, None, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(endless)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
