"""The question before an act: what will happen to which client, and what else should be known."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType

from infoscreen.domain.clients import Client, Condition
from infoscreen.domain.commands import AT_THE_OUTLET, DISRUPTIVE, Action
from infoscreen.domain.errors import ClientStarting, OutletShared, Refused, TooManyCycles
from infoscreen.words.language import N_, Language
from infoscreen.words.names import ACTION_NOUNS, ACTIONS, EFFECTS
from infoscreen.words.speaking import say

TITLES: Mapping[Action, str] = MappingProxyType(
    {
        Action.RESTART_APP: N_("Restart the app on %(client)s?"),
        Action.REBOOT_HOST: N_("Reboot %(client)s?"),
        Action.SHUTDOWN_HOST: N_("Shut down %(client)s?"),
        Action.SCREENSHOT: N_("Take a screenshot of %(client)s?"),
        Action.DISPLAY_ON: N_("Switch on the display of %(client)s?"),
        Action.DISPLAY_OFF: N_("Switch off the display of %(client)s?"),
        Action.POWER_CYCLE: N_("Power cycle %(client)s?"),
    }
)

OVERRIDABLE = (OutletShared, ClientStarting, TooManyCycles)
"""Refusals of a power cycle that an administrator can override with a reason."""

TYPED = frozenset({Action.SHUTDOWN_HOST, Action.POWER_CYCLE})
"""Commands for which the client's name has to be typed."""

MOST_UNTYPED = 10
"""A bulk act on more clients than this asks for their number to be typed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Everything on a page of confirmation.

    ``listed`` names all clients of a bulk act; ``typed`` is a word that has to be typed to go on.
    """

    title: str
    effect: str
    verb: str
    action: str
    back: str
    hidden: Mapping[str, str] = field(default_factory=dict)
    danger: bool = False
    warnings: list[str] = field(default_factory=list)
    listed: list[str] = field(default_factory=list)
    reason_label: str | None = None
    reason_required: bool = False
    typed: str | None = None
    waits: Mapping[str, str] = field(default_factory=dict)


WAITS: Mapping[str, tuple[timedelta, str]] = MappingProxyType(
    {
        "1d": (timedelta(days=1), N_("for 1 day")),
        "3d": (timedelta(days=3), N_("for 3 days")),
        "7d": (timedelta(days=7), N_("for 7 days")),
    }
)
"""How long commands wait for clients that are away."""


def about_waiting(client: Client, action: Action, back: str | None, language: Language) -> Question:
    """Return the question before a command that waits until its client is heard again."""
    _ = language.gettext
    hidden = {"action": action.value}
    if back is not None:
        hidden["next"] = back
    return Question(
        title=_("When %(client)s is back: %(action)s?")
        % {"client": client.label, "action": _(ACTION_NOUNS[action])},
        effect=_("The command is sent as soon as the client is heard again. Until then it can be withdrawn."),
        verb=_("Run when it comes back"),
        action=f"/clients/{client.uuid}/commands",
        back=back or f"/clients/{client.uuid}",
        hidden=hidden,
        danger=action is Action.SHUTDOWN_HOST,
        reason_label=_("Reason (optional)"),
        typed=client.label if action is Action.SHUTDOWN_HOST else None,
        waits={key: _(words) for key, (_wait, words) in WAITS.items()},
    )


def about_command(
    client: Client,
    action: Action,
    locked_until: datetime | None,
    back: str | None,
    refused: Refused | None,
    language: Language,
) -> Question:
    """Return the question before a command; with a lockout it is the question whether to override it.

    ``refused`` is why a power cycle would be refused now.
    """
    _ = language.gettext
    locked = locked_until is not None and action in DISRUPTIVE
    overriding = locked or isinstance(refused, OVERRIDABLE)
    warnings = _warnings(client, locked_until if locked else None, action, language)
    if refused is not None:
        warnings.append(say(refused.fact, language))
    reason = _("Reason (optional)")
    if overriding:
        reason = (
            _("Reason (needed to override the lockout)") if locked else _("Reason (needed to override this)")
        )
    back = back or f"/clients/{client.uuid}"
    hidden = {"action": action.value, "next": back}
    if overriding:
        hidden["force"] = "yes"
    return Question(
        title=_(TITLES[action]) % {"client": client.label},
        effect=_(EFFECTS[action]),
        verb=_(ACTIONS[action]),
        action=f"/clients/{client.uuid}/commands",
        back=back,
        hidden=hidden,
        danger=action in TYPED or overriding,
        warnings=warnings,
        reason_label=reason,
        reason_required=overriding,
        typed=client.label if action in TYPED else None,
    )


def about_restarts(crashed: Sequence[Client], language: Language) -> Question:
    """Return the question before the app of all these clients is restarted."""
    _ = language.gettext
    count = len(crashed)
    return Question(
        title=language.ngettext(
            "Restart the app on %(num)s client?", "Restart the app on %(num)s clients?", count
        )
        % {"num": language.number(count)},
        effect=_(EFFECTS[Action.RESTART_APP]),
        verb=_(ACTIONS[Action.RESTART_APP]),
        action="/crashed/restart",
        back="/",
        # Those that were listed, and none that has crashed since.
        hidden={"client_uuids": ",".join(client.uuid for client in crashed)},
        listed=[f"{client.label} ({client.site})" if client.site else client.label for client in crashed],
        typed=str(count) if count > MOST_UNTYPED else None,
    )


def about_removal(client: Client, language: Language) -> Question:
    """Return the question before a client is removed."""
    _ = language.gettext
    return removal(
        title=_("Remove %(client)s?") % {"client": client.label},
        effect=_(
            "The client and all its history, commands and screenshots are deleted. If it "
            "still sends messages, it appears again with an empty history."
        ),
        path=f"/clients/{client.uuid}",
        language=language,
        typed=client.label,
    )


def removal(*, title: str, effect: str, path: str, language: Language, typed: str | None = None) -> Question:
    """Return the question before what is shown at ``path`` is removed."""
    return Question(
        title=title,
        effect=effect,
        verb=language.gettext("Remove"),
        action=f"{path}/remove",
        back=path,
        danger=True,
        typed=typed,
    )


def is_typed(client: Client, typed: str) -> bool:
    """Tell whether what was typed is the client's name; upper and lower case do not matter."""
    return typed.strip().casefold() == client.label.strip().casefold()


def _warnings(client: Client, locked_until: datetime | None, action: Action, language: Language) -> list[str]:
    _ = language.gettext
    warnings: list[str] = []
    if locked_until is not None:
        warnings.append(
            _("The lockout protects the client until %(time)s. Overriding it is written to the audit trail.")
            % {"time": language.moment(locked_until)}
        )
    if action in AT_THE_OUTLET:
        return warnings
    match client.status:
        case Condition.UNREACHABLE | Condition.SHUT_DOWN | Condition.OFF_HOURS | Condition.NEVER_SEEN:
            warnings.append(
                _(
                    "The client cannot be reached at the moment. The command waits a few minutes and "
                    "then expires; it never runs hours later."
                )
            )
        case Condition.DUPLICATE:
            warnings.append(
                _("Two clients use this identity: either of them may carry out the command, or both.")
            )
        case Condition.HUNG | Condition.INCOMPREHENSIBLE:
            warnings.append(_("The client is not responding; it may not carry out the command."))
        case (
            Condition.ONLINE
            | Condition.CRASHED
            | Condition.NOT_SHOWING
            | Condition.SERVICE_FAILED
            | Condition.MAINTENANCE
        ):
            pass
    return warnings
