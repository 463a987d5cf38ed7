"""Passwords of the broker's accounts, and the file in which mosquitto keeps their hashes."""

import base64
import contextlib
import hashlib
import hmac
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from infoscreen.domain.errors import ProvisioningError
from infoscreen.pki import files
from infoscreen.pki.files import Access

ITERATIONS = 101
"""What mosquitto_passwd takes, and enough: nobody guesses a random password, however fast the guesses are.

The broker checks passwords in its only thread, also those of all connected clients on each reload: with
100,000 iterations a fleet that reconnects would stop it for minutes.
"""

_SALT_BYTES = 12  # mosquitto 2.0 refuses any other length
_PASSWORD_BYTES = 20


def new_password() -> str:
    """Return a random password of 160 bits, in hexadecimal: safe in URLs, shells and environment files."""
    return secrets.token_hex(_PASSWORD_BYTES)


def password_line(account: str, password: str) -> str:
    """Return the account's line of a mosquitto password file: ``$7$``, PBKDF2 with SHA-512."""
    salt = secrets.token_bytes(_SALT_BYTES)
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, ITERATIONS)
    encoded = "$".join(base64.b64encode(part).decode("ascii") for part in (salt, digest))
    return f"{account}:$7${ITERATIONS}${encoded}\n"


def is_hash(line: str) -> bool:
    """Tell whether mosquitto can read the line; it skips broken ones without saying so to anybody."""
    return _parsed(line) is not None


def fits(line: str, password: str) -> bool:
    """Tell whether the line is of this password."""
    parsed = _parsed(line)
    if parsed is None:
        return False
    iterations, salt, digest = parsed
    made = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, iterations)
    return hmac.compare_digest(made, digest)


def _parsed(line: str) -> tuple[int, bytes, bytes] | None:
    try:
        account, hashed = line.rstrip("\n").split(":")
        empty, kind, iterations, salt, digest = hashed.split("$")
        parts = base64.b64decode(salt, validate=True), base64.b64decode(digest, validate=True)
        count = int(iterations)
    except ValueError:
        return None
    whole = bool(account) and not empty and kind == "7" and count > 0
    return (count, *parts) if whole and len(parts[0]) == _SALT_BYTES and len(parts[1]) == 64 else None


@dataclass(frozen=True, slots=True)
class PasswordFile:
    """A mosquitto password file. Only ``editing`` changes it: under a lock, as a whole, in one step."""

    path: Path
    lock: Path
    access: Access
    """Owner and mode of a new file; an existing one keeps neither: mosquitto asks for these."""

    def read(self) -> dict[str, str]:
        """Return the lines by account, in the order of the file; empty without a file.

        Of an account that is there twice, mosquitto takes the last line, and so do we.
        """
        try:
            text = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return {}
        except (OSError, UnicodeDecodeError) as error:
            raise ProvisioningError(f"cannot read {self.path}: {error}") from None
        lines = text.splitlines(keepends=True)
        return {line.partition(":")[0]: f"{line.rstrip()}\n" for line in lines if line.strip()}

    @contextlib.contextmanager
    def editing(self) -> Iterator[dict[str, str]]:
        """Yield the lines for being changed; save them at the end if they were and nothing was raised."""
        with contextlib.ExitStack() as stack:
            with self._said():
                stack.enter_context(files.locked(self.lock))
            lines = self.read()
            before = dict(lines)
            yield lines
            with self._said():
                if lines != before or not self.path.exists():
                    files.replace(self.path, "".join(lines.values()).encode(), self.access)

    @contextlib.contextmanager
    def _said(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ProvisioningError(f"cannot write {error.filename or self.path}: {error.strerror}") from None
