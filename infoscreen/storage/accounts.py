"""Users, sessions and API tokens, as rows. Only hashes of secrets are here."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    RowMapping,
    Select,
    and_,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    true,
    union_all,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from infoscreen.domain.accounts import ApiToken, Role, Session, User
from infoscreen.storage import locks
from infoscreen.storage.account_tables import api_tokens, pending_logins, second_factors, sessions, users
from infoscreen.storage.columns import insert_or
from infoscreen.storage.identities import NO_PASSWORD
from infoscreen.storage.locks import AdvisoryLock
from infoscreen.storage.paging import Page, cursor_id, numbered_page

_COLUMNS = (
    users.c.id,
    users.c.username,
    users.c.role,
    users.c.disabled,
    users.c.created_at,
    users.c.last_login_at,
)
_USER = (
    *_COLUMNS,
    exists()
    .where(second_factors.c.user_id == users.c.id, second_factors.c.sealed.is_not(None))
    .label("second_factor"),
)
_TOKEN = (
    api_tokens.c.id,
    api_tokens.c.name,
    api_tokens.c.user_id,
    api_tokens.c.role,
    api_tokens.c.created_at,
    api_tokens.c.expires_at,
    api_tokens.c.last_used_at,
    api_tokens.c.manages_accounts,
)
_SESSION = tuple(sessions.c)


def _user(row: RowMapping) -> User:
    return User(**{column.name: row[column] for column in _USER})


def _token(row: RowMapping) -> ApiToken:
    return ApiToken(**{column.name: row[column] for column in _TOKEN})


def _session(row: RowMapping) -> Session:
    return Session(**{column.name: row[column] for column in _SESSION})


# Users.


async def add_user(
    connection: AsyncConnection, username: str, password_hash: str, role: Role, now: datetime
) -> User | None:
    """Add a user and return them; None when the name is taken, in whatever case.

    The column's index knows the case, so on PostgreSQL one name is added at a time; SQLite has one writer.
    """
    await locks.hold(connection, AdvisoryLock.USER_NAMES)
    if await user_by_name(connection, username) is not None:
        return None
    added = await connection.execute(
        insert_or(connection, users)
        .values(username=username, password_hash=password_hash, role=role, disabled=False, created_at=now)
        .on_conflict_do_nothing(index_elements=["username"])
        .returning(*_COLUMNS)
    )
    row = added.mappings().one_or_none()
    return None if row is None else User(**row)


async def user_by_id(connection: AsyncConnection, user_id: int) -> User | None:
    """Return a user."""
    return await _one_user(connection, select(*_USER).where(users.c.id == user_id))


async def user_by_name(connection: AsyncConnection, username: str) -> User | None:
    """Return a user; names are compared without regard to case."""
    alike = select(*_USER).where(func.lower(users.c.username) == username.lower())
    # Earlier versions could add two names that differ in case alone: the one as written comes first.
    ordered = alike.order_by(users.c.username != username, users.c.id).limit(1)
    return await _one_user(connection, ordered)


async def _one_user(connection: AsyncConnection, query: Select[Any]) -> User | None:
    row = (await connection.execute(query)).mappings().one_or_none()
    return None if row is None else _user(row)


async def hold_user(
    connection: AsyncConnection, user_id: int, *, with_password: str | None = None
) -> User | None:
    """Return a user, and hold the row: until the transaction ends nobody else changes or removes them.

    Sessions and tokens are added after holding their user, and taken away after changing the user, so that
    each side sees what the other has done. ``with_password`` returns only a user who may sign in with the
    password of this hash.
    """
    query = select(*_USER).where(users.c.id == user_id)
    if with_password is not None:
        query = query.where(users.c.password_hash == with_password, users.c.disabled.is_(False))
    return await _one_user(connection, query.with_for_update(key_share=True))


async def hold_user_and_admins(connection: AsyncConnection, user_id: int) -> tuple[User | None, int]:
    """Return a user, and how many other admins can sign in; all of them are held.

    In one statement and one order: two who take an admin away cannot wait for each other.
    """
    admins = and_(users.c.role == Role.ADMIN, users.c.disabled.is_(False))
    query = select(*_USER).where(or_(users.c.id == user_id, admins)).order_by(users.c.id)
    held = [_user(row) for row in (await connection.execute(query.with_for_update())).mappings()]
    user = next((one for one in held if one.id == user_id), None)
    return user, sum(one.id != user_id for one in held)


async def replace_password(connection: AsyncConnection, user_id: int, before: str, after: str) -> bool:
    """Set a password's hash if it is still the one given; tell whether it was."""
    unchanged = and_(users.c.id == user_id, users.c.password_hash == before)
    done = await connection.execute(update(users).where(unchanged).values(password_hash=after))
    return done.rowcount > 0


async def password_hash(connection: AsyncConnection, user_id: int) -> str | None:
    """Return the hash to check a password against; None for a user who has no password."""
    found: str | None = await connection.scalar(select(users.c.password_hash).where(users.c.id == user_id))
    return None if found == NO_PASSWORD else found


async def users_page(connection: AsyncConnection, limit: int, cursor: str | None = None) -> Page[User]:
    """Return users in the order in which they were added."""
    found = await connection.execute(
        select(*_USER).where(users.c.id > cursor_id(cursor)).order_by(users.c.id).limit(limit + 1)
    )
    total = await connection.scalar(select(func.count()).select_from(users))
    return numbered_page([_user(row) for row in found.mappings()], limit, total or 0)


async def change_user(connection: AsyncConnection, user_id: int, **changes: Any) -> None:
    """Set columns of a user."""
    await connection.execute(update(users).where(users.c.id == user_id).values(**changes))


async def remove_user(connection: AsyncConnection, user_id: int) -> None:
    """Remove a user with all sessions and tokens."""
    await connection.execute(delete(users).where(users.c.id == user_id))


# Sessions.


async def add_session(connection: AsyncConnection, session: Session) -> None:
    """Add a session."""
    await connection.execute(
        insert(sessions).values({column.name: getattr(session, column.name) for column in _SESSION})
    )


async def session_of(connection: AsyncConnection, token_hash: str) -> tuple[Session, User] | None:
    """Return a session and whose it is."""
    query = select(*_SESSION, *_USER).join(users).where(sessions.c.token_hash == token_hash)
    row = (await connection.execute(query)).mappings().one_or_none()
    return None if row is None else (_session(row), _user(row))


async def sessions_of(connection: AsyncConnection, user_id: int) -> list[Session]:
    """Return a user's sessions, the one used last first."""
    query = select(*_SESSION).where(sessions.c.user_id == user_id).order_by(sessions.c.last_seen_at.desc())
    return [_session(row) for row in (await connection.execute(query)).mappings()]


async def touch_session(connection: AsyncConnection, seen: Session, now: datetime) -> None:
    """Write down that a session is in use, unless somebody else just did."""
    unchanged = sessions.c.last_seen_at == seen.last_seen_at
    await connection.execute(
        update(sessions).where(sessions.c.token_hash == seen.token_hash, unchanged).values(last_seen_at=now)
    )


async def remove_session(connection: AsyncConnection, token_hash: str) -> bool:
    """Remove a session; tell whether it was there."""
    gone = await connection.execute(delete(sessions).where(sessions.c.token_hash == token_hash))
    return gone.rowcount > 0


async def remove_sessions_of(connection: AsyncConnection, user_id: int, keep: Sequence[str] = ()) -> None:
    """Remove a user's sessions but those with a token hash to ``keep``, and the sign-ins under way."""
    await connection.execute(delete(pending_logins).where(pending_logins.c.user_id == user_id))
    await connection.execute(
        delete(sessions).where(sessions.c.user_id == user_id, sessions.c.token_hash.not_in(keep))
    )


async def remove_dead_sessions(connection: AsyncConnection, now: datetime, idle: timedelta) -> None:
    """Remove the sessions that have run out or have not been used for ``idle``."""
    await connection.execute(
        delete(sessions).where(or_(sessions.c.expires_at <= now, sessions.c.last_seen_at <= now - idle))
    )


# API tokens.


async def add_token(
    connection: AsyncConnection,
    *,
    token_hash: str,
    name: str,
    user_id: int,
    role: Role,
    now: datetime,
    expires_at: datetime | None,
    manages_accounts: bool,
) -> ApiToken:
    """Add an API token."""
    added = await connection.execute(
        insert(api_tokens)
        .values(
            token_hash=token_hash,
            name=name,
            user_id=user_id,
            role=role,
            created_at=now,
            expires_at=expires_at,
            manages_accounts=manages_accounts,
        )
        .returning(*_TOKEN)
    )
    return _token(added.mappings().one())


async def token_of(connection: AsyncConnection, token_hash: str) -> tuple[ApiToken, User] | None:
    """Return an API token and whose it is."""
    query = select(*_TOKEN, *_USER).join(users).where(api_tokens.c.token_hash == token_hash)
    row = (await connection.execute(query)).mappings().one_or_none()
    return None if row is None else (_token(row), _user(row))


async def token_by_id(connection: AsyncConnection, token_id: int) -> ApiToken | None:
    """Return an API token."""
    row = (
        (await connection.execute(select(*_TOKEN).where(api_tokens.c.id == token_id)))
        .mappings()
        .one_or_none()
    )
    return None if row is None else _token(row)


async def tokens_page(
    connection: AsyncConnection, limit: int, cursor: str | None = None, user_id: int | None = None
) -> Page[ApiToken]:
    """Return tokens in the order in which they were made, of one user or of all."""
    mine = true() if user_id is None else api_tokens.c.user_id == user_id
    found = await connection.execute(
        select(*_TOKEN)
        .where(mine, api_tokens.c.id > cursor_id(cursor))
        .order_by(api_tokens.c.id)
        .limit(limit + 1)
    )
    total = await connection.scalar(select(func.count()).select_from(api_tokens).where(mine))
    return numbered_page([_token(row) for row in found.mappings()], limit, total or 0)


async def touch_token(connection: AsyncConnection, seen: ApiToken, now: datetime) -> None:
    """Write down that a token is in use, unless somebody else just did."""
    unchanged = api_tokens.c.last_used_at.is_not_distinct_from(seen.last_used_at)
    await connection.execute(
        update(api_tokens).where(api_tokens.c.id == seen.id, unchanged).values(last_used_at=now)
    )


async def tokens_of(connection: AsyncConnection, user_id: int) -> int:
    """Count a user's API tokens."""
    query = select(func.count()).select_from(api_tokens).where(api_tokens.c.user_id == user_id)
    return await connection.scalar(query) or 0


async def remove_tokens_of(connection: AsyncConnection, user_id: int) -> int:
    """Remove all of a user's API tokens and return how many there were."""
    return (await connection.execute(delete(api_tokens).where(api_tokens.c.user_id == user_id))).rowcount


async def remove_token(connection: AsyncConnection, token_id: int) -> bool:
    """Remove an API token; tell whether it was there."""
    return (await connection.execute(delete(api_tokens).where(api_tokens.c.id == token_id))).rowcount > 0


async def is_valid(connection: AsyncConnection, credential: str) -> bool:
    """Tell whether the session or the API token with this hash is still there."""
    found = select(sessions.c.token_hash).where(sessions.c.token_hash == credential)
    tokens = select(api_tokens.c.token_hash).where(api_tokens.c.token_hash == credential)
    return await connection.scalar(union_all(found, tokens).limit(1)) is not None
