"""Accounts of devices at the broker: add, remove, and rotate their passwords.

Nothing here tells the broker; it reads its files on SIGHUP, once for any number of changes.
"""

import contextlib
import csv
import io
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from infoscreen.domain.errors import ProvisioningError
from infoscreen.pki import files
from infoscreen.provisioning.broker_files import OWN_ACCOUNTS, BrokerFiles
from infoscreen.provisioning.passwords import PasswordFile, is_hash, new_password, password_line

PENDING = "rotation"
"""The file with the hashes of new passwords that do not count yet."""


def device_name(text: str) -> str:
    """Return a UUID in lower case with hyphens; raise ``ProvisioningError``.

    Any other spelling would be an account whose topics the ACL never matches.
    """
    try:
        return str(UUID(text.strip()))
    except ValueError:
        raise ProvisioningError(f"{text.strip()[:100]!r} is not a UUID") from None


def read_devices(text: str) -> list[str]:
    """Return the UUIDs of a list: one per line, or a CSV file with a column `uuid` or the UUID first.

    Raises:
        ProvisioningError: a line has no UUID; it is named, and nothing is returned.
    """
    try:
        dialect: type[csv.Dialect] | csv.Dialect = csv.Sniffer().sniff(text[:4096], delimiters=",;\t")
    except csv.Error:
        dialect = csv.excel
    column = 0
    found: list[str] = []
    for number, row in enumerate(csv.reader(io.StringIO(text.removeprefix("\ufeff")), dialect), 1):
        cells = [cell.strip() for cell in row]
        if not any(cells) or cells[0].startswith("#"):
            continue
        if not found and "uuid" in (named := [cell.lower() for cell in cells]):
            column = named.index("uuid")
            continue
        try:
            found.append(device_name(cells[column]))
        except (IndexError, ProvisioningError):
            raise ProvisioningError(f"line {number} has no UUID: {','.join(row)[:100]!r}") from None
    return found


@dataclass(frozen=True, slots=True)
class Added:
    """What ``add`` did: new passwords by UUID, and who had an account already."""

    passwords: Mapping[str, str]
    known: tuple[str, ...] = ()


@contextlib.contextmanager
def adding(place: BrokerFiles, uuids: Iterable[str], *, replace: bool = False) -> Iterator[Added]:
    """Yield new passwords, and save their hashes at the end if nothing was raised.

    So the caller hands the passwords on first: an interruption leaves a password without an account, never an
    account whose password nobody knows. Others who change accounts wait meanwhile.

    Args:
        place: the broker.
        uuids: any spelling of UUIDs, repetitions allowed.
        replace: give devices that have an account a new password at once, which locks them out until they
            have it. Otherwise they are left alone.
    """
    wanted = dict.fromkeys(device_name(uuid) for uuid in uuids)
    with place.accounts().editing() as lines:
        known = tuple(uuid for uuid in wanted if uuid in lines)
        passwords = {uuid: new_password() for uuid in wanted if replace or uuid not in lines}
        yield Added(passwords, known)
        lines.update({uuid: password_line(uuid, password) for uuid, password in passwords.items()})


def remove(place: BrokerFiles, uuids: Iterable[str]) -> list[str]:
    """Take the accounts away and return those that there were. The next reload cuts their connections."""
    wanted = dict.fromkeys(device_name(uuid) for uuid in uuids)
    with place.accounts().editing() as lines, _pending(place).editing() as pending:
        for uuid in wanted:
            pending.pop(uuid, None)
        return [uuid for uuid in wanted if lines.pop(uuid, None) is not None]


@dataclass(frozen=True, slots=True)
class DeviceAccount:
    """An account of a device; with ``rotating``, a new password waits for ``finish_rotation``."""

    uuid: str
    usable: bool
    rotating: bool


def accounts(place: BrokerFiles) -> list[DeviceAccount]:
    """Return the devices that have an account, in the order of the file."""
    pending = _pending(place).read()
    return [
        DeviceAccount(name, is_hash(line), name in pending)
        for name, line in place.accounts().read().items()
        if name not in OWN_ACCOUNTS
    ]


@contextlib.contextmanager
def rotating(place: BrokerFiles, uuids: Iterable[str] | None) -> Iterator[Added]:
    """Yield new passwords for devices, None for all, that count once ``finish_rotation`` is called.

    Until then the old ones do; so the new ones can be delivered first. Saved at the end, as in ``adding``.
    """
    with place.accounts().editing() as lines, _pending(place).editing() as pending:
        named = list(lines) if uuids is None else [device_name(uuid) for uuid in uuids]
        wanted = [name for name in dict.fromkeys(named) if name not in OWN_ACCOUNTS]
        if missing := [uuid for uuid in wanted if uuid not in lines]:
            raise ProvisioningError(f"no account: {', '.join(missing[:5])}")
        passwords = {uuid: new_password() for uuid in wanted}
        yield Added(passwords)
        pending.update({uuid: password_line(uuid, password) for uuid, password in passwords.items()})


def finish_rotation(place: BrokerFiles, uuids: Iterable[str] | None = None) -> list[str]:
    """Let the new passwords count, and the old ones no longer; return whose.

    An interruption between the two files repeats a step at most.
    """
    with _pending(place).editing() as pending:
        chosen = _chosen(pending, uuids)
        with place.accounts().editing() as lines:
            lines.update({uuid: pending[uuid] for uuid in chosen if uuid in lines})
        for uuid in chosen:
            del pending[uuid]
    return chosen


def cancel_rotation(place: BrokerFiles, uuids: Iterable[str] | None = None) -> list[str]:
    """Forget new passwords that do not count yet; return whose."""
    with _pending(place).editing() as pending:
        chosen = _chosen(pending, uuids)
        for uuid in chosen:
            del pending[uuid]
    return chosen


def _chosen(pending: Mapping[str, str], uuids: Iterable[str] | None) -> list[str]:
    if uuids is None:
        return list(pending)
    wanted = list(dict.fromkeys(device_name(uuid) for uuid in uuids))
    if missing := [uuid for uuid in wanted if uuid not in pending]:
        raise ProvisioningError(f"no new password waits for {', '.join(missing[:5])}")
    return wanted


def _pending(place: BrokerFiles) -> PasswordFile:
    directory = place.secrets
    if not directory.is_dir():
        raise ProvisioningError(f"there is no broker in {place.path}: run `infoscreen broker init` first")
    return PasswordFile(directory / PENDING, directory / f"{PENDING}.lock", files.Access(0o600))


def write_all(directory: Path, contents: Mapping[str, str]) -> None:
    """Write secret files into a directory for their owner only; those of the same names are replaced.

    All are on disk on return. They are synchronised together: one by one, 5,000 take a minute.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, text in contents.items():
            draft = directory / f".{name}.new"
            draft.unlink(missing_ok=True)
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(text)
            draft.replace(directory / name)
        os.sync()
    except OSError as error:
        raise ProvisioningError(f"cannot write {error.filename or directory}: {error.strerror}") from None
