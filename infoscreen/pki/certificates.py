"""Builds and reads X.509 certificates: EC P-256, SHA-256. Pure: no files, and `now` is an argument."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from infoscreen.domain.certificates import Lifetime
from infoscreen.pki.names import Name

CA_LIFETIME = timedelta(days=3650)
LEAF_LIFETIME = timedelta(days=365)
BACKDATED = timedelta(minutes=15)
"""For clocks that are behind: a certificate must not be "not yet valid" right after it was made."""
LONGEST_COMMON_NAME = 64

Key = ec.EllipticCurvePrivateKey


@dataclass(frozen=True, slots=True)
class Issuer:
    """A CA that can sign."""

    certificate: x509.Certificate
    key: Key


def new_key() -> Key:
    """Return a new private key."""
    return ec.generate_private_key(ec.SECP256R1())


def new_ca(key: Key, now: datetime, generation: int) -> x509.Certificate:
    """Return a self-signed CA certificate. Its name differs from that of every other CA.

    A chain is found by names: with two CAs of one name, some clients try only the first.
    """
    mark = x509.SubjectKeyIdentifier.from_public_key(key.public_key()).digest.hex()[:8]
    name = _subject(f"infoscreen CA {generation} ({mark})")
    return (
        _builder(name, name, key.public_key(), Lifetime(now - BACKDATED, now + CA_LIFETIME))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(certificates=True), critical=True)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )


def server_certificate(
    issuer: Issuer, public_key: ec.EllipticCurvePublicKey, names: Sequence[Name], now: datetime
) -> x509.Certificate:
    """Return a certificate for a server with these names."""
    common = next((str(name) for name in names if len(str(name)) <= LONGEST_COMMON_NAME), "server")
    alternatives = x509.SubjectAlternativeName(
        [x509.DNSName(name) if isinstance(name, str) else x509.IPAddress(name) for name in names]
    )
    builder = _leaf(issuer, public_key, common, ExtendedKeyUsageOID.SERVER_AUTH, now)
    return builder.add_extension(alternatives, critical=False).sign(issuer.key, hashes.SHA256())


def client_certificate(
    issuer: Issuer, public_key: ec.EllipticCurvePublicKey, account: str, now: datetime
) -> x509.Certificate:
    """Return a certificate for a client; its common name is the client's account at the broker."""
    builder = _leaf(issuer, public_key, account, ExtendedKeyUsageOID.CLIENT_AUTH, now)
    return builder.sign(issuer.key, hashes.SHA256())


def _leaf(
    issuer: Issuer,
    public_key: ec.EllipticCurvePublicKey,
    common_name: str,
    purpose: x509.ObjectIdentifier,
    now: datetime,
) -> x509.CertificateBuilder:
    ca = issuer.certificate
    life = Lifetime(
        max(now - BACKDATED, ca.not_valid_before_utc), min(now + LEAF_LIFETIME, ca.not_valid_after_utc)
    )
    identifier = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return (
        _builder(_subject(common_name), ca.subject, public_key, life)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False
        )
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey, life: Lifetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(life.not_before)
        .not_valid_after(life.not_after)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _subject(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _usage(*, certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=certificates,
        crl_sign=certificates,
        encipher_only=False,
        decipher_only=False,
    )


def names_of(certificate: x509.Certificate) -> tuple[Name, ...]:
    """Return the DNS names and addresses the certificate is valid for."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    addresses = found.get_values_for_type(x509.IPAddress)
    return (*found.get_values_for_type(x509.DNSName), *addresses)  # type: ignore[arg-type]  # no networks in a SAN


def lifetime_of(certificate: x509.Certificate) -> Lifetime:
    """Return from when to when the certificate is valid."""
    return Lifetime(certificate.not_valid_before_utc, certificate.not_valid_after_utc)


def fits(certificate: x509.Certificate, key: Key) -> bool:
    """Tell whether the key is the certificate's."""
    return certificate.public_key() == key.public_key()


def is_issued_by(certificate: x509.Certificate, ca: x509.Certificate) -> bool:
    """Tell whether the CA has signed the certificate."""
    try:
        certificate.verify_directly_issued_by(ca)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def pem(certificate: x509.Certificate) -> bytes:
    """Return the certificate as PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def key_pem(key: Key) -> bytes:
    """Return the private key as PEM (PKCS 8), not encrypted: daemons start with nobody at the keyboard."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
