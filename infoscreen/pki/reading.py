"""The dates of certificates that somebody else made or presents. Raises ``PkiError`` for what is none."""

from pathlib import Path

from cryptography import x509

from infoscreen.domain.certificates import Lifetime
from infoscreen.domain.errors import PkiError
from infoscreen.pki.certificates import is_issued_by, lifetime_of

MOST_BYTES = 10 * 2**20


def presented_lifetime(der: bytes) -> Lifetime:
    """Return the dates of a certificate that was presented in a handshake."""
    return lifetime_of(_presented(der))


def file_lifetime(path: Path) -> Lifetime:
    """Return the dates of the first certificate in a file, which is the one that is shown."""
    return lifetime_of(_certificates(path)[0])


def ca_lifetime(path: Path, presented: bytes | None) -> Lifetime:
    """Return the dates of the CA in a file that issued the presented certificate.

    If none did, or nothing was presented, those of the CA that ends first.
    """
    authorities = _certificates(path)
    if presented is not None:
        leaf = _presented(presented)
        authorities = [one for one in authorities if is_issued_by(leaf, one)] or authorities
    return min((lifetime_of(one) for one in authorities), key=lambda life: life.not_after)


def _presented(der: bytes) -> x509.Certificate:
    try:
        return x509.load_der_x509_certificate(der)
    except ValueError:
        raise PkiError("what was presented is no certificate") from None


def _certificates(path: Path) -> list[x509.Certificate]:
    try:
        with path.open("rb") as file:
            return x509.load_pem_x509_certificates(file.read(MOST_BYTES))
    except OSError as error:
        raise PkiError(f"{path}: {error.strerror or error}") from None
    except ValueError:
        raise PkiError(f"{path} has no certificate in PEM") from None
