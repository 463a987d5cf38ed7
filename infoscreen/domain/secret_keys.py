"""The keys under which secrets are stored, as they are given in ``SECRETS_KEY``."""

import base64
import binascii

LEAST_BYTES, MOST_BYTES, MOST_KEYS = 32, 1_024, 10


def keys_in(text: str) -> tuple[bytes, ...]:
    """Return the keys in the text, the current one first: base64, separated by blanks or commas.

    Raises:
        ValueError: one of them is not base64 of 32 random bytes or more, or there are none or too many.
    """
    words = text.replace(",", " ").split()
    if not 1 <= len(words) <= MOST_KEYS:
        raise ValueError(f"{len(words)} keys; 1 to {MOST_KEYS} are possible")
    return tuple(map(_key, words))


def _key(word: str) -> bytes:
    standard = word.rstrip("=").translate(str.maketrans("-_", "+/"))
    try:
        key = base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("not base64") from None
    if not LEAST_BYTES <= len(key) <= MOST_BYTES:
        raise ValueError(f"{len(key)} bytes; {LEAST_BYTES} to {MOST_BYTES} are possible")
    if len(set(key)) < LEAST_BYTES // 4:
        raise ValueError("not random bytes")
    return key
