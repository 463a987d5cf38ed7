"""What notifications say besides what the words of recovery and alerts say."""

from collections.abc import Mapping
from types import MappingProxyType

from infoscreen.domain.notifying import ChannelKind, DeliveryFault, MessageState, NoticeStep
from infoscreen.domain.recovery import IncidentKind
from infoscreen.words.language import N_, Language, plural

TITLES: Mapping[NoticeStep, str] = MappingProxyType(
    {
        NoticeStep.OPENED: N_("%(what)s"),
        NoticeStep.REMINDER: N_("Still: %(what)s"),
        NoticeStep.ESCALATED: N_("Nobody has acknowledged: %(what)s"),
        NoticeStep.RESOLVED: N_("Over: %(what)s"),
        NoticeStep.TEST: N_("Test message from infoscreen"),
        NoticeStep.TEXT: N_("Message from infoscreen"),
        NoticeStep.SUMMARY: N_("Many messages at once"),
    }
)
OTHER_TITLE = N_("Message from infoscreen")
GONE = N_("Not followed any more after a day: %(what)s")
TEST = N_("If you can read this, the channel works.")
SUMMARY = N_("So many messages at once that they are summed up here:")
SINCE = N_("Since %(at)s.")
LASTED = N_("Began %(at)s, lasted %(length)s.")
CLIENTS = plural("%(count)s client: %(names)s.", "%(count)s clients: %(names)s.", "count")
CLIENTS_AND_MORE = plural(
    "%(count)s client: %(names)s and %(more)s more.",
    "%(count)s clients: %(names)s and %(more)s more.",
    "count",
)
TAKEN_OVER = N_("Acknowledged by %(by)s.")
MORE = N_("More:")
ACKNOWLEDGE = N_("Acknowledge:")

STEPS: Mapping[str, str] = MappingProxyType(
    {
        "opened": N_("begun"),
        "reminder": N_("reminders"),
        "escalated": N_("not acknowledged"),
        "resolved": N_("over"),
        "test": N_("tests"),
        "text": N_("messages from people"),
        "summary": N_("summaries"),
    }
)
FAULTS: Mapping[DeliveryFault, str] = MappingProxyType(
    {
        DeliveryFault.FAILED: N_("not taken"),
        DeliveryFault.TIMED_OUT: N_("no answer within 30 s"),
        DeliveryFault.PRIVATE_TARGET: N_("the address is private; see NOTIFY_ALLOW_PRIVATE"),
        DeliveryFault.NOT_UNDERSTOOD: N_("the address is not understood"),
        DeliveryFault.EXTRA_MISSING: N_("Apprise is missing: install infoscreen[notify]"),
        DeliveryFault.NO_PROCESS: N_("the process that sends it ended"),
        DeliveryFault.SECRET_UNREADABLE: N_("its address cannot be decrypted"),
    }
)

MESSAGE_STATES: Mapping[MessageState, str] = MappingProxyType(
    {
        MessageState.WAITING: N_("waiting"),
        MessageState.RETRYING: N_("is tried again"),
        MessageState.SENT: N_("sent"),
        MessageState.SUMMED_UP: N_("part of a summary"),
        MessageState.GIVEN_UP: N_("given up"),
    }
)

STEP_NAMES: Mapping[NoticeStep, str] = MappingProxyType(
    {
        NoticeStep.OPENED: N_("Begin"),
        NoticeStep.REMINDER: N_("Reminder"),
        NoticeStep.ESCALATED: N_("Escalation"),
        NoticeStep.RESOLVED: N_("End"),
        NoticeStep.TEST: N_("Test"),
        NoticeStep.TEXT: N_("Text"),
        NoticeStep.SUMMARY: N_("Summary"),
    }
)

KIND_NAMES: Mapping[IncidentKind, str] = MappingProxyType(
    {
        IncidentKind.FLEET_OUTAGE: N_("Outage at several sites"),
        IncidentKind.SITE_OUTAGE: N_("Outage of a site"),
        IncidentKind.NETWORK_OUTAGE: N_("Outage of a network"),
        IncidentKind.LEFT_BEHIND: N_("Stayed dark after an outage"),
        IncidentKind.ALIKE: N_("Many clients with the same trouble"),
        IncidentKind.OBSERVER: N_("The server receives nothing"),
        IncidentKind.COMMANDS_UNANSWERED: N_("Commands do not arrive"),
        IncidentKind.CLIENT: N_("A client needs attention"),
        IncidentKind.BROKER: N_("Trouble with the broker"),
        IncidentKind.CERTIFICATE: N_("Trouble with a certificate"),
        IncidentKind.AUTHENTICATION: N_("Many failed logins"),
        IncidentKind.DATABASE: N_("Nothing can be stored"),
        IncidentKind.BACKUP: N_("The newest backup is too old"),
        IncidentKind.POWER: N_("An outlet stays off"),
    }
)

CHANNEL_KINDS: Mapping[ChannelKind, str] = MappingProxyType(
    {ChannelKind.APPRISE: "Apprise", ChannelKind.WEBHOOK: "Webhook"}
)


def failure(stored: str, language: Language) -> str:
    """Say why a delivery failed, from what is stored of it: a code, then what others said."""
    code, _, rest = stored.partition(" ")
    if code not in set(DeliveryFault):
        return stored
    said = language.gettext(FAULTS[DeliveryFault(code)])
    return f"{said} ({rest})" if rest else said


KINDS: Mapping[str, str] = MappingProxyType(
    {
        "fleet_outage": N_("outages of several sites"),
        "site_outage": N_("outages of sites"),
        "network_outage": N_("outages of networks"),
        "left_behind": N_("clients that stayed dark after outages"),
        "alike": N_("the same trouble on many clients"),
        "observer": N_("server that receives nothing"),
        "commands_unanswered": N_("commands that do not arrive"),
        "client": N_("clients that need attention"),
        "broker": N_("trouble with the broker"),
        "certificate": N_("trouble with certificates"),
        "authentication": N_("failed logins"),
        "database": N_("database that cannot be written"),
        "backup": N_("old backups"),
        "other": N_("other messages"),
    }
)


def counted(counts: Mapping[str, int], language: Language) -> list[str]:
    """Say how many messages of which kind there are; the keys are ``KIND STEP``."""
    said = []
    for key, count in sorted(counts.items(), key=lambda pair: -pair[1]):
        kind, _, step = key.partition(" ")
        words = f"{language.gettext(KINDS.get(kind, kind))}, {language.gettext(STEPS.get(step, step))}"
        said.append(f"{language.number(count)}: {words}")
    return said
