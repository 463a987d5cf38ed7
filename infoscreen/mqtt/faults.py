"""From an error of ssl or the network to a code and a sentence that says what to do about it.

Told by OpenSSL's codes, never by its words. Opens nothing.
"""

import errno
import socket
import ssl
from collections.abc import Iterator, Mapping
from types import MappingProxyType

from infoscreen.domain.broker import BrokerFault

SENTENCES: Mapping[BrokerFault, str] = MappingProxyType(
    {
        BrokerFault.NO_ANSWER: "the broker did not answer in time",
        BrokerFault.NOT_MQTT: "what answers on this port is no MQTT broker",
        BrokerFault.PLAIN_ONLY: "this port speaks plain MQTT, not TLS; "
        "use the broker's TLS port (usually 8883) or set MQTT_TLS_ENABLED=false",
        BrokerFault.TLS_ONLY: "this port speaks TLS; set MQTT_TLS_ENABLED=true",
        BrokerFault.NO_COMMON_TLS: "no TLS version or cipher in common; the broker needs TLS 1.2 or newer",
        BrokerFault.UNKNOWN_CA: "the broker's certificate is not from a trusted CA; "
        "MQTT_TLS_CA_CERT must name the file of the CA that issued it",
        BrokerFault.WRONG_NAME: "the broker's certificate is for other names; "
        "connect by a name in it, or issue it for this name too",
        BrokerFault.EXPIRED: "the broker's certificate or its CA has expired; "
        "renew it, or correct this host's clock",
        BrokerFault.NOT_YET_VALID: "the broker's certificate or its CA is not valid yet; "
        "correct this host's clock, or that of the host that issued it",
        BrokerFault.CLIENT_CERTIFICATE_WANTED: "the broker asks for a client certificate; "
        "set MQTT_TLS_CERTFILE and MQTT_TLS_KEYFILE",
        BrokerFault.CLIENT_CERTIFICATE_REFUSED: "the broker does not accept our client certificate; "
        "it has expired, or is from a CA that the broker does not trust",
    }
)

_VERIFICATION: Mapping[int, BrokerFault] = MappingProxyType(
    {
        2: BrokerFault.UNKNOWN_CA,
        9: BrokerFault.NOT_YET_VALID,
        10: BrokerFault.EXPIRED,
        18: BrokerFault.UNKNOWN_CA,
        19: BrokerFault.UNKNOWN_CA,
        20: BrokerFault.UNKNOWN_CA,
        21: BrokerFault.UNKNOWN_CA,
        62: BrokerFault.WRONG_NAME,
        64: BrokerFault.WRONG_NAME,
    }
)
"""OpenSSL's X509_V_ERR_ codes."""

_REASONS: Mapping[str, BrokerFault] = MappingProxyType(
    {
        "TLSV13_ALERT_CERTIFICATE_REQUIRED": BrokerFault.CLIENT_CERTIFICATE_WANTED,
        "SSLV3_ALERT_BAD_CERTIFICATE": BrokerFault.CLIENT_CERTIFICATE_REFUSED,
        "SSLV3_ALERT_CERTIFICATE_EXPIRED": BrokerFault.CLIENT_CERTIFICATE_REFUSED,
        "SSLV3_ALERT_CERTIFICATE_REVOKED": BrokerFault.CLIENT_CERTIFICATE_REFUSED,
        "SSLV3_ALERT_CERTIFICATE_UNKNOWN": BrokerFault.CLIENT_CERTIFICATE_REFUSED,
        "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": BrokerFault.CLIENT_CERTIFICATE_REFUSED,
        "TLSV1_ALERT_UNKNOWN_CA": BrokerFault.CLIENT_CERTIFICATE_REFUSED,
        "NO_PROTOCOLS_AVAILABLE": BrokerFault.NO_COMMON_TLS,
        "TLSV1_ALERT_INSUFFICIENT_SECURITY": BrokerFault.NO_COMMON_TLS,
        "TLSV1_ALERT_PROTOCOL_VERSION": BrokerFault.NO_COMMON_TLS,
        "UNSUPPORTED_PROTOCOL": BrokerFault.NO_COMMON_TLS,
    }
)
"""OpenSSL's names of alerts and errors."""

_UNREACHABLE = frozenset(
    {errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.ENETDOWN}
)
_LOST = frozenset({errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED})


def fault_of(error: BaseException) -> BrokerFault | None:
    """Return the code of the first error in the chain that has one."""
    return next((fault for one in _chain(error) if (fault := _fault(one)) is not None), None)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _fault(error: BaseException) -> BrokerFault | None:
    match error:
        case ssl.SSLCertVerificationError():
            return _VERIFICATION.get(error.verify_code, BrokerFault.UNKNOWN_CA)
        case ssl.SSLEOFError() | ssl.SSLZeroReturnError():
            return BrokerFault.LOST
        case ssl.SSLError():
            return _REASONS.get(error.reason or "", BrokerFault.TLS)
        case socket.gaierror():
            return BrokerFault.UNREACHABLE
        case TimeoutError():
            return BrokerFault.NO_ANSWER
        case OSError():
            if error.errno in _LOST or isinstance(error, ConnectionResetError):
                return BrokerFault.LOST
            return BrokerFault.UNREACHABLE if error.errno in _UNREACHABLE else None
        case _:
            return None
