"""Hashing passwords with argon2id: slow on purpose, and still never stopping the event loop."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

AT_MOST_AT_ONCE = 2
"""Each hash takes 64 MiB; a flood of logins waits in line instead of taking the memory of the daemon."""

HASHER = PasswordHasher(time_cost=3, memory_cost=64 * 1024, parallelism=4)
"""RFC 9106's second recommendation: argon2id, 3 passes over 64 MiB."""


class Passwords:
    """Makes and checks password hashes, in threads."""

    def __init__(self, hasher: PasswordHasher = HASHER) -> None:
        self._hasher = hasher
        self._threads = ThreadPoolExecutor(AT_MOST_AT_ONCE, thread_name_prefix="argon2")
        # Made beforehand, so that not even the first unknown user takes longer than a known one.
        self._nobodys_hash = self._threads.submit(hasher.hash, "nobody's password")

    async def hash(self, password: str) -> str:
        """Return a new hash with its parameters and salt."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._hasher.hash, password)

    async def check(self, password_hash: str | None, password: str) -> bool:
        """Tell whether the password is right; without a hash it is not, and finding out takes as long."""
        return await asyncio.get_running_loop().run_in_executor(
            self._threads, self._check, password_hash, password
        )

    def is_outdated(self, password_hash: str) -> bool:
        """Tell whether the hash was made with other parameters than are used now."""
        return self._hasher.check_needs_rehash(password_hash)

    def close(self) -> None:
        """Let the threads go."""
        self._threads.shutdown(wait=False)

    def _check(self, password_hash: str | None, password: str) -> bool:
        try:
            self._hasher.verify(password_hash or self._nobodys_hash.result(), password)
        except (VerificationError, InvalidHashError):
            return False
        return password_hash is not None
