"""Secrets at rest: what must be used again, and so cannot be hashed, is stored encrypted.

The key is never in the database. A key that is missing, lost or another one makes single secrets unreadable,
which ``SecretUnreadable`` says; nothing else stops working. The library is loaded at the first use.
"""

import base64
import hashlib
import hmac
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from infoscreen.domain.error_codes import ErrorCode
from infoscreen.domain.errors import SecretUnreadable

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

VERSION = "v1"
NONCE_BYTES = 12
"""As AES-GCM wants it; random nonces are safe for 2**32 secrets under one key."""


class Secrets:
    """Seals and unseals texts with AES-256-GCM.

    A sealed text is ``v1:KEY ID:base64`` and is bound to its purpose, which names its place (``channel 3
    url``): copied to another row it cannot be unsealed there.
    """

    def __init__(self, keys: Sequence[bytes] = ()) -> None:
        """Take the keys, the current one first; the others only unseal. Without one nothing can be sealed."""
        self._keys = {_key_id(key): key for key in keys}
        self._current = next(iter(self._keys), None)

    @property
    def available(self) -> bool:
        """Tell whether there is a key."""
        return self._current is not None

    @property
    def prefix(self) -> str | None:
        """Return how every text begins that is sealed with the current key; None without one."""
        return None if self._current is None else f"{VERSION}:{self._current}:"

    def seal(self, text: str, purpose: str) -> str:
        """Return the text encrypted; raise ``SecretUnreadable`` if there is no key."""
        key_id = self._require_key()
        nonce = os.urandom(NONCE_BYTES)
        cipher = _cipher(self._keys[key_id])
        sealed = nonce + cipher.encrypt(nonce, text.encode("utf-8", "surrogatepass"), purpose.encode())
        return f"{VERSION}:{key_id}:{base64.urlsafe_b64encode(sealed).decode()}"

    def unseal(self, sealed: str, purpose: str) -> str:
        """Return the text.

        Raises:
            SecretUnreadable: there is no key, it was sealed with another one, or it was changed.
        """
        self._require_key()
        version, _, rest = sealed.partition(":")
        key_id, _, encoded = rest.partition(":")
        if version != VERSION:
            raise SecretUnreadable(ErrorCode.SECRET_DAMAGED)
        key = self._keys.get(key_id)
        if key is None:
            raise SecretUnreadable(ErrorCode.SECRET_OF_OTHER_KEY, key=key_id[:16])
        from cryptography.exceptions import InvalidTag

        try:
            raw = base64.b64decode(encoded, altchars=b"-_", validate=True)
            if base64.urlsafe_b64encode(raw).decode() != encoded:
                raise SecretUnreadable(ErrorCode.SECRET_DAMAGED)
            text = _cipher(key).decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], purpose.encode())
        except (InvalidTag, ValueError):
            raise SecretUnreadable(ErrorCode.SECRET_DAMAGED) from None
        return text.decode("utf-8", "surrogatepass")

    def resealed(self, sealed: str, purpose: str) -> str | None:
        """Return the text sealed with the current key, or None if it is already, or cannot be read."""
        if self.prefix is None or sealed.startswith(self.prefix):
            return None
        try:
            return self.seal(self.unseal(sealed, purpose), purpose)
        except SecretUnreadable:
            return None

    def sign(self, data: bytes, purpose: str) -> bytes | None:
        """Return a signature of 32 bytes that only this key can make; None without a key."""
        if self._current is None:
            return None
        return _signature(self._keys[self._current], data, purpose)

    def is_signed(self, data: bytes, signature: bytes, purpose: str) -> bool:
        """Tell whether one of the keys has signed the data for this purpose."""
        expected = [_signature(key, data, purpose) for key in self._keys.values()]
        # All are compared, so that the time says nothing.
        return sum(hmac.compare_digest(one, signature) for one in expected) > 0

    def _require_key(self) -> str:
        if self._current is None:
            raise SecretUnreadable(ErrorCode.NO_SECRETS_KEY)
        return self._current


def _key_id(key: bytes) -> str:
    """Return the name of a key, which says nothing about it."""
    return hashlib.sha256(b"infoscreen key id" + key).hexdigest()[:8]


def _derived(key: bytes, purpose: str) -> bytes:
    """Return 32 bytes for one purpose: HKDF-SHA256 with one block and no salt (RFC 5869)."""
    extracted = hmac.digest(bytes(32), key, "sha256")
    return hmac.digest(extracted, purpose.encode() + b"\x01", "sha256")


def _signature(key: bytes, data: bytes, purpose: str) -> bytes:
    return hmac.digest(_derived(key, f"sign {purpose}"), data, "sha256")


def _cipher(key: bytes) -> "AESGCM":
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(_derived(key, "seal"))
