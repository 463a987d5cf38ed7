"""The directory of a certification authority: issue, renew, and roll over to another CA.

Every change holds the lock and replaces whole files. ``pki.json`` alone says which CA signs, so a run
that was interrupted is completed by the next ``renew``. The layout is described in the package.
"""

import contextlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from infoscreen.domain.certificates import WARN_BEFORE, Lifetime
from infoscreen.domain.errors import PkiError
from infoscreen.pki import certificates, files
from infoscreen.pki.certificates import Issuer, Key
from infoscreen.pki.files import Access
from infoscreen.pki.names import server_names

STATE, LOCK, BUNDLE = "pki.json", "lock", "ca-bundle.crt"
DEFAULT_LABEL = "server"
FIRST_CA = "ca"

PUBLIC, PRIVATE = Access(0o644), Access(0o600)
REACHABLE = 0o755
"""The mode of directories: the broker's user must reach its key, and what is secret is so by its own mode."""
EVERYBODY = 0o007

_LABEL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")


class Kind(StrEnum):
    """What a certificate is for; also the name of its directory."""

    SERVER = "server"
    CLIENT = "clients"


class Due(StrEnum):
    """Why a certificate is renewed."""

    ENDS_SOON = "ends_soon"
    OTHER_CA = "other_ca"
    KEY_DOES_NOT_FIT = "key_does_not_fit"


class RollOver(StrEnum):
    """How far a change of the CA has come."""

    NONE = "none"
    BEGUN = "begun"
    SWITCHED = "switched"


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key on disk."""

    name: str
    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Renewed:
    """A certificate that was renewed, and why."""

    pair: Pair
    kind: Kind
    due: Due


@dataclass(frozen=True, slots=True)
class CertificateEntry:
    """What `pki status` says of one certificate."""

    which: str
    names: tuple[str, ...]
    issuer: str
    lifetime: Lifetime
    serial: str
    fingerprint: str
    note: str | None = None
    needs_action: bool = False


@dataclass(frozen=True, slots=True)
class _State:
    """The content of ``pki.json``; ``trusted`` has one CA, or during a roll-over the old and the new one."""

    signing: str
    trusted: tuple[str, ...]
    generation: int = 1

    @property
    def roll_over(self) -> RollOver:
        if len(self.trusted) == 1:
            return RollOver.NONE
        return RollOver.BEGUN if self.signing == self.trusted[0] else RollOver.SWITCHED


class Authority:
    """The CA in a directory. Methods that change something take the lock; all raise ``PkiError``."""

    def __init__(self, directory: Path) -> None:
        """Open nothing yet; ``directory`` is made by ``create``."""
        self.directory = directory

    @classmethod
    def create(cls, directory: Path, now: datetime) -> Self:
        """Make the directory and its first CA; refuse if there is one."""
        with _said():
            _make_directory(directory)
            with files.locked(directory / LOCK):
                if (directory / STATE).exists():
                    raise PkiError(f"there is a CA in {directory} already; nothing was changed")
                if (directory / f"{FIRST_CA}.key").exists():
                    raise PkiError(
                        f"{directory} has a {FIRST_CA}.key but no {STATE}: restore it from a backup, or, if "
                        f"an earlier `pki init` was interrupted, remove {FIRST_CA}.key"
                    )
                authority = cls(directory)
                authority._make_ca(FIRST_CA, 1, now)
                authority._save(_State(FIRST_CA, (FIRST_CA,)))
        return authority

    @property
    def exists(self) -> bool:
        """Tell whether there is a CA in the directory."""
        with _said():
            return (self.directory / STATE).exists()

    @property
    def bundle(self) -> Path:
        """Return the file with all trusted CAs."""
        return self.directory / BUNDLE

    @property
    def roll_over(self) -> RollOver:
        """Return how far a change of the CA has come."""
        with _said():
            return self._load().roll_over

    def pair(self, kind: Kind, name: str) -> Pair:
        """Return where certificate and key of this name are, or would be."""
        if not _LABEL.fullmatch(name):
            raise PkiError(f"{name[:200]!r}: allowed are 1 to 64 letters, digits, dots, hyphens, underscores")
        place = self.directory / kind
        return Pair(name, place / f"{name}.crt", place / f"{name}.key")

    def issue_server(
        self, names: Sequence[str], now: datetime, *, label: str = DEFAULT_LABEL, key_access: Access = PRIVATE
    ) -> Pair:
        """Make a certificate for these host names and addresses, with a new key, in place of an older one."""
        wanted = server_names(names)
        pair = self.pair(Kind.SERVER, label)
        with self._changing() as state:
            issuer, key = self._issuer(state), certificates.new_key()
            made = certificates.server_certificate(issuer, key.public_key(), wanted, now)
            self._store(pair, made, key, key_access)
        return pair

    def server_names(self) -> list[str]:
        """Return what the broker's certificate is valid for."""
        with _said():
            certificate = _certificate(self.pair(Kind.SERVER, DEFAULT_LABEL).certificate)
            return list(map(str, certificates.names_of(certificate)))

    def issue_clients(self, accounts: Sequence[str], now: datetime) -> list[Pair]:
        """Make a certificate with a new key for each account at the broker (a device's is its UUID)."""
        pairs = [self.pair(Kind.CLIENT, account) for account in dict.fromkeys(accounts)]
        with self._changing() as state:
            issuer = self._issuer(state)
            for pair in pairs:
                key = certificates.new_key()
                made = certificates.client_certificate(issuer, key.public_key(), pair.name, now)
                self._store(pair, made, key, PRIVATE)
        return pairs

    def renew(
        self, now: datetime, *, within: timedelta = WARN_BEFORE, new_keys: bool = False
    ) -> list[Renewed]:
        """Renew what ends within this time, is from another CA than the one that signs, or fits no key.

        The key is kept unless it does not fit or ``new_keys`` asks for another: then only one file changes,
        and a client needs no new secret. Owner and mode stay as they are.
        """
        with self._changing() as state:
            return self._renew(state, now, within, new_keys=new_keys)

    def begin_roll_over(self, now: datetime) -> Path:
        """Make a second CA that is trusted from now on but signs nothing yet; return the new bundle."""
        with self._changing() as state:
            if state.roll_over is not RollOver.NONE:
                raise PkiError(_UNDER_WAY[state.roll_over])
            generation = state.generation + 1
            name = f"{FIRST_CA}-{generation}"
            self._make_ca(name, generation, now)
            self._save(replace(state, trusted=(state.signing, name), generation=generation))
        return self.bundle

    def switch(self, now: datetime) -> list[Renewed]:
        """Let the new CA sign, and renew all certificates with it; the old one stays trusted."""
        with self._changing() as state:
            if state.roll_over is RollOver.NONE:
                raise PkiError("no roll-over has begun: run `infoscreen pki rotate-ca begin` first")
            state = replace(state, signing=state.trusted[1])
            self._save(state)
            return self._renew(state, now, WARN_BEFORE)

    def finish(self) -> None:
        """Trust the new CA only, and destroy the key of the old one."""
        with self._changing() as state:
            if state.roll_over is not RollOver.SWITCHED:
                raise PkiError("the new CA does not sign yet: run `infoscreen pki rotate-ca switch` first")
            waiting = [
                pair.name
                for kind in Kind
                for pair in self._pairs(kind)
                if not certificates.is_issued_by(_certificate(pair.certificate), self._ca(state.signing))
            ]
            if waiting:
                raise PkiError(
                    f"{len(waiting)} certificates are still from the old CA ({', '.join(waiting[:5])}): "
                    "run `infoscreen pki renew` first"
                )
            self._forget(state.trusted[0], replace(state, trusted=(state.signing,)))

    def abort(self, now: datetime) -> list[Renewed]:
        """Go back to the old CA, renew with it what the new one has signed, and destroy the new one's key."""
        with self._changing() as state:
            if state.roll_over is RollOver.NONE:
                raise PkiError("no roll-over has begun")
            old, new = state.trusted
            state = replace(state, signing=old)
            self._save(state)
            renewed = self._renew(state, now, WARN_BEFORE)
            self._forget(new, replace(state, trusted=(old,)))
            return renewed

    def read_bundle(self) -> bytes:
        """Return all trusted CAs as PEM."""
        with _said():
            self._load()
            return self.bundle.read_bytes()

    def status(self) -> list[CertificateEntry]:
        """Return every certificate, the CAs first. Needs no private key."""
        with _said():
            state = self._load()
            found = []
            for name in state.trusted:
                entry = _entry(name, self._ca(name), _exposed(self.directory / f"{name}.key"))
                if name != state.signing and not entry.needs_action:
                    entry = replace(entry, note="trusted, does not sign")
                found.append(entry)
            signing = self._ca(state.signing)
            for kind in Kind:
                for pair in self._pairs(kind):
                    certificate = _certificate(pair.certificate)
                    due = self._mismatch(pair, certificate, signing)
                    warning = _WARNINGS[due] if due else _exposed(pair.key)
                    found.append(_entry(f"{kind}/{pair.name}", certificate, warning))
            return found

    @contextlib.contextmanager
    def _changing(self) -> Iterator[_State]:
        with _said():
            self._load()  # before the lock, which would be made in a directory that holds no CA
            with files.locked(self.directory / LOCK):
                yield self._load()

    def _load(self) -> _State:
        path = self.directory / STATE
        try:
            found = json.loads(path.read_bytes())
            state = _State(str(found["signing"]), tuple(map(str, found["trusted"])), int(found["generation"]))
        except FileNotFoundError:
            raise PkiError(f"there is no CA in {self.directory}: run `infoscreen pki init` first") from None
        except (ValueError, KeyError, TypeError):
            raise PkiError(f"{path} is damaged; restore it from a backup") from None
        if not 1 <= len(state.trusted) <= 2 or state.signing not in state.trusted:
            raise PkiError(f"{path} is damaged; restore it from a backup")
        return state

    def _save(self, state: _State) -> None:
        """Write state and bundle. A CA is trusted by clients before it signs, so the bundle comes first."""
        bundle = b"".join(certificates.pem(self._ca(name)) for name in state.trusted)
        files.replace(self.bundle, bundle, PUBLIC)
        content = json.dumps(asdict(state), indent=2).encode() + b"\n"
        files.replace(self.directory / STATE, content, PUBLIC)

    def _make_ca(self, name: str, generation: int, now: datetime) -> None:
        key = certificates.new_key()
        files.replace(self.directory / f"{name}.key", certificates.key_pem(key), PRIVATE)
        made = certificates.new_ca(key, now, generation)
        files.replace(self.directory / f"{name}.crt", certificates.pem(made), PUBLIC)

    def _forget(self, name: str, state: _State) -> None:
        """Save a state without the CA, then remove its key; the certificate is kept for reading old logs."""
        self._save(state)
        (self.directory / f"{name}.key").unlink(missing_ok=True)

    def _ca(self, name: str) -> x509.Certificate:
        return _certificate(self.directory / f"{name}.crt")

    def _issuer(self, state: _State) -> Issuer:
        path = self.directory / f"{state.signing}.key"
        certificate, key = self._ca(state.signing), _key(path)
        if not certificates.fits(certificate, key):
            raise PkiError(f"{path} is not the key of {state.signing}.crt; restore both from a backup")
        return Issuer(certificate, key)

    def _store(self, pair: Pair, certificate: x509.Certificate, key: Key | None, key_access: Access) -> None:
        """Write the key, unless it stays, then the certificate, with the access of the files they replace.

        An interruption in between leaves a key that does not fit, which ``renew`` finds.
        """
        _make_directory(pair.key.parent)
        if key is not None:
            files.replace(pair.key, certificates.key_pem(key), files.access_of(pair.key, key_access))
        access = files.access_of(pair.certificate, PUBLIC)
        files.replace(pair.certificate, certificates.pem(certificate), access)

    def _pairs(self, kind: Kind) -> list[Pair]:
        found = sorted((self.directory / kind).glob("*.crt"))
        return [Pair(path.stem, path, path.with_suffix(".key")) for path in found if path.name[0] != "."]

    def _mismatch(self, pair: Pair, certificate: x509.Certificate, signing: x509.Certificate) -> Due | None:
        """Return why the certificate is to be renewed whatever its age; an unreadable key counts as right."""
        if not certificates.is_issued_by(certificate, signing):
            return Due.OTHER_CA
        try:
            key = _key_or_none(pair.key)
        except PermissionError:
            return None
        return None if key and certificates.fits(certificate, key) else Due.KEY_DOES_NOT_FIT

    def _renew(
        self, state: _State, now: datetime, within: timedelta, *, new_keys: bool = False
    ) -> list[Renewed]:
        signing = self._ca(state.signing)
        renewed = []
        for kind in Kind:
            for pair in self._pairs(kind):
                old = _certificate(pair.certificate)
                due = self._mismatch(pair, old, signing)
                if due is None and old.not_valid_after_utc - now <= within:
                    due = Due.ENDS_SOON
                if due is None:
                    continue
                kept = None if new_keys else _key_or_none(pair.key)
                key = kept or certificates.new_key()
                issuer = self._issuer(state)
                if kind is Kind.SERVER:
                    names = certificates.names_of(old)
                    made = certificates.server_certificate(issuer, key.public_key(), names, now)
                else:
                    made = certificates.client_certificate(issuer, key.public_key(), pair.name, now)
                self._store(pair, made, None if kept else key, PRIVATE)
                renewed.append(Renewed(pair, kind, due))
        return renewed


_UNDER_WAY = {
    RollOver.BEGUN: "a roll-over has begun already: the next step is `infoscreen pki rotate-ca switch`",
    RollOver.SWITCHED: "a roll-over is under way: the next step is `infoscreen pki rotate-ca finish`",
}
_WARNINGS = {
    Due.OTHER_CA: "from another CA than the one that signs: run `infoscreen pki renew`",
    Due.KEY_DOES_NOT_FIT: "the key is missing or belongs to another certificate: run `infoscreen pki renew`",
}


def _exposed(key: Path) -> str | None:
    """Return a note if everybody on this host can read the key."""
    if not key.exists() or not key.stat().st_mode & EVERYBODY:
        return None
    return f"everybody can read the key: run `chmod o= {key}` and issue the certificate again"


def _entry(which: str, certificate: x509.Certificate, warning: str | None) -> CertificateEntry:
    names = tuple(map(str, certificates.names_of(certificate)))
    return CertificateEntry(
        which,
        names or (certificate.subject.rfc4514_string(),),
        certificate.issuer.rfc4514_string(),
        certificates.lifetime_of(certificate),
        f"{certificate.serial_number:x}",
        certificate.fingerprint(hashes.SHA256()).hex(),
        warning,
        warning is not None,
    )


def _make_directory(path: Path) -> None:
    """Make a directory whatever the umask; one that is there keeps its mode."""
    if not path.is_dir():
        path.mkdir(parents=True)
        path.chmod(REACHABLE)


def _certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except FileNotFoundError:
        raise PkiError(f"{path} is missing; restore it from a backup") from None
    except ValueError:
        raise PkiError(f"{path} is no certificate in PEM; restore it from a backup") from None


def _key_or_none(path: Path) -> Key | None:
    """Return the key in the file; None if there is none that can be used."""
    try:
        return _key(path)
    except PkiError:
        return None


def _key(path: Path) -> Key:
    try:
        found = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except FileNotFoundError:
        raise PkiError(f"{path} is missing; restore it from a backup") from None
    except (ValueError, TypeError):
        raise PkiError(f"{path} is no private key in PEM without a passphrase") from None
    if not isinstance(found, Key):
        raise PkiError(f"{path} is no key on an elliptic curve")
    return found


@contextlib.contextmanager
def _said() -> Iterator[None]:
    """Let errors of the file system leave as ours."""
    try:
        yield
    except OSError as error:
        name = error.filename or "the certificates' directory"
        raise PkiError(f"{name}: {error.strerror or error}") from None
