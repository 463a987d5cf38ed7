"""Signing in at an OpenID Connect provider: authorization code flow with PKCE, state and nonce.

Every answer is bounded in time and size, the provider's addresses must be https (unless the issuer itself
is http), redirects are not followed, and only asymmetric signatures count. A provider that is slow or down
raises ``ProviderUnavailable`` and holds up nobody else: few conversations are held at a time, and what is
known of it is kept for a while.
"""

import asyncio
import json
import logging
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from typing import Any
from urllib.parse import quote_plus, urlencode, urlsplit

from aiohttp import ClientError, ClientSession, ClientTimeout, encode_basic_auth
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import Key, KeySet

from infoscreen.clock import Clock
from infoscreen.domain.error_codes import ErrorCode
from infoscreen.domain.errors import Busy, IdentityRefused, ProviderUnavailable
from infoscreen.services.ports import ProviderIdentity, SignInRequest

log = logging.getLogger(__name__)

TIMEOUT = ClientTimeout(total=8, connect=4)
MOST_BYTES = 512 * 1024
MOST_CONVERSATIONS = 8
FRESH = timedelta(hours=1)
"""How long the provider's addresses and keys are used without asking again."""

RETRY_SECONDS = 10.0
"""How often keys are fetched again at most, because a token names an unknown one, or after a failure."""

SKEW = timedelta(seconds=60)
"""By how much the provider's clock may differ from ours."""

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
LONGEST_TEXT = 255
MOST_GROUPS = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenIdConfig:
    """What is configured of the provider."""

    issuer: str
    client_id: str
    client_secret: str | None
    scopes: str
    username_claim: str
    groups_claim: str


@dataclass(frozen=True, slots=True)
class _Metadata:
    authorization: str
    token: str
    userinfo: str | None
    keys: KeySet
    secret_in_body: bool
    fetched_at: float


class OpenIdProvider:
    """One provider; see ``services.ports.IdentityProvider``."""

    def __init__(self, config: OpenIdConfig, clock: Clock) -> None:
        """Nothing is fetched before somebody signs in."""
        self.issuer = config.issuer
        self._config = config
        self._clock = clock
        self._known: _Metadata | None = None
        self._failed_at: float | None = None
        self._one_at_a_time = asyncio.Lock()
        self._talking = 0

    async def begin(self, redirect_uri: str) -> SignInRequest:
        """Return where to send the browser, and what it must bring back.

        Raises:
            ProviderUnavailable: it does not answer, or not as it should.
            Busy: too many sign in at once.
        """
        with self._turn():
            known = await self._metadata()
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        challenge = urlsafe_b64encode(sha256(verifier.encode()).digest()).decode().rstrip("=")
        asked = {
            "response_type": "code",
            "client_id": self._config.client_id,
            "redirect_uri": redirect_uri,
            "scope": self._config.scopes,
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        joint = "&" if urlsplit(known.authorization).query else "?"
        return SignInRequest(f"{known.authorization}{joint}{urlencode(asked)}", state, nonce, verifier)

    async def finish(self, code: str, redirect_uri: str, nonce: str, verifier: str) -> ProviderIdentity:
        """Exchange the code for who signed in.

        Raises:
            IdentityRefused: the provider refuses the code, or its token is not one for us.
            ProviderUnavailable, Busy: as ``begin``.
        """
        with self._turn():
            async with self._session() as session:
                return await self._finished(session, code, redirect_uri, nonce, verifier)

    async def _finished(
        self, session: ClientSession, code: str, redirect_uri: str, nonce: str, verifier: str
    ) -> ProviderIdentity:
        known = await self._metadata()
        answer = await self._exchange(session, known, code, redirect_uri, verifier)
        token = answer.get("id_token")
        if not isinstance(token, str):
            raise _refused("no_id_token")
        claims = await self._checked(token, nonce)
        if self._config.groups_claim not in claims or self._config.username_claim not in claims:
            claims = {**claims, **await self._userinfo(session, known, answer, claims["sub"])}
        return self._identity(claims)

    def _identity(self, claims: Mapping[str, Any]) -> ProviderIdentity:
        name, groups = claims.get(self._config.username_claim), claims.get(self._config.groups_claim, [])
        if isinstance(groups, str):
            groups = [groups]
        if not isinstance(name, str) or not _text(name):
            raise _refused("no_username")
        if not isinstance(groups, list) or len(groups) > MOST_GROUPS:
            raise _refused("bad_groups")
        return ProviderIdentity(claims["sub"], name, frozenset(one for one in groups if isinstance(one, str)))

    async def _checked(self, token: str, nonce: str) -> dict[str, Any]:
        """Return the claims of an ID token, if the provider signed it now, for us and for this sign-in."""
        known = await self._metadata()
        try:
            decoded = jwt.decode(token, known.keys, algorithms=list(ALGORITHMS))
        except (JoseError, ValueError):
            # It may have been signed with a key that is newer than what we know.
            known = await self._metadata(newer_than=known)
            try:
                decoded = jwt.decode(token, known.keys, algorithms=list(ALGORITHMS))
            except (JoseError, ValueError):
                raise _refused("bad_signature") from None
        claims = decoded.claims
        now, skew = self._clock.now().timestamp(), SKEW.total_seconds()
        audience = claims.get("aud")
        audiences = audience if isinstance(audience, list) else [audience]
        faults = {
            "other_issuer": claims.get("iss") != self._config.issuer,
            "other_audience": self._config.client_id not in audiences,
            "other_party": (len(audiences) > 1 or "azp" in claims)
            and claims.get("azp") != self._config.client_id,
            "other_nonce": not secrets.compare_digest(str(claims.get("nonce")).encode(), nonce.encode()),
            "expired": not _number(claims.get("exp")) or claims["exp"] <= now - skew,
            "from_the_future": not _number(claims.get("iat")) or claims["iat"] > now + skew,
            "not_yet_valid": "nbf" in claims and not (_number(claims["nbf"]) and claims["nbf"] <= now + skew),
            "no_subject": not _text(claims.get("sub")),
        }
        for fault, is_so in faults.items():
            if is_so:
                raise _refused(fault)
        return dict(claims)

    async def _exchange(
        self, session: ClientSession, known: _Metadata, code: str, redirect_uri: str, verifier: str
    ) -> dict[str, Any]:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": verifier,
        }
        headers, secret = {}, self._config.client_secret
        if secret is None:
            form["client_id"] = self._config.client_id
        elif known.secret_in_body:
            form |= {"client_id": self._config.client_id, "client_secret": secret}
        else:
            # RFC 6749 wants both encoded as in a form.
            login, password = quote_plus(self._config.client_id), quote_plus(secret)
            headers["Authorization"] = encode_basic_auth(login, password)
        status, answer = await self._ask(session, "POST", known.token, data=form, headers=headers)
        if 400 <= status < 500:
            raise _refused("code_refused")
        if status != 200:
            raise _unavailable("token", f"status {status}")
        return answer

    async def _userinfo(
        self, session: ClientSession, known: _Metadata, answer: Mapping[str, Any], subject: str
    ) -> dict[str, Any]:
        access = answer.get("access_token")
        if known.userinfo is None or not isinstance(access, str) or not access.isascii():
            return {}
        headers = {"Authorization": f"Bearer {access}"}
        status, told = await self._ask(session, "GET", known.userinfo, headers=headers)
        if status != 200:
            raise _unavailable("userinfo", f"status {status}")
        if told.get("sub") != subject:
            raise _refused("other_subject")
        return told

    async def _metadata(self, newer_than: _Metadata | None = None) -> _Metadata:
        """Return what is known of the provider, fetched if it is old, or not newer than what did not do."""
        async with self._one_at_a_time:
            known, now = self._known, self._clock.monotonic()
            fresh_for = RETRY_SECONDS if known is newer_than else FRESH.total_seconds()
            if known is not None and now - known.fetched_at < fresh_for:
                return known
            if self._failed_at is not None and now - self._failed_at < RETRY_SECONDS:
                raise _unavailable("discovery", "failed a moment ago")
            try:
                self._known = await self._fetched()
            except ProviderUnavailable:
                self._failed_at = self._clock.monotonic()
                raise
            self._failed_at = None
            return self._known

    async def _fetched(self) -> _Metadata:
        async with self._session() as session:
            where = self._config.issuer.rstrip("/") + "/.well-known/openid-configuration"
            status, told = await self._ask(session, "GET", where)
            if status != 200 or told.get("issuer") != self._config.issuer:
                raise _unavailable("discovery", f"status {status}, issuer {str(told.get('issuer'))[:100]}")
            where = self._address(told, "jwks_uri")
            status, found = await self._ask(session, "GET", where)
        keys = _usable(found.get("keys"))
        if not keys:
            raise _unavailable("keys", f"status {status}, no key that can be used")
        methods = told.get("token_endpoint_auth_methods_supported")
        if not isinstance(methods, list):
            methods = ["client_secret_basic"]
        return _Metadata(
            authorization=self._address(told, "authorization_endpoint"),
            token=self._address(told, "token_endpoint"),
            userinfo=self._address(told, "userinfo_endpoint") if "userinfo_endpoint" in told else None,
            keys=KeySet(keys),
            secret_in_body="client_secret_basic" not in methods and "client_secret_post" in methods,
            fetched_at=self._clock.monotonic(),
        )

    def _address(self, told: Mapping[str, Any], name: str) -> str:
        value = told.get(name)
        try:
            parts = urlsplit(value) if isinstance(value, str) and value.isprintable() else None
        except ValueError:
            parts = None
        schemes = {"https", urlsplit(self._config.issuer).scheme}
        if parts is None or not parts.hostname or parts.scheme not in schemes:
            raise _unavailable("discovery", f"{name} is no address")
        return str(value)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Hold few conversations at a time: a provider that hangs does not gather requests without end."""
        if self._talking >= MOST_CONVERSATIONS:
            raise Busy(ErrorCode.SIGN_INS_WAITING)
        self._talking += 1
        try:
            yield
        finally:
            self._talking -= 1

    def _session(self) -> ClientSession:
        return ClientSession(timeout=TIMEOUT, headers={"Accept": "application/json"})

    async def _ask(
        self, session: ClientSession, method: str, where: str, **more: Any
    ) -> tuple[int, dict[str, Any]]:
        """Return status and JSON object; an answer that is none counts as empty."""
        try:
            async with session.request(method, where, allow_redirects=False, **more) as response:
                raw = b""
                async for chunk in response.content.iter_any():
                    raw += chunk
                    if len(raw) > MOST_BYTES:
                        raise _unavailable(urlsplit(where).path, "too large")
        except (ClientError, TimeoutError, OSError, ValueError) as error:
            raise _unavailable(urlsplit(where).path, type(error).__name__) from None
        try:
            told = json.loads(raw)
        except (ValueError, RecursionError):
            told = {}
        return response.status, told if isinstance(told, dict) else {}


def _usable(found: object) -> list[Key]:
    """Return the asymmetric keys of a list; those that cannot be read are passed over (RFC 7517, 5)."""
    keys: list[Key] = []
    for one in found if isinstance(found, list) else ():
        # A shared key would let everybody who knows it sign.
        with suppress(JoseError, KeyError, TypeError, ValueError, AttributeError):
            keys += KeySet.import_key_set({"keys": [one]}).keys if one["kty"] != "oct" else []
    return keys


def _text(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= LONGEST_TEXT and "\0" not in value


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _refused(fault: str) -> IdentityRefused:
    log.warning(
        "a sign-in at the provider was refused", extra={"event": "auth.identity_refused", "fault": fault}
    )
    return IdentityRefused(ErrorCode.IDENTITY_REFUSED)


def _unavailable(part: str, fault: str) -> ProviderUnavailable:
    log.warning(
        "the identity provider cannot be used",
        extra={"event": "auth.provider_unavailable", "part": part, "fault": fault},
    )
    return ProviderUnavailable(ErrorCode.PROVIDER_UNAVAILABLE)
