"""Fields at fault as pages show them: each by its label, with a sentence in the reader's language."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from infoscreen.domain.faults import FieldError, FieldFault
from infoscreen.words.language import N_, Language
from infoscreen.words.speaking import field_error

LABELS: Mapping[str, str] = MappingProxyType(
    {
        "action": N_("Command"),
        "again": N_("Repeat the new password"),
        "auto_recovery": N_("Automatic recovery"),
        "client_uuids": N_("Clients"),
        "comment": N_("Comment"),
        "current": N_("Current password"),
        "contact": N_("Contact"),
        "country": N_("Country"),
        "cursor": N_("Page"),
        "description": N_("Description"),
        "channels": N_("Channels"),
        "delay": N_("Wait before the first message"),
        "escalate_after": N_("After so many minutes"),
        "escalate_after_seconds": N_("After so many minutes"),
        "escalate_to": N_("Escalation"),
        "hours": N_("Hours"),
        "kind": N_("Kind"),
        "kinds": N_("Kinds"),
        "reminder": N_("Remind every"),
        "secret": N_("Secret"),
        "sites": N_("Sites"),
        "step": N_("Message"),
        "time_zone": N_("Time zone"),
        "url": N_("Address"),
        "failed_at": N_("Time of the failure"),
        "first": N_("Page"),
        "language": N_("Language"),
        "lasts": N_("Duration"),
        "maintenance_until": N_("Maintenance until"),
        "name": N_("Name"),
        "new": N_("New password"),
        "password": N_("Password"),
        "phone": N_("Phone"),
        "runbook": N_("Runbook"),
        "q": N_("Search"),
        "reason": N_("Reason"),
        "show": N_("Selection"),
        "site": N_("Site"),
        "sort": N_("Order"),
        "status": N_("Status"),
        "tag": N_("Tag"),
        "tags": N_("Tags"),
        "typed": N_("Confirmation"),
        "unit": N_("Service"),
        "until": N_("End"),
        "username": N_("User name"),
    }
)
"""As the forms label them; what has no label is shown by its name."""


NO_SUCH_CHOICE = N_("There is no such choice.")
"""Instead of listing what programs may send."""


class ShownFault(NamedTuple):
    """The label of a field, and what is wrong with it."""

    label: str
    sentence: str


def faults_of(errors: Sequence[FieldError], language: Language) -> list[ShownFault]:
    """Return the faults for a page."""
    return [
        ShownFault(
            language.gettext(LABELS[error.field]) if error.field in LABELS else error.field,
            language.gettext(NO_SUCH_CHOICE)
            if error.fault.code is FieldFault.NOT_ONE_OF
            else field_error(error, language),
        )
        for error in errors
    ]
