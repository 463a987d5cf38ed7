"""What is said of one incident beyond its title: the alert or decision that it is about, and how it ended."""

import json

from infoscreen.domain.alerts import AlertCode
from infoscreen.domain.codes import unpacked
from infoscreen.domain.recovery import Incident, Reason
from infoscreen.words import recovery
from infoscreen.words.language import Language, spoken
from infoscreen.words.speaking import say


def detail(incident: Incident, language: Language | None = None) -> str:
    """Say what exactly is wrong, as it was when the incident began; empty if there is nothing to say."""
    language = language or spoken()
    facts = incident.facts
    arguments = json.loads(str(facts.get("arguments", "{}")))
    if "alert" in facts:
        return say(unpacked(AlertCode, str(facts["alert"]), arguments), language)
    if "reason" in facts:
        return recovery.why(Reason(str(facts["reason"])), arguments, language)
    return ""


def closing_word(incident: Incident, language: Language | None = None) -> str:
    """Say how it ended."""
    language = language or spoken()
    return "" if incident.closing is None else language.gettext(recovery.CLOSINGS[incident.closing])
