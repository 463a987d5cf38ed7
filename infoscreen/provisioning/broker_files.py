"""Where a broker's files are, and the files of a new broker: rules, ACL, accounts. Never starts the broker.

In a directory that already has a ``mosquitto.conf`` of others, such as Debian's ``/etc/mosquitto``, the rules
are a drop-in of that one. In any other directory they become a complete private broker, ready for
``mosquitto -c DIRECTORY/mosquitto.conf``. The rules, the ACL and the limits are the shipped ones either way.
"""

import contextlib
import grp
import json
import os
import pwd
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

from infoscreen.domain.errors import ProvisioningError
from infoscreen.pki import files
from infoscreen.pki.authority import Authority, Kind
from infoscreen.pki.files import Access
from infoscreen.provisioning.enrolment import DeviceAccess
from infoscreen.provisioning.passwords import PasswordFile, fits, new_password, password_line
from infoscreen.wire.topics import CHECK_PREFIX

SERVER_ACCOUNT = "infoscreen-server"
"""The daemon's user name; the shipped ACL knows it by this name."""
PROBE_ACCOUNT = "infoscreen-probe"
CHECKLIST_ACCOUNT = "infoscreen-checklist"
MONITOR_ACCOUNT = "infoscreen-monitor"
CHECK_ACCOUNTS = (f"{CHECK_PREFIX}1", f"{CHECK_PREFIX}2")
"""Two that have what any device has, for `infoscreen broker check`."""
OWN_ACCOUNTS = (SERVER_ACCOUNT, PROBE_ACCOUNT, CHECKLIST_ACCOUNT, MONITOR_ACCOUNT, *CHECK_ACCOUNTS)
"""Accounts that are no device's."""

DEBIANS = Path("/etc/mosquitto")
BROKER_USER = "mosquitto"
OURS = "# A private broker of infoscreen."
"""How the ``mosquitto.conf`` begins that we write; others are only added to."""

SHIPPED_PKI = "/etc/infoscreen/pki"
PLAIN_PORT, DEVICES_PORT, SERVER_PORT = 1883, 8883, 8884


@dataclass(frozen=True, slots=True)
class BrokerFiles:
    """The files of a broker, all in one directory."""

    path: Path

    @property
    def config(self) -> Path:
        """Return the file for ``mosquitto -c``."""
        return self.path / "mosquitto.conf"

    @property
    def rules(self) -> Path:
        """Return the shipped rules, adapted to the directory."""
        return self.path / "conf.d" / "infoscreen.conf"

    @property
    def server_listener(self) -> Path:
        """Return the listener for a daemon on another host; missing without one."""
        return self.path / "conf.d" / "infoscreen-server.conf"

    @property
    def migration(self) -> Path:
        """Return the plain listeners of a migration; missing without one."""
        return self.path / "conf.d" / "infoscreen-migration.conf"

    @property
    def acl(self) -> Path:
        """Return the ACL file."""
        return self.path / "infoscreen.acl"

    @property
    def passwords(self) -> Path:
        """Return the password file."""
        return self.path / "infoscreen.passwd"

    @property
    def secrets(self) -> Path:
        """Return the directory with the passwords of our own accounts, for their users only."""
        return self.path / "infoscreen-accounts"

    @property
    def devices(self) -> Path:
        """Return the file that says how devices reach the broker."""
        return self.secrets / "devices.json"

    @property
    def log(self) -> Path:
        """Return where a private broker logs to; missing until it has been started."""
        return self.path / "mosquitto.log"

    @property
    def is_private(self) -> bool:
        """Tell whether the whole broker is ours, rather than a drop-in of Debian's."""
        try:
            return self.config.read_text(encoding="utf-8").startswith(OURS)
        except FileNotFoundError:
            return True
        except (OSError, UnicodeDecodeError) as error:
            raise ProvisioningError(f"cannot read {self.config}: {error}") from None

    @property
    def access(self) -> Access:
        """Return owner and mode of what the broker reads.

        mosquitto 2.0.21 warns of any other owner, group or mode, and says that a later one will refuse them.
        """
        if self.is_private or os.geteuid() != 0:
            return Access(0o600)
        try:
            user, group = pwd.getpwnam(BROKER_USER).pw_uid, grp.getgrnam(BROKER_USER).gr_gid
        except KeyError:
            raise ProvisioningError(f"there is no user {BROKER_USER}: install mosquitto first") from None
        return Access(0o600, user, group)

    def accounts(self) -> PasswordFile:
        """Return the password file for reading and editing."""
        return PasswordFile(self.passwords, self.path / "infoscreen.lock", self.access)

    def password(self, account: str) -> str:
        """Return the password of one of our own accounts; raise ``ProvisioningError``."""
        return _secret(self.secrets / account)

    def device_access(self) -> DeviceAccess:
        """Return how devices reach the broker."""
        with self._access_of_devices() as said:
            ca = None if said["ca"] is None else Path(said["ca"]).read_text(encoding="ascii")
            return DeviceAccess(str(said["host"]), int(said["port"]), ca)

    def ca_file(self) -> Path | None:
        """Return the file with the CA of the listener for devices; None if that is without TLS."""
        with self._access_of_devices() as said:
            return None if said["ca"] is None else Path(said["ca"])

    @contextlib.contextmanager
    def _access_of_devices(self) -> Iterator[dict[str, Any]]:
        """Yield the content of ``devices``; let what is wrong with it leave as ``ProvisioningError``."""
        try:
            yield json.loads(self.devices.read_bytes())
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ProvisioningError(
                f"cannot tell how devices reach the broker, from {self.devices}: {error}. "
                "Run `infoscreen broker init` first"
            ) from None


def _secret(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ProvisioningError(f"cannot read {path}: {error.strerror}") from None


@dataclass(frozen=True, slots=True)
class Listeners:
    """Which ports the broker is to listen on.

    Args:
        server: plain, loopback, for the daemon on the same host.
        devices: TLS; None for none at all, which only tests want.
        names: under which devices reach the broker; the first one is written into their settings.
        remote_server: TLS, for a daemon on another host; None without one.
        migration: addresses of this host on which plain MQTT is open for devices; usually none.
    """

    server: int = PLAIN_PORT
    devices: int | None = DEVICES_PORT
    names: Sequence[str] = ("localhost",)
    remote_server: int | None = None
    migration: Sequence[str] = ()


def listeners_of(place: BrokerFiles) -> Listeners:
    """Return what an existing configuration opens; raise ``ProvisioningError`` if it cannot be read."""
    devices = place.device_access()
    server = next((port for port, address in _listening(place.rules) if address), PLAIN_PORT)
    remote = next((port for port, _ in _listening(place.server_listener)), None)
    migration = [address for _, address in _listening(place.migration)]
    return Listeners(server, devices.port, (devices.host,), remote, migration)


def _listening(file: Path) -> list[tuple[int, str]]:
    """Return port and address, empty for all, of each listener in a file; none if there is no file."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        found = [line.split() for line in lines if line.startswith("listener ")]
        return [(int(words[1]), words[2] if len(words) > 2 else "") for words in found]
    except (OSError, ValueError, IndexError) as error:
        raise ProvisioningError(f"cannot tell what {file} opens: {error}") from None


def write_broker(
    place: BrokerFiles,
    shipped: Path,
    listeners: Listeners,
    authority: Authority | None,
    *,
    save_every_change: bool = True,
) -> None:
    """Write everything a broker needs, except for certificates. Accounts that exist stay.

    Args:
        place: a directory, made if missing, absolute.
        shipped: where the shipped files are.
        listeners: what is open. A migration that was opened earlier and is not named again is closed.
        authority: the CA; it must have a server certificate. None without a listener for devices.
        save_every_change: for a private broker. False makes a busy one ten times faster, and makes it forget
            up to two seconds when killed.

    Raises:
        ProvisioningError: a file cannot be written.
    """
    try:
        _make_directories(place)
        private, access = place.is_private, place.access
        with place.accounts().editing() as lines:
            for account in OWN_ACCOUNTS:
                _ensure_account(place, account, lines)
        _write_access(place, listeners, authority)
        files.replace(place.acl, (shipped / "acl").read_bytes(), access)
        public = Access(0o600) if private else Access(0o644)
        rules = _adapted(place, shipped / "mosquitto.conf", listeners, authority)
        files.replace(place.rules, rules.encode(), public)
        if listeners.remote_server is None:
            place.server_listener.unlink(missing_ok=True)
        else:
            server = _adapted(place, shipped / "listener-server.conf", listeners, authority)
            files.replace(place.server_listener, server.encode(), public)
        if listeners.migration:
            template = Template((shipped / "listener-migration.conf").read_text(encoding="utf-8"))
            plain = "\n".join(template.substitute(address=one) for one in listeners.migration)
            plain = plain.replace(f"listener {PLAIN_PORT} ", f"listener {listeners.server} ")
            files.replace(place.migration, plain.encode(), public)
        else:
            place.migration.unlink(missing_ok=True)
        if private:
            files.replace(place.config, _private(place, shipped, save_every_change).encode(), public)
    except OSError as error:
        raise ProvisioningError(f"cannot write {error.filename or place.path}: {error.strerror}") from None


def _make_directories(place: BrokerFiles) -> None:
    place.path.mkdir(parents=True, exist_ok=True)
    place.rules.parent.mkdir(exist_ok=True)
    place.secrets.mkdir(mode=0o700, exist_ok=True)
    place.secrets.chmod(0o700)


def _ensure_account(place: BrokerFiles, account: str, lines: dict[str, str]) -> None:
    """Give an account of ours a password unless it has one that is known.

    The password is saved before its hash: an interruption in between leaves one that the next run enters.
    """
    secret = place.secrets / account
    if secret.exists():
        password = _secret(secret)
        if account in lines and fits(lines[account], password):
            return
    else:
        password = new_password()
        files.replace(secret, f"{password}\n".encode(), Access(0o600))
    lines[account] = password_line(account, password)


def _write_access(place: BrokerFiles, listeners: Listeners, authority: Authority | None) -> None:
    said = {
        "host": listeners.names[0],
        "port": listeners.devices or listeners.server,
        "ca": None if authority is None else str(authority.bundle),
    }
    files.replace(place.devices, json.dumps(said, indent=2).encode() + b"\n", Access(0o600))
    daemon = {
        "MQTT_HOST": "127.0.0.1",
        "MQTT_PORT": str(listeners.server),
        "MQTT_USER": SERVER_ACCOUNT,
        "MQTT_PASSWORD": place.password(SERVER_ACCOUNT),
        "MQTT_PROBE_PASSWORD": place.password(PROBE_ACCOUNT),
    }
    write_variables(place.secrets / "server.env", daemon)
    if listeners.remote_server is not None:
        elsewhere = {
            "MQTT_HOST": listeners.names[0],
            "MQTT_PORT": str(listeners.remote_server),
            "MQTT_TLS_ENABLED": "true",
            "MQTT_TLS_CA_CERT": "/etc/infoscreen/ca.crt",
            "MQTT_CLIENT_ID": _client_id(place),
        }
        write_variables(place.secrets / "server-remote.env", {**daemon, **elsewhere})


def _client_id(place: BrokerFiles) -> str:
    """Return a client id for a daemon on another host that nobody can guess and take; always the same."""
    path = place.secrets / "client-id"
    if not path.exists():
        files.replace(path, f"{SERVER_ACCOUNT}-{secrets.token_hex(8)}\n".encode(), Access(0o600))
    return _secret(path)


def write_variables(path: Path, variables: Mapping[str, str]) -> None:
    """Write a file of variables, for its owner only. The values must need no quoting."""
    content = "".join(f"{name}={value}\n" for name, value in variables.items())
    files.replace(path, content.encode(), Access(0o600))


_OF_A_LISTENER = frozenset(
    {"cafile", "certfile", "keyfile", "tls_version", "ciphers", "use_username_as_clientid"}
)
"""What belongs to the listener above it and goes with it."""


def _adapted(place: BrokerFiles, shipped: Path, listeners: Listeners, authority: Authority | None) -> str:
    """Return a shipped file with the paths and ports of this broker."""
    text = shipped.read_text(encoding="utf-8").replace(f"{DEBIANS}/infoscreen.", f"{place.path}/infoscreen.")
    if authority is not None:
        pair = authority.pair(Kind.SERVER, "server")
        for name, path in (
            ("ca-bundle.crt", authority.bundle),
            ("server/server.crt", pair.certificate),
            ("server/server.key", pair.key),
        ):
            text = text.replace(f"{SHIPPED_PKI}/{name}\n", f"{path}\n")
    ports = {
        PLAIN_PORT: listeners.server,
        DEVICES_PORT: listeners.devices,
        SERVER_PORT: listeners.remote_server,
    }
    lines = []
    keep = True
    for line in text.splitlines(keepends=True):
        words = line.split()
        if words[:1] == ["listener"]:
            port = ports[int(words[1])]
            keep = port is not None
            lines += [" ".join([words[0], str(port), *words[2:]]) + "\n"] if keep else []
        elif keep or not words or words[0] not in _OF_A_LISTENER:
            lines.append(line)
    return "".join(lines)


def _private(place: BrokerFiles, shipped: Path, save_every_change: bool) -> str:
    template = Template((shipped / "development.conf").read_text(encoding="utf-8"))
    return template.substitute(
        directory=place.path,
        user="root" if os.geteuid() == 0 else BROKER_USER,
        save_every_change=str(save_every_change).lower(),
    )


def write_private(path: Path, text: str) -> None:
    """Replace a file in one step, readable for its owner only."""
    files.replace(path, text.encode(), Access(0o600))
