"""Hashing passwords with argon2id: slow on purpose, and still never stopping the event loop.

Two lanes, one thread each: people whose device is known, or who are signed in, never wait behind strangers
who guess. So guessing is slow as a whole, from however many addresses, and an owner is not locked out by it.
"""

import asyncio
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from secrets import token_bytes
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError, VerifyMismatchError

from infoscreen.domain.error_codes import ErrorCode
from infoscreen.domain.errors import Busy

MOST_WAITING = 32
"""Checks that wait in one lane, some two seconds' worth; beyond that the answer is to try again later."""

HASHER = PasswordHasher(time_cost=3, memory_cost=64 * 1024, parallelism=4)
"""RFC 9106's second recommendation: argon2id, 3 passes over 64 MiB."""

T = TypeVar("T")


class _Lane:
    """One thread and a bounded queue: each hash takes 64 MiB, and many at once would take all memory."""

    def __init__(self, name: str) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._waiting = 0

    async def run(self, work: Callable[[], T]) -> T:
        if self._waiting >= MOST_WAITING:
            raise Busy(ErrorCode.SIGN_INS_WAITING)
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except (Argon2Error, MemoryError) as error:
            raise Busy(ErrorCode.NO_MEMORY_FOR_PASSWORD) from error
        finally:
            self._waiting -= 1

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)


class Passwords:
    """Makes and checks password hashes, in two threads at most."""

    def __init__(self, hasher: PasswordHasher = HASHER) -> None:
        self._hasher = hasher
        self._known, self._strangers = _Lane("argon2-known"), _Lane("argon2")
        self._nobodys_hash = _hash_of_nobody(hasher)

    async def hash(self, password: str) -> str:
        """Return a new hash with its parameters and salt; raise ``Busy``."""
        return await self._known.run(lambda: self._hasher.hash(_text(password)))

    async def check(self, password_hash: str | None, password: str, *, known: bool = False) -> bool:
        """Tell whether the password is right; without a hash it is not, and finding out takes as long.

        ``known`` puts it into the lane of known devices and open sessions. Raises ``Busy`` when too many wait
        or memory is short: that says nothing about the password.
        """
        lane = self._known if known else self._strangers
        return await lane.run(lambda: self._check(password_hash, password))

    def is_outdated(self, password_hash: str) -> bool:
        """Tell whether the hash was made with other parameters than are used now."""
        return self._hasher.check_needs_rehash(password_hash)

    def close(self) -> None:
        """Let the threads go."""
        self._known.close()
        self._strangers.close()

    def _check(self, password_hash: str | None, password: str) -> bool:
        try:
            self._hasher.verify(password_hash or self._nobodys_hash, _text(password))
        except (VerifyMismatchError, InvalidHashError):
            return False
        return password_hash is not None


def _hash_of_nobody(hasher: PasswordHasher) -> str:
    """Return a hash of no known password that takes as long to check as a real one, without computing one."""
    salt, digest = (
        b64encode(token_bytes(size)).decode().rstrip("=") for size in (hasher.salt_len, hasher.hash_len)
    )
    cost = f"m={hasher.memory_cost},t={hasher.time_cost},p={hasher.parallelism}"
    return f"$argon2id$v=19${cost}${salt}${digest}"


def _text(password: str) -> bytes:
    return password.encode("utf-8", "surrogatepass")
