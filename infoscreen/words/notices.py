"""What notifications say besides what the words of recovery and alerts say."""

from collections.abc import Mapping
from types import MappingProxyType

from infoscreen.domain.notifying import NoticeStep
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
