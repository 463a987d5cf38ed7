"""Why the recovery does something or nothing: stable codes, and a sentence for each in German and English.

Both sentences stand here, next to the code, and not in the panel's catalogs: programs get them through the
API, and a decision without a sentence is to be impossible. Times are not part of a sentence; a decision
carries its ``until``, which every reader shows in their own way.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

Arguments = Mapping[str, str | int]
"""What fills the gaps of a sentence: plain values that fit into a column of JSON."""


class Reason(StrEnum):
    """Why, in one word. Stored, counted and documented: never rename one."""

    ACT_RESTART_APP = "act_restart_app"
    ACT_REBOOT_HOST = "act_reboot_host"
    ACT_POWER_CYCLE = "act_power_cycle"
    # The observer may be wrong.
    BROKER_DISCONNECTED = "broker_disconnected"
    OBSERVER_GRACE = "observer_grace"
    INGEST_LAG = "ingest_lag"
    # The cause is not the client's own.
    FLEET_OUTAGE = "fleet_outage"
    FLEET_SETTLING = "fleet_settling"
    SITE_OUTAGE = "site_outage"
    SITE_SETTLING = "site_settling"
    OUTAGE_SUSPECTED = "outage_suspected"
    NO_WITNESS = "no_witness"
    STORM = "storm"
    BUDGET = "budget"
    # The client's own.
    MAINTENANCE = "maintenance"
    PAUSED = "paused"
    AUTO_RECOVERY_OFF = "auto_recovery_off"
    SHUT_DOWN = "shut_down"
    INCOMPREHENSIBLE = "incomprehensible"
    DUPLICATE = "duplicate"
    COMMAND_IN_FLIGHT = "command_in_flight"
    ORDERED = "ordered"
    WAITING_FOR_VERIFICATION = "waiting_for_verification"
    GRACE = "grace"
    FLAPPING = "flapping"
    MAY_BE_REBOOTING = "may_be_rebooting"
    LOCKOUT = "lockout"
    # Needs a human.
    EXHAUSTED = "exhausted"
    NO_OUTLET = "no_outlet"
    LIMIT_REACHED = "limit_reached"
    # On the way back, or back.
    CONFIRMING = "confirming"
    RELAPSE_WATCH = "relapse_watch"
    RUNS_AGAIN = "runs_again"
    NOTHING_TO_DO = "nothing_to_do"


class Ending(StrEnum):
    """What comes next, so that nothing is without a next step."""

    DONE = "done"
    """It is carried out now."""
    TIME = "time"
    """``until`` tells when, at the latest."""
    OBSERVATION = "observation"
    """As soon as things are seen to have changed; looked at again on every poll."""
    HUMAN = "human"
    """Somebody has to do something, or the client to become well by itself."""


class Words(NamedTuple):
    """A sentence in both languages, with the same gaps, and what the reason ends by."""

    ending: Ending
    english: str
    german: str


R, E = Reason, Ending

WORDS: Mapping[Reason, Words] = MappingProxyType(
    {
        R.ACT_RESTART_APP: Words(
            E.DONE,
            "Restart the application, attempt {attempt} of {attempts}.",
            "Die Anwendung neu starten, Versuch {attempt} von {attempts}.",
        ),
        R.ACT_REBOOT_HOST: Words(
            E.DONE,
            "Reboot the device, attempt {attempt} of {attempts}.",
            "Das Gerät neu starten, Versuch {attempt} von {attempts}.",
        ),
        R.ACT_POWER_CYCLE: Words(
            E.DONE,
            "Switch the device's power off and on, attempt {attempt} of {attempts}.",
            "Dem Gerät den Strom aus- und einschalten, Versuch {attempt} von {attempts}.",
        ),
        R.BROKER_DISCONNECTED: Words(
            E.OBSERVATION,
            "The server is not connected to the broker and cannot tell how any client is.",
            "Der Server ist nicht mit dem Broker verbunden und weiß von keinem Gerät, wie es ihm geht.",
        ),
        R.OBSERVER_GRACE: Words(
            E.TIME,
            "The server has not listened for long enough since its start or reconnect to judge.",
            "Der Server hört seit seinem Start oder der neuen Verbindung noch nicht lange genug zu, "
            "um zu urteilen.",
        ),
        R.INGEST_LAG: Words(
            E.OBSERVATION,
            "The server is behind with what clients report "
            "(messages by {ingest} s, its own work by {loop} s).",
            "Der Server hängt den Meldungen der Geräte hinterher (Nachrichten um {ingest} s, "
            "eigene Arbeit um {loop} s).",
        ),
        R.FLEET_OUTAGE: Words(
            E.OBSERVATION,
            "{silent} of {well} clients have fallen silent: that is the network or the broker, "
            "not the clients.",
            "{silent} von {well} Geräten sind verstummt: Das liegt am Netz oder am Broker, "
            "nicht an den Geräten.",
        ),
        R.FLEET_SETTLING: Words(
            E.TIME,
            "The outage of the fleet is over; clients get time to come back by themselves.",
            "Der Ausfall der Flotte ist vorbei; die Geräte bekommen Zeit, von selbst zurückzukommen.",
        ),
        R.SITE_OUTAGE: Words(
            E.OBSERVATION,
            "{silent} of {well} clients at {site} have fallen silent: that is the site, not the clients.",
            "{silent} von {well} Geräten am Standort {site} sind verstummt: Das liegt am Standort, "
            "nicht an den Geräten.",
        ),
        R.SITE_SETTLING: Words(
            E.TIME,
            "The outage of {site} is over; its clients get time to come back by themselves.",
            "Der Ausfall am Standort {site} ist vorbei; die Geräte bekommen Zeit, von selbst zurückzukommen.",
        ),
        R.OUTAGE_SUSPECTED: Words(
            E.OBSERVATION,
            "Others have not been heard lately either: an outage may just be beginning.",
            "Auch andere waren zuletzt nicht zu hören: Womöglich beginnt gerade ein Ausfall.",
        ),
        R.NO_WITNESS: Words(
            E.TIME,
            "No other client reports often enough to tell yet whether this is an outage.",
            "Kein anderes Gerät meldet sich oft genug, um schon zu wissen, ob das ein Ausfall ist.",
        ),
        R.STORM: Words(
            E.TIME,
            "{silent} clients fell silent at about the same time; that has a cause in common, "
            "which may pass.",
            "{silent} Geräte sind etwa gleichzeitig verstummt; das hat eine gemeinsame Ursache, "
            "die vorübergehen kann.",
        ),
        R.BUDGET: Words(
            E.OBSERVATION,
            "Waits its turn: {in_flight} clients are being recovered, at most {concurrent} at the same time.",
            "Wartet, bis es an der Reihe ist: {in_flight} Geräte werden gerade wiederhergestellt, "
            "höchstens {concurrent} zugleich.",
        ),
        R.MAINTENANCE: Words(
            E.TIME,
            "In maintenance: nothing is done to it.",
            "In Wartung: Es wird nicht eingegriffen.",
        ),
        R.PAUSED: Words(
            E.TIME,
            "Recovery is paused by hand: {why}",
            "Die Wiederherstellung ist von Hand angehalten: {why}",
        ),
        R.AUTO_RECOVERY_OFF: Words(
            E.HUMAN,
            "Automatic recovery is switched off for this client.",
            "Die automatische Wiederherstellung ist für dieses Gerät ausgeschaltet.",
        ),
        R.SHUT_DOWN: Words(
            E.HUMAN,
            "Shut down on purpose: it stays off until somebody switches it on.",
            "Absichtlich heruntergefahren: Es bleibt aus, bis es jemand einschaltet.",
        ),
        R.INCOMPREHENSIBLE: Words(
            E.HUMAN,
            "The device speaks, but its messages cannot be read: it is there, and a restart may be no help.",
            "Das Gerät sendet, aber seine Nachrichten sind nicht lesbar: Es ist da, und ein Neustart hilft "
            "wohl nicht.",
        ),
        R.DUPLICATE: Words(
            E.HUMAN,
            "Two devices use this identity: nothing is done until only one is left.",
            "Zwei Geräte benutzen diese Kennung: Es geschieht nichts, bis nur noch eines übrig ist.",
        ),
        R.COMMAND_IN_FLIGHT: Words(
            E.TIME,
            "The client has an unfinished command: {action}.",
            "Das Gerät hat einen unerledigten Befehl: {action}.",
        ),
        R.ORDERED: Words(
            E.TIME,
            "{action} has been ordered and is not sent yet.",
            "{action} ist angeordnet und noch nicht gesendet.",
        ),
        R.WAITING_FOR_VERIFICATION: Words(
            E.TIME,
            "{action} was sent; now its effect has to show.",
            "{action} wurde gesendet; nun muss sich die Wirkung zeigen.",
        ),
        R.GRACE: Words(
            E.TIME,
            "Not unwell for long enough: many problems pass by themselves.",
            "Noch nicht lange genug gestört: Vieles vergeht von selbst.",
        ),
        R.FLAPPING: Words(
            E.TIME,
            "It has come back by itself {returns} times lately and is given more time to do so again.",
            "Es ist zuletzt {returns}-mal von selbst zurückgekommen und bekommt dafür nun mehr Zeit.",
        ),
        R.MAY_BE_REBOOTING: Words(
            E.TIME,
            "It may be rebooting by itself and gets the time that a reboot may take.",
            "Es startet womöglich gerade von selbst neu und bekommt die Zeit, die ein Neustart dauern darf.",
        ),
        R.LOCKOUT: Words(
            E.TIME,
            "Too many disruptive commands in a short time: the client is locked to protect it.",
            "Zu viele störende Befehle in kurzer Zeit: Das Gerät ist zu seinem Schutz gesperrt.",
        ),
        R.EXHAUSTED: Words(
            E.HUMAN,
            "Needs a human: everything that can be tried has been tried ({tried} attempts).",
            "Braucht einen Menschen: Alles, was möglich ist, wurde versucht ({tried} Versuche).",
        ),
        R.NO_OUTLET: Words(
            E.HUMAN,
            "Needs a human: only switching its power could help, and no outlet is configured "
            "({tried} attempts before).",
            "Braucht einen Menschen: Nur Strom aus und ein könnte helfen, und es ist keine Steckdose "
            "eingerichtet ({tried} Versuche zuvor).",
        ),
        R.LIMIT_REACHED: Words(
            E.HUMAN,
            "Needs a human: {action} was already done as often as automatic recovery may ({limit} times).",
            "Braucht einen Menschen: {action} wurde schon so oft ausgeführt, wie die Automatik darf "
            "({limit}-mal).",
        ),
        R.CONFIRMING: Words(
            E.TIME,
            "It is back; it counts as well after {heartbeats} heartbeats and {seconds} s.",
            "Es ist zurück; als gesund gilt es nach {heartbeats} Lebenszeichen und {seconds} s.",
        ),
        R.RELAPSE_WATCH: Words(
            E.TIME,
            "It is well again. Should it relapse soon, recovery goes on where it was.",
            "Es ist wieder gesund. Bei einem baldigen Rückfall geht es weiter, wo es aufgehört hat.",
        ),
        R.RUNS_AGAIN: Words(
            E.HUMAN,
            "The application runs again; the failed service stays shown until somebody acknowledges it.",
            "Die Anwendung läuft wieder; der ausgefallene Dienst bleibt angezeigt, bis ihn jemand quittiert.",
        ),
        R.NOTHING_TO_DO: Words(
            E.OBSERVATION,
            "There is nothing to recover.",
            "Es gibt nichts wiederherzustellen.",
        ),
    }
)

DRY_RUN = {
    "en": "Dry run, nothing is sent: {sentence}",
    "de": "Probelauf, es wird nichts gesendet: {sentence}",
}

_NAMES = {
    "de": {
        "restart_app": "Neustart der Anwendung",
        "reboot_host": "Neustart des Geräts",
        "power_cycle": "Strom aus und ein",
        "shutdown_host": "Herunterfahren",
    },
    "en": {
        "restart_app": "Restart of the application",
        "reboot_host": "Reboot of the device",
        "power_cycle": "Switching the power",
        "shutdown_host": "Shutdown",
    },
}


def sentence(reason: Reason, arguments: Arguments, language: str, *, would: bool = False) -> str:
    """Return the reason as a sentence, ``language`` being ``de`` or ``en``.

    Args:
        reason: the code.
        arguments: what the decision carries along; a name of an action is said in words.
        language: ``de``; anything else is English.
        would: say that it is a dry run.
    """
    code = "de" if language == "de" else "en"
    words = WORDS[reason]
    gaps = dict(arguments)
    if "action" in gaps:
        gaps["action"] = _NAMES[code].get(str(gaps["action"]), str(gaps["action"]))
    said = (words.german if code == "de" else words.english).format(**gaps)
    return DRY_RUN[code].format(sentence=said) if would else said
