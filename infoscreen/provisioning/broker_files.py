"""Writes the directory of a private mosquitto: configuration, ACL and password file. Never starts the broker.

Configuration and ACL are the shipped ones (``development.conf`` and ``acl``), so that a private
broker is under the same rules as production.
"""

import base64
import hashlib
import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from string import Template
from uuid import UUID

SERVER_ACCOUNT = "infoscreen-server"
"""The daemon's user name; the shipped ACL knows it by this name."""

ITERATIONS = 101
"""What mosquitto_passwd takes, and enough: nobody guesses a random password, however fast the guesses are.

The broker checks passwords in its only thread: with 100,000 iterations a fleet that reconnects would stop it
for minutes.
"""

_SALT_BYTES = 12  # mosquitto 2.0 refuses any other length
_PASSWORD_BYTES = 20


@dataclass(frozen=True, slots=True)
class BrokerDirectory:
    """A private broker's directory, for ``mosquitto -c <config>``; SIGHUP makes it reread the accounts."""

    path: Path
    port: int
    server_password: str

    @property
    def config(self) -> Path:
        """Return the file for ``mosquitto -c``."""
        return self.path / "mosquitto.conf"

    @property
    def passwords(self) -> Path:
        """Return the password file."""
        return self.path / "passwords"

    @property
    def log(self) -> Path:
        """Return where the broker logs to; missing until it has been started."""
        return self.path / "mosquitto.log"


def write_broker_directory(
    path: Path, port: int, shipped: Path, *, save_every_change: bool = True
) -> BrokerDirectory:
    """Write everything a broker on loopback needs into ``path``, with a new password for the daemon.

    What the broker stored there before (retained messages, sessions) stays; device accounts do not.

    Args:
        path: a directory of the broker's own, made if missing, absolute.
        port: of the only listener.
        shipped: where the shipped ``development.conf`` and ``acl`` are.
        save_every_change: False makes a busy broker ten times faster, and makes it forget up to two seconds
            when killed.
    """
    path.mkdir(parents=True, exist_ok=True)
    directory = BrokerDirectory(path, port, new_password())
    template = Template((shipped / "development.conf").read_text(encoding="utf-8"))
    config = template.substitute(
        port=port,
        directory=path,
        user="root" if os.geteuid() == 0 else "mosquitto",
        save_every_change=str(save_every_change).lower(),
    )
    write_private(directory.config, config)
    write_private(path / "acl", (shipped / "acl").read_text(encoding="utf-8"))
    write_private(directory.passwords, password_line(SERVER_ACCOUNT, directory.server_password))
    return directory


def add_devices(directory: BrokerDirectory, uuids: Iterable[str]) -> dict[str, str]:
    """Give each device an account, or a new password if it has one, and return the passwords by UUID.

    A running broker learns of them on SIGHUP.

    Raises:
        ValueError: a UUID is not in lower case with hyphens, so the ACL would never match its topics.
    """
    passwords = {uuid: new_password() for uuid in uuids}
    for uuid in passwords:
        if str(UUID(uuid)) != uuid:
            raise ValueError(f"not a UUID in lower case with hyphens: {uuid}")
    kept = [
        line
        for line in directory.passwords.read_text(encoding="utf-8").splitlines(keepends=True)
        if line.partition(":")[0] not in passwords
    ]
    added = [password_line(uuid, password) for uuid, password in passwords.items()]
    write_private(directory.passwords, "".join(kept + added))
    return passwords


def new_password() -> str:
    """Return a random password of 160 bits, in hexadecimal: safe in URLs, shells and environment files."""
    return secrets.token_hex(_PASSWORD_BYTES)


def password_line(account: str, password: str) -> str:
    """Return the account's line of a mosquitto password file: ``$7$``, PBKDF2 with SHA-512."""
    salt = secrets.token_bytes(_SALT_BYTES)
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, ITERATIONS)
    encoded = "$".join(base64.b64encode(part).decode("ascii") for part in (salt, digest))
    return f"{account}:$7${ITERATIONS}${encoded}\n"


def write_private(path: Path, text: str) -> None:
    """Replace a file in one step, readable for its owner only.

    A broker that rereads a half-written ACL file fails open, so there is never one.
    """
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    with os.fdopen(
        os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8"
    ) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
