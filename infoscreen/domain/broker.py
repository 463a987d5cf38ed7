"""Why there is no connection to the broker, as codes."""

from enum import StrEnum


class BrokerFault(StrEnum):
    """What is wrong between us and the broker, as far as it can be told."""

    UNREACHABLE = "unreachable"
    NO_ANSWER = "no_answer"
    LOST = "lost"
    REFUSED = "refused"
    NOT_MQTT = "not_mqtt"
    PLAIN_ONLY = "plain_only"
    TLS_ONLY = "tls_only"
    NO_COMMON_TLS = "no_common_tls"
    TLS = "tls"
    UNKNOWN_CA = "unknown_ca"
    WRONG_NAME = "wrong_name"
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    CLIENT_CERTIFICATE_WANTED = "client_certificate_wanted"
    CLIENT_CERTIFICATE_REFUSED = "client_certificate_refused"
    FILES = "files"

    @property
    def is_vague(self) -> bool:
        """Tell whether a look at the port may find out more."""
        return self in {BrokerFault.NO_ANSWER, BrokerFault.LOST, BrokerFault.TLS}
