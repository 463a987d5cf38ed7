"""The recovery in words: its reasons, and what its rungs, outcomes and incidents are called."""

from collections.abc import Mapping
from types import MappingProxyType

from infoscreen.domain.commands import AT_THE_OUTLET
from infoscreen.domain.power.outlet import OutletObstacle
from infoscreen.domain.recovery import Closing, Decided, Ending, Incident, IncidentKind, Outcome, Reason, Rung
from infoscreen.domain.recovery.reasons import Arguments
from infoscreen.domain.timeline import AttemptBegun, AttemptEnded, DecisionMade, RecoveryLine
from infoscreen.words.language import N_, Language, Text, plural, spoken
from infoscreen.words.power import POWER_FAULTS

R = Reason

REASONS: Mapping[Reason, Text] = MappingProxyType(
    {
        R.ACT_RESTART_APP: N_("Restart the application, attempt %(attempt)s of %(attempts)s."),
        R.ACT_REBOOT_HOST: N_("Reboot the client, attempt %(attempt)s of %(attempts)s."),
        R.ACT_POWER_CYCLE: N_("Power cycle the client, attempt %(attempt)s of %(attempts)s."),
        R.BROKER_DISCONNECTED: N_(
            "The server is not connected to the broker and cannot tell how any client is."
        ),
        R.OBSERVER_GRACE: N_(
            "The server has not listened for long enough since its start or reconnect to judge silence."
        ),
        R.INGEST_LAG: N_(
            "The server is behind with what clients report (messages by %(ingest)s s, its own work by "
            "%(loop)s s)."
        ),
        R.COMMANDS_UNANSWERED: N_(
            "Clients are heard, but none answers commands: these do not arrive. One is tried now and then."
        ),
        R.FLEET_OUTAGE: N_(
            "%(silent)s of %(well)s clients fell silent together: that is the network or the broker, not the "
            "clients."
        ),
        R.FLEET_SETTLING: N_("Most clients of the outage are back; the others get some more time."),
        R.SITE_OUTAGE: N_(
            "%(silent)s of %(well)s clients at %(site)s fell silent together: the cause is the site, not the "
            "clients."
        ),
        R.SITE_SETTLING: N_("Most clients at %(site)s are back; the others get some more time."),
        R.NETWORK_OUTAGE: N_(
            "%(silent)s of %(well)s clients in the network %(network)s fell silent together: that is the "
            "network, not the clients."
        ),
        R.NETWORK_SETTLING: N_(
            "Most clients in the network %(network)s are back; the others get some more time."
        ),
        R.OUTAGE_SUSPECTED: N_(
            "If this is an outage, others are only missed later: it is not judged alone before that."
        ),
        R.GONE: N_("Silent for a day together with others: it counts as gone until it is heard again."),
        R.LEFT_BEHIND: plural(
            "Needs someone on site: an outage is over, and %(silent)s client has stayed dark whose power "
            "cannot "
            "be switched from here.",
            "Needs someone on site: an outage is over, and %(silent)s clients have stayed dark whose power "
            "cannot be switched from here.",
            "silent",
        ),
        R.WAVE: N_(
            "Waits its turn among clients with the same trouble: %(trying)s are tried, %(waiting)s wait for "
            "the effect."
        ),
        R.NO_EFFECT: N_(
            "What was tried on clients with the same trouble did not help; one is tried every hour, and the "
            "others go on when that one is cured."
        ),
        R.MAINTENANCE: N_("In maintenance: no automatic action is taken."),
        R.PAUSED: N_("Recovery is paused by hand: %(why)s"),
        R.TAKEN_OVER: N_("%(by)s takes care of it; the recovery keeps out of it."),
        R.AUTO_RECOVERY_OFF: N_("Automatic recovery is switched off for this client."),
        R.SHUT_DOWN: N_("Shut down on purpose: it stays off until somebody switches it on."),
        R.OFF_HOURS: N_("Outside of its hours: it may be dark."),
        R.CLOSING_SOON: N_("It fell silent shortly before its hours end: it is taken to be switched off."),
        R.INCOMPREHENSIBLE: N_(
            "The client speaks, but its messages cannot be read: it is there, and a restart may be no help."
        ),
        R.DUPLICATE: N_("Two clients use this identity: nothing is done until only one is left."),
        R.COMMAND_IN_FLIGHT: N_("The client has an unfinished command: %(action)s."),
        R.ORDERED: N_("%(action)s has been ordered and is not sent yet."),
        R.WAITING_FOR_VERIFICATION: N_("%(action)s was sent; now its effect has to show."),
        R.GRACE: N_("The problem is new: many pass by themselves."),
        R.BOOTING: N_("The client has just booted; what it reports meanwhile is no crash yet."),
        R.KEEPALIVE: N_(
            "The broker may still take a broken connection for a live one; it knows after one and a half "
            "keepalives."
        ),
        R.RHYTHM_UNKNOWN: N_("Heard only once so far: how often it reports is not known yet."),
        R.FLAPPING: plural(
            "It has come back by itself once lately and is given more time to do so again.",
            "It has come back by itself %(returns)s times lately and is given more time to do so again.",
            "returns",
        ),
        R.MAY_BE_REBOOTING: N_(
            "It may be rebooting, updating or checking its disk and gets the time that this may take."
        ),
        R.LOCKOUT: N_(
            "Several disruptive commands in a short time: the rest is kept for an operator until the lockout "
            "ends."
        ),
        R.EXHAUSTED: plural(
            "Needs someone on site: everything that can be tried has been tried (%(tried)s attempt).",
            "Needs someone on site: everything that can be tried has been tried (%(tried)s attempts).",
            "tried",
        ),
        R.NO_OUTLET: plural(
            "Needs someone on site: only a power cycle could help, and no outlet is configured (%(tried)s "
            "attempt before).",
            "Needs someone on site: only a power cycle could help, and no outlet is configured (%(tried)s "
            "attempts before).",
            "tried",
        ),
        R.OUTLET_UNUSABLE: N_("Needs someone on site: only a power cycle could help, and %(obstacle)s."),
        R.LIMIT_REACHED: plural(
            "Needs someone on site: %(limit)s automatic action within a day has not helped. One more is "
            "tried "
            "each night.",
            "Needs someone on site: %(limit)s automatic actions within a day have not helped. One more is "
            "tried "
            "each night.",
            "limit",
        ),
        R.REFUSED: N_(
            "Needs someone on site: the client refuses %(action)s (%(code)s). That is not charged."
        ),
        R.UNANSWERED: plural(
            "Needs someone on site: the client is connected, but answers no command (%(tried)s attempt "
            "accepted "
            "before).",
            "Needs someone on site: the client is connected, but answers no command (%(tried)s attempts "
            "accepted before).",
            "tried",
        ),
        R.CONFIRMING: plural(
            "It is back; it counts as online after %(heartbeats)s heartbeat and %(seconds)s s.",
            "It is back; it counts as online after %(heartbeats)s heartbeats and %(seconds)s s.",
            "heartbeats",
        ),
        R.RELAPSE_WATCH: N_("Back online. Should it relapse soon, recovery goes on where it was."),
        R.RUNS_AGAIN: N_(
            "The application runs again; the failed service stays shown until somebody acknowledges it."
        ),
        R.NOTHING_TO_DO: N_("There is nothing to recover."),
    }
)

ENDINGS: Mapping[Ending, str] = MappingProxyType(
    {
        Ending.DONE: N_("It is carried out now; then its effect has to show."),
        Ending.TIME: N_("It is decided again when the time is over, or as soon as the client changes."),
        Ending.OBSERVATION: N_("It is decided again on every poll, until things are seen to have changed."),
        Ending.HUMAN: N_(
            "Nothing further is done until somebody acts, or the client comes back online by itself."
        ),
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

OUTCOMES: Mapping[Outcome, str] = MappingProxyType(
    {
        Outcome.HELPED: N_("it helped"),
        Outcome.NO_EFFECT: N_("without effect"),
        Outcome.REFUSED: N_("refused by the client, does not count"),
        Outcome.UNANSWERED: N_("not answered, does not count"),
        Outcome.UNDELIVERED: N_("sent, but no command reached any client; does not count"),
        Outcome.NOT_SENT: N_("never sent, does not count"),
    }
)

INCIDENTS: Mapping[IncidentKind, tuple[str, str]] = MappingProxyType(
    {
        IncidentKind.FLEET_OUTAGE: (
            N_("Outage at several sites"),
            N_(
                "These clients fell silent together. The cause is the network or the broker: no automatic "
                "action "
                "is taken on them. The rest of the fleet is recovered as usual."
            ),
        ),
        IncidentKind.SITE_OUTAGE: (
            N_("Outage of %(site)s"),
            N_(
                "The cause is the network or the power of the site: no automatic action is taken on its "
                "clients. "
                "The rest of the fleet is recovered as usual."
            ),
        ),
        IncidentKind.NETWORK_OUTAGE: (
            N_("Outage of the network %(network)s"),
            N_(
                "These clients share a network and fell silent together: no automatic action is taken on "
                "them. "
                "The rest of the fleet is recovered as usual."
            ),
        ),
        IncidentKind.LEFT_BEHIND: (
            N_("Stayed dark after an outage"),
            N_("The others are back. These can only be helped on site."),
        ),
        IncidentKind.ALIKE: (
            N_("Many clients with the same trouble"),
            N_("They are recovered in waves, a few first; the next ones follow when those are cured."),
        ),
        IncidentKind.OBSERVER: (
            N_("The server receives nothing"),
            N_("The state of the clients is unknown at the moment, so no automatic action is taken."),
        ),
        IncidentKind.COMMANDS_UNANSWERED: (
            N_("Commands do not arrive"),
            N_("Clients are heard and answer no command. Nothing is charged; one is tried now and then."),
        ),
        IncidentKind.CLIENT: (
            N_("%(client)s needs attention"),
            N_("The automatic recovery cannot help this client any further."),
        ),
        IncidentKind.BROKER: (
            N_("Trouble with the broker"),
            N_("The broker is running, but not correctly."),
        ),
        IncidentKind.CERTIFICATE: (
            N_("Trouble with a certificate"),
            N_("Without a valid certificate connections fail."),
        ),
        IncidentKind.AUTHENTICATION: (
            N_("Many failed logins"),
            N_("Somebody tries passwords, or a client has a wrong one."),
        ),
        IncidentKind.DATABASE: (
            N_("Nothing can be stored"),
            N_("The database takes no writes. The broker keeps the messages meanwhile."),
        ),
        IncidentKind.BACKUP: (
            N_("The newest backup is too old"),
            N_("Look at the timer infoscreen-backup and at the free space."),
        ),
        IncidentKind.POWER: (
            N_("An outlet stays off"),
            N_("It was switched off for a power cycle and does not come on again. ON is repeated."),
        ),
    }
)

STOPPED = N_(
    "What was tried does not help. One client an hour is tried; the others go on when that one is cured."
)
CALM = N_("It is nearly over; clients get time to come back by themselves before anything is done.")
NOTHING_NEXT = N_("Nothing: there is nothing to recover.")
NOTHING_SENT = N_("Nothing is sent in a dry run.")
DRY_RUN = N_("Dry run, nothing is sent: %(sentence)s")

ACTIONS: Mapping[str, str] = MappingProxyType(
    {
        "restart_app": RUNGS[Rung.RESTART_APP],
        "reboot_host": RUNGS[Rung.REBOOT_HOST],
        "power_cycle": RUNGS[Rung.POWER_CYCLE],
        "shutdown_host": N_("Shutdown"),
    }
)


OBSTACLES: Mapping[str, str] = MappingProxyType(
    {
        OutletObstacle.PROTECTED: N_("its outlet is protected"),
        OutletObstacle.SHARED: N_("its outlet also feeds clients that are not silent"),
        OutletObstacle.USED_UP: N_("its outlet was cycled as often today as it may be"),
    }
)

OUTLET_REFUSES = N_(
    "Needs someone on site: a power cycle is not possible: %(code)s. That is not charged; it is tried again "
    "every hour."
)


class _Gaps(dict[str, str | int]):
    """Arguments of a decision; one that an older version has not stored is shown as unknown."""

    def __missing__(self, key: str) -> str:
        return "?"


def why(
    reason: Reason, arguments: Arguments, language: Language | None = None, *, would: bool = False
) -> str:
    """Say why something is done or not; ``would`` marks a dry run."""
    language = language or spoken()
    gaps = _Gaps(arguments)
    text = REASONS[reason]
    if reason is Reason.REFUSED and arguments.get("action") in AT_THE_OUTLET:
        text = OUTLET_REFUSES
        gaps["code"] = language.gettext(POWER_FAULTS.get(str(gaps["code"]), str(gaps["code"])))  # type: ignore[call-overload]
    if "obstacle" in gaps:
        gaps["obstacle"] = language.gettext(OBSTACLES.get(str(gaps["obstacle"]), str(gaps["obstacle"])))
    if "action" in gaps:
        gaps["action"] = language.gettext(ACTIONS.get(str(gaps["action"]), str(gaps["action"])))
    said = _form(text, gaps, language) % gaps
    return language.gettext(DRY_RUN) % {"sentence": said} if would else said


def _form(text: Text, gaps: Mapping[str, str | int], language: Language) -> str:
    if isinstance(text, str):
        return language.gettext(text)
    count = gaps.get(text.by)
    return language.ngettext(text.one, text.many, count if isinstance(count, int) else 2)


def decided(decision: Decided, language: Language | None = None) -> str:
    """Say why something was decided."""
    language = language or spoken()
    return why(decision.reason, decision.arguments, language, would=decision.would)


def told(line: RecoveryLine, language: Language | None = None) -> str:
    """Say what a line of a client's timeline means that comes from the recovery."""
    language = language or spoken()
    _ = language.gettext
    match line:
        case DecisionMade():
            return why(line.reason, line.arguments, language, would=line.would)
        case AttemptBegun():
            return _("Attempt: %(rung)s") % {"rung": _(RUNGS[line.rung])}
        case AttemptEnded():
            outcome = "" if line.outcome is None else _(OUTCOMES[line.outcome])
            return _("%(rung)s: %(outcome)s") % {"rung": _(RUNGS[line.rung]), "outcome": outcome}


def title(incident: Incident, language: Language | None = None) -> str:
    """Say what an incident is about."""
    language = language or spoken()
    words = language.gettext(INCIDENTS[incident.kind][0])
    client = incident.facts.get("client", "?")
    return words % _Gaps(site=incident.site or "?", network=incident.network or "?", client=client)


def meaning(incident: Incident, language: Language | None = None) -> str:
    """Say what follows from an incident."""
    language = language or spoken()
    if incident.stopped_at is not None:
        return language.gettext(STOPPED)
    if incident.calm_since is not None:
        return language.gettext(CALM)
    return language.gettext(INCIDENTS[incident.kind][1])


def cause(incident: Incident, language: Language | None = None) -> str:
    """Say what speaks for a cause in common; empty when there is nothing to say."""
    language = language or spoken()
    _ = language.gettext
    facts = incident.facts
    if "years" in facts:
        said = _("%(silent)s of %(well)s within %(minutes)s min; by chance once in %(years)s years.")
        return said % _Gaps(facts)
    known = [
        (N_("software %(value)s"), facts.get("software_version")),
        (N_("site %(value)s"), facts.get("site")),
        (N_("network %(value)s"), facts.get("network")),
    ]
    shared = [_(words) % {"value": value} for words, value in known if value is not None]
    return _("In common: %(what)s") % {"what": ", ".join(shared)} if shared else ""


CLOSINGS: Mapping[Closing, str] = MappingProxyType(
    {
        Closing.OVER: N_("over"),
        Closing.DISMISSED: N_("dismissed by hand"),
        Closing.GONE: N_("its clients count as gone"),
    }
)
