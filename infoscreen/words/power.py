"""What people are told about outlets."""

from collections.abc import Mapping
from types import MappingProxyType

from infoscreen.domain.power.outlet import PowerFault, PowerState
from infoscreen.words.language import N_

DRIVERS: Mapping[str, str] = MappingProxyType(
    {
        "shelly": N_("Shelly, generation 2 and later"),
        "shelly_gen1": N_("Shelly, generation 1"),
        "tasmota": N_("Tasmota or OpenBeken, over HTTP"),
        "apc": N_("APC or Schneider PDU, over SNMP"),
        "raritan": N_("Raritan PDU, over SNMP"),
        "raritan_json": N_("Raritan PDU, over https"),
        "redfish": N_("BMC with Redfish (iDRAC, iLO, XCC ...)"),
        "ipmi": N_("BMC with IPMI 2.0"),
        "command": N_("A program on the server"),
    }
)

POWER_STATES: Mapping[PowerState, str] = MappingProxyType(
    {PowerState.ON: N_("on"), PowerState.OFF: N_("off"), PowerState.UNKNOWN: N_("does not say")}
)

POWER_FAULTS: Mapping[PowerFault, str] = MappingProxyType(
    {
        PowerFault.NO_ANSWER: N_("no answer"),
        PowerFault.BAD_CREDENTIALS: N_("user or password refused"),
        PowerFault.NO_ANSWER_OR_BAD_CREDENTIALS: N_("no answer, or the password is wrong"),
        PowerFault.BAD_ANSWER: N_("an answer that makes no sense"),
        PowerFault.REFUSED: N_("refused by the outlet"),
        PowerFault.UNSUPPORTED: N_("no such outlet, or another kind of hardware"),
        PowerFault.MISSING_PROGRAM: N_("a program or package is not installed on the server"),
        PowerFault.BAD_CONFIGURATION: N_("wrong configuration"),
        PowerFault.WRONG_IDENTITY: N_("it is another outlet than the configured one"),
        PowerFault.STATE_UNKNOWN: N_("it does not say whether it is on"),
        PowerFault.OFF_NOT_SEEN: N_("it did not switch off"),
        PowerFault.STILL_DRAWING: N_("it says off, but power is still drawn"),
        PowerFault.OFF_TOO_SHORT: N_("it came on again too early"),
        PowerFault.SECRET_UNREADABLE: N_("its stored password cannot be decrypted"),
        PowerFault.NOT_ALLOWED: N_("it may no longer be switched: protected, shared, or withdrawn"),
        PowerFault.CLIENT_IS_BACK: N_("the client was heard again before anything was switched"),
        PowerFault.INTERRUPTED: N_("interrupted; it was only switched on again"),
    }
)
