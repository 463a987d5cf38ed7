"""Sentences for the recovery: why it acts or does not, and what it tried.

Times are not part of a sentence: a decision carries its ``until``, which every reader shows in their own way.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from infoscreen.domain.attempts import AttemptOutcome
from infoscreen.domain.recovery import Reason, Rung
from infoscreen.words.language import ENGLISH, N_, Language, Table, plural

R = Reason

REASONS: Table = MappingProxyType(
    {
        R.ACT_RESTART_APP: N_("Restart the application, attempt %(attempt)s of %(attempts)s."),
        R.ACT_REBOOT_HOST: N_("Reboot the device, attempt %(attempt)s of %(attempts)s."),
        R.ACT_POWER_CYCLE: N_("Power cycle the device, attempt %(attempt)s of %(attempts)s."),
        R.BROKER_DISCONNECTED: N_(
            "The server is not connected to the broker, so the state of the clients is unknown."
        ),
        R.OBSERVER_GRACE: N_("The server has not been connected long enough to judge."),
        R.INGEST_LAG: N_(
            "The server is behind with processing messages (messages by %(ingest)s s, its own work "
            "by %(loop)s s)."
        ),
        R.FLEET_OUTAGE: N_(
            "%(silent)s of %(well)s clients have fallen silent: the cause is the network or the "
            "broker, not the clients."
        ),
        R.FLEET_SETTLING: N_("The outage of the fleet is over; clients get time to come back by themselves."),
        R.SITE_OUTAGE: N_(
            "%(silent)s of %(well)s clients at %(site)s have fallen silent: the cause is the site, "
            "not the clients."
        ),
        R.SITE_SETTLING: N_(
            "The outage of %(site)s is over; its clients get time to come back by themselves."
        ),
        R.OUTAGE_SUSPECTED: N_(
            "Other clients have not been heard lately either: an outage may be beginning."
        ),
        R.NO_WITNESS: N_("No other client reports often enough to tell yet whether this is an outage."),
        R.STORM: N_(
            "%(silent)s clients fell silent at about the same time; that has a common cause, which may pass."
        ),
        R.BUDGET: plural(
            "Waits its turn: %(in_flight)s client is being recovered, at most %(concurrent)s at the same "
            "time.",
            "Waits its turn: %(in_flight)s clients are being recovered, at most %(concurrent)s at the same "
            "time.",
            "in_flight",
        ),
        R.MAINTENANCE: N_("In maintenance: no action is taken."),
        R.PAUSED: N_("Recovery is paused manually: %(why)s"),
        R.AUTO_RECOVERY_OFF: N_("Automatic recovery is switched off for this client."),
        R.SHUT_DOWN: N_("Shut down on purpose: it stays off until somebody switches it on."),
        R.INCOMPREHENSIBLE: N_(
            "The device sends messages that cannot be read: it is running, and a restart may not help."
        ),
        R.DUPLICATE: N_("Two devices use this identity: no action is taken until only one is left."),
        R.COMMAND_IN_FLIGHT: N_("The client has an unfinished command: %(action)s."),
        R.ORDERED: N_("%(action)s has been ordered and is not sent yet."),
        R.WAITING_FOR_VERIFICATION: N_("%(action)s was sent; its effect is being awaited."),
        R.GRACE: N_("Not failing for long enough yet: many problems pass by themselves."),
        R.FLAPPING: plural(
            "It has come back by itself %(returns)s time lately and is given more time to do so again.",
            "It has come back by itself %(returns)s times lately and is given more time to do so again.",
            "returns",
        ),
        R.MAY_BE_REBOOTING: N_("It may be rebooting by itself and gets the time that a reboot may take."),
        R.LOCKOUT: N_("Too many disruptive commands in a short time: the client is locked to protect it."),
        R.EXHAUSTED: plural(
            "Needs someone on site: everything possible has been tried (%(tried)s attempt).",
            "Needs someone on site: everything possible has been tried (%(tried)s attempts).",
            "tried",
        ),
        R.NO_OUTLET: plural(
            "Needs someone on site: only a power cycle could help, and no outlet is configured (%(tried)s "
            "attempt before).",
            "Needs someone on site: only a power cycle could help, and no outlet is configured (%(tried)s "
            "attempts before).",
            "tried",
        ),
        R.LIMIT_REACHED: plural(
            "Needs someone on site: %(action)s was already done as often as automatic recovery may "
            "(%(limit)s time).",
            "Needs someone on site: %(action)s was already done as often as automatic recovery may "
            "(%(limit)s times).",
            "limit",
        ),
        R.CONFIRMING: N_("It is back; it counts as well after %(heartbeats)s heartbeats and %(seconds)s s."),
        R.RELAPSE_WATCH: N_(
            "It is back online. If it fails again soon, recovery continues where it stopped."
        ),
        R.RUNS_AGAIN: N_(
            "The application runs again; the failed service stays shown until somebody acknowledges it."
        ),
        R.NOTHING_TO_DO: N_("There is nothing to recover."),
    }
)
"""Its arguments are plain values; ``action`` is the name of a command or a rung."""

ACTIONS: Mapping[str, str] = MappingProxyType(
    {
        "restart_app": N_("Restart of the application"),
        "reboot_host": N_("Reboot of the device"),
        "power_cycle": N_("Power cycle"),
        "shutdown_host": N_("Shutdown"),
    }
)

RUNGS: Mapping[Rung, str] = MappingProxyType(
    {
        Rung.RESTART_APP: N_("App restart"),
        Rung.REBOOT_HOST: N_("Reboot"),
        Rung.POWER_CYCLE: N_("Power cycle"),
        Rung.HUMAN: N_("Needs someone on site"),
    }
)

OUTCOMES: Mapping[AttemptOutcome, str] = MappingProxyType(
    {
        AttemptOutcome.RECOVERED: N_("the client is back online"),
        AttemptOutcome.NO_EFFECT: N_("without effect"),
        AttemptOutcome.NOT_SENT: N_("never sent, does not count"),
    }
)


def why(
    reason: Reason, arguments: Mapping[str, Any], language: Language = ENGLISH, *, would: bool = False
) -> str:
    """Say why something is done or not; ``would`` marks a dry run."""
    _ = language.gettext
    values = dict(arguments)
    if "action" in values:
        name = ACTIONS.get(values["action"])
        values["action"] = values["action"] if name is None else _(name)
    text = REASONS[reason]
    if isinstance(text, str):
        said = _(text) % values
    else:
        said = language.ngettext(text.one, text.many, int(values[text.by])) % values
    return _("Dry run, nothing is sent: %(sentence)s") % {"sentence": said} if would else said


def told(data: Mapping[str, Any], language: Language = ENGLISH) -> str:
    """Say what a line of a client's timeline means that a decision or an attempt is behind."""
    _ = language.gettext
    if data["what"] == "decision":
        return why(Reason(data["reason"]), data["arguments"], language, would=data["would"])
    rung = _(RUNGS[Rung(data["rung"])])
    dry = " (" + _("dry run") + ")" if data["would"] else ""
    if data["what"] == "attempt":
        return _("Attempt: %(rung)s") % {"rung": rung} + dry
    outcome = _(OUTCOMES[AttemptOutcome(data["outcome"])])
    return _("%(rung)s: %(outcome)s") % {"rung": rung, "outcome": outcome} + dry
