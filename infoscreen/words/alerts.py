"""What alerts and broken connections to the broker say."""

from collections.abc import Mapping
from types import MappingProxyType

from infoscreen.domain.alerts import AlertCode
from infoscreen.domain.broker import BrokerFault
from infoscreen.words.language import N_, Table

ALERTS: Table = MappingProxyType(
    {
        AlertCode.CERTIFICATE_ENDS: N_("%(which)s expires on %(at)s. Renew it before then."),
        AlertCode.CERTIFICATE_EXPIRED: N_("%(which)s expired on %(at)s. Connections fail."),
        AlertCode.CERTIFICATE_NOT_YET_VALID: N_("%(which)s is not valid before %(at)s. Check the clocks."),
        AlertCode.CERTIFICATE_UNREADABLE: N_("%(which)s cannot be read."),
        AlertCode.BROKER_NAME_NOT_CHECKED: N_(
            "The broker's name is not checked (MQTT_TLS_INSECURE): anybody with a certificate of its CA can "
            "pretend to be the broker."
        ),
        AlertCode.BROKER_WITHOUT_TLS: N_("The password for the broker goes to %(host)s without TLS."),
        AlertCode.HTTP_WITHOUT_TLS: N_(
            "This panel can be reached at %(host)s without TLS: passwords can be read on the way."
        ),
        AlertCode.BROKER_ACL_OPEN: N_(
            "The broker's access rules have not been in force since %(since)s: any client can command any "
            "other one. Restart the broker now."
        ),
        AlertCode.CLIENT_ID_TAKEN: N_(
            "Another server connects to the broker under this server's client id. Each ends the other's "
            "connection, and messages reach only one of both. Stop one of them, or change its MQTT_CLIENT_ID."
        ),
        AlertCode.OUTLET_LEFT_OFF: N_(
            "The outlet of %(client)s has been off since %(since)s and does not come on again. ON is sent "
            "until it does. If that does not help, switch it on by hand."
        ),
        AlertCode.LOGINS_FAIL: N_("%(failures)s logins at the broker failed in the last ten minutes."),
        AlertCode.CHANNEL_FAILS: N_("Notifications to %(channel)s have not been delivered since %(since)s."),
        AlertCode.LOGINS_FAIL_FROM: N_(
            "%(failures)s logins at the broker failed in the last ten minutes, most of them from %(address)s."
        ),
    }
)

BROKER_FAULTS: Mapping[BrokerFault, str] = MappingProxyType(
    {
        BrokerFault.UNREACHABLE: N_("The broker cannot be reached at its address."),
        BrokerFault.NO_ANSWER: N_("The broker does not answer."),
        BrokerFault.LOST: N_("The connection was lost."),
        BrokerFault.REFUSED: N_("The broker refuses this server's account."),
        BrokerFault.NOT_MQTT: N_("Something else than a broker answers at its address."),
        BrokerFault.PLAIN_ONLY: N_("The broker does not speak TLS on this port."),
        BrokerFault.TLS_ONLY: N_("The broker wants TLS on this port."),
        BrokerFault.NO_COMMON_TLS: N_("Broker and server have no TLS version or cipher in common."),
        BrokerFault.TLS: N_("No TLS connection to the broker is possible."),
        BrokerFault.UNKNOWN_CA: N_("The broker's certificate is not from a trusted CA."),
        BrokerFault.WRONG_NAME: N_("The broker's certificate is for other names."),
        BrokerFault.EXPIRED: N_("The broker's certificate or its CA has expired."),
        BrokerFault.NOT_YET_VALID: N_("The broker's certificate or its CA is not valid yet."),
        BrokerFault.CLIENT_CERTIFICATE_WANTED: N_("The broker asks for a client certificate."),
        BrokerFault.CLIENT_CERTIFICATE_REFUSED: N_("The broker does not accept this server's certificate."),
        BrokerFault.FILES: N_("A certificate file of this server cannot be read."),
    }
)
