"""The running broker: does it read its files, is a reload harmless, and who is still on plain MQTT."""

import os
import signal
import socket
import struct
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from infoscreen.domain.errors import ProvisioningError
from infoscreen.provisioning import broker_reload, units
from infoscreen.provisioning.broker_files import DEBIANS, BrokerFiles
from infoscreen.provisioning.passwords import is_hash

UNIT = "mosquitto.service"


def faults(place: BrokerFiles) -> list[str]:
    """Return what is wrong with the files that the broker reads on a reload.

    With a missing or broken ACL file mosquitto 2.0 allows everything after a reload. A missing password file
    locks everybody out, a broken line its account.
    """
    found = []
    wanted = place.access
    for path in (place.acl, place.passwords):
        try:
            stat = path.stat()
            text = path.read_bytes().decode()  # as it is: the ends of lines matter
        except (OSError, UnicodeDecodeError) as error:
            found.append(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}")
            continue
        if stat.st_mode & 0o077:
            found.append(f"{path} can be read by others: chmod 0600 {path}")
        if wanted.user is not None and (stat.st_uid, stat.st_gid) != (wanted.user, wanted.group):
            found.append(f"{path} does not belong to the broker: chown mosquitto:mosquitto {path}")
        check = _acl_faults if path == place.acl else _password_faults
        found += [f"{path}: {fault}" for fault in check(text)]
    return found


def _lines(text: str) -> list[str]:
    """Return the lines as mosquitto reads them: other ends of lines and other spaces are characters to it."""
    return [line.rstrip("\r ") for line in text.split("\n")]


def _acl_faults(text: str) -> list[str]:
    found, rules = [], 0
    for number, line in enumerate(_lines(text), 1):
        words = line.lstrip(" ").split(" ", 2)
        if not line or line.startswith("#"):
            continue
        access = len(words) > 2 and words[1] in {"read", "write", "readwrite", "deny"}
        if not line.isprintable() or not line.isascii():
            found.append(f"line {number} has characters that mosquitto takes for part of a word")
        elif words[0] not in {"user", "topic", "pattern"} or len(words) < 2 or not words[1]:
            found.append(f"line {number} is no rule")
        elif words[0] == "user" and len(words) > 2:
            found.append(f"line {number} has more than a user name")
        elif words[0] != "user" and not access:
            found.append(f"line {number} does not say read, write or readwrite")
        elif words[0] != "user" and not _is_filter(words[2].strip(" ")):
            found.append(f"line {number} has no valid topic")
        rules += 1
    return found or ([] if rules else ["it has no rule"])


def _is_filter(topic: str) -> bool:
    """Tell whether wildcards are whole levels, and # the last one."""
    levels = topic.split("/")
    plain = all(level in ("+", "#") or not {"+", "#"} & set(level) for level in levels)
    return bool(topic) and plain and "#" not in levels[:-1]


def _password_faults(text: str) -> list[str]:
    lines = [line for line in _lines(text) if line]
    broken = [
        number
        for number, line in enumerate(lines, 1)
        if not is_hash(line) or not line.isascii() or not line.isprintable() or " " in line
    ]
    doubled = len(lines) - len({line.partition(":")[0] for line in lines})
    found = [f"line {number} is broken, so its account is locked out" for number in broken[:5]]
    return [*found, *([f"{doubled} accounts are there twice"] if doubled else [])]


def pid(place: BrokerFiles) -> int | None:
    """Return the process id of the running broker; None if none runs that we know of."""
    try:
        lines = place.config.read_text(encoding="utf-8").splitlines()
        named = [line.split(None, 1)[1] for line in lines if line.startswith("pid_file ")]
        number = int(Path(named[-1]).read_text(encoding="ascii"))
        name = Path(f"/proc/{number}/comm").read_text(encoding="utf-8").strip()
    except (OSError, IndexError, ValueError):
        return None
    return number if name.startswith(("mosquitto", "ld-linux")) else None


def require_good_files(place: BrokerFiles) -> None:
    """Raise ``ProvisioningError`` if the files are not right, so that after a reload all might be allowed."""
    if found := faults(place):
        raise ProvisioningError("the broker was not reloaded:\n" + "\n".join(found))


def reload(place: BrokerFiles) -> bool:
    """Have the broker read its files again; tell whether one runs.

    Raises:
        ProvisioningError: the files are not right, so that mosquitto might allow everything; it was not told.
    """
    require_good_files(place)
    if (number := pid(place)) is not None:
        try:
            broker_reload.send_sighup(place, number)
        except OSError as error:
            raise ProvisioningError(f"cannot reload the broker: {error.strerror}") from None
        return True
    return place.path == DEBIANS and units.reload(UNIT)


class BrokerTold(StrEnum):
    """How the broker was told to read its files."""

    RELOADED = "reloaded"
    RESTARTED = "restarted"
    NOT_RUNNING = "not_running"


def tell(place: BrokerFiles) -> BrokerTold:
    """Have the broker read its files, by a restart where a reload would cost the daemon its queue."""
    if not daemon_is_connected(place) and restart(place):
        return BrokerTold.RESTARTED
    return BrokerTold.RELOADED if reload(place) else BrokerTold.NOT_RUNNING


def restart_running(place: BrokerFiles) -> bool:
    """Restart a broker that runs, if anybody starts it again, whatever its files are like.

    With a broken ACL file it does not start, which is better than a broker that allows everything. A private
    broker is ended; the program that runs it has to start it again.
    """
    if not place.is_private:
        return units.restart(UNIT)
    if (number := pid(place)) is None:
        return False
    os.kill(number, signal.SIGTERM)
    return True


def restart(place: BrokerFiles) -> bool:
    """Restart the broker if systemd runs it; tell whether it was."""
    return not place.is_private and units.restart(UNIT)


@dataclass(frozen=True, slots=True)
class Peer:
    """Somebody who is connected."""

    address: str
    port: int


ESTABLISHED = "01"


def server_port(place: BrokerFiles) -> int:
    """Return the port of the listener for the server's account on this host."""
    return _listeners(place.rules)[0]


def _listeners(path: Path) -> list[int]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ProvisioningError(f"cannot read {path}: {error.strerror}") from None
    return [int(line.split()[1]) for line in lines if line.startswith("listener ")]


DAEMON_CONNECTIONS = 3


def daemon_is_connected(place: BrokerFiles) -> bool:
    """Tell whether the daemon holds its connections to the listeners for the server.

    On a reload, mosquitto 2.0 forgets what a session may read that has not connected since the broker
    started, and what is sent to it afterwards is lost (measured). A connected daemon loses nothing.
    """
    ports = [server_port(place)]
    if place.server_listener.exists():
        ports += _listeners(place.server_listener)
    return any(
        max(Counter(peer.address for peer in connected_to(port, local=True)).values(), default=0)
        >= DAEMON_CONNECTIONS
        for port in ports
    )


def restart_later() -> None:
    """Have systemd restart the broker once the current job has ended."""
    units.restart_later(UNIT)


def connected_to(port: int, *, local: bool = False) -> list[Peer]:
    """Return who is connected to a port of this host, from elsewhere or also from this host."""
    found = []
    for table, family in (("/proc/net/tcp", socket.AF_INET), ("/proc/net/tcp6", socket.AF_INET6)):
        try:
            rows = Path(table).read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for row in rows:
            ours, remote, state = row.split()[1:4]
            if state == ESTABLISHED and int(ours.rpartition(":")[2], 16) == port:
                peer = _peer(remote, family)
                is_local = peer.address.startswith("127.") or peer.address == "::1"
                found += [] if is_local and not local else [peer]
    return found


def _peer(hexadecimal: str, family: socket.AddressFamily) -> Peer:
    """Return an address of /proc/net/tcp, whose words are in the host's byte order."""
    address, _, port = hexadecimal.partition(":")
    words = [int(address[start : start + 8], 16) for start in range(0, len(address), 8)]
    text = socket.inet_ntop(family, b"".join(struct.pack("=I", word) for word in words))
    return Peer(text.removeprefix("::ffff:"), int(port, 16))
