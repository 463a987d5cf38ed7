"""What comes out: one decision with its reason for every patient; the caller stores and carries it out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from infoscreen.domain.recovery.incidents import Blindness, Incident
from infoscreen.domain.recovery.ladder import Ladder, Outcome
from infoscreen.domain.recovery.policy import Rung
from infoscreen.domain.recovery.reasons import ENDINGS, Arguments, Ending, Reason

ACTS: Mapping[Rung, Reason] = {
    Rung.RESTART_APP: Reason.ACT_RESTART_APP,
    Rung.REBOOT_HOST: Reason.ACT_REBOOT_HOST,
    Rung.POWER_CYCLE: Reason.ACT_POWER_CYCLE,
}


class Verb(StrEnum):
    """What a decision comes down to."""

    ACT = "act"
    WAIT = "wait"
    """The recovery is under way and goes on by itself."""
    HOLD = "hold"
    """Something speaks against acting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """What was decided about one client, and why, as plain values that can be stored and said.

    ``rung`` is the one acted or stood on, None when the ladder is at rest; ``attempt`` is the number of the
    attempt at it (1 for the first). ``until`` is when it ends at the latest, None when that is not a matter
    of time (see ``ending``). ``would`` marks a dry run.
    """

    client_uuid: str
    verb: Verb
    reason: Reason
    arguments: Arguments
    rung: Rung | None = None
    attempt: int | None = None
    until: datetime | None = None
    would: bool = False

    @property
    def action(self) -> str | None:
        """Return the name of the action to carry out, None when nothing is to be done."""
        return self.rung.action if self.verb is Verb.ACT and self.rung is not None else None

    @property
    def ending(self) -> Ending:
        """Return what ends it."""
        return ENDINGS[self.reason]


class Verdict(NamedTuple):
    """A decision without its client; those that are the same for many clients are one object."""

    verb: Verb
    reason: Reason
    until: datetime | None = None
    arguments: Arguments = {}  # noqa: RUF012 - never changed
    rung: Rung | None = None
    attempt: int | None = None
    incident: str | None = None


class Decision(NamedTuple):
    """What was decided about one client. ``ladder`` is what to store, None for one at rest."""

    client_uuid: str
    verdict: Verdict
    ladder: Ladder | None

    @property
    def verb(self) -> Verb:
        """Return what it comes down to."""
        return self.verdict.verb

    @property
    def reason(self) -> Reason:
        """Return why."""
        return self.verdict.reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What was decided: one decision per patient, in their order, and what follows.

    ``incidents`` are those that were open or have begun, as they are now; ``joined`` the clients that have
    come to each. ``outcomes`` are attempts that have ended, or ended otherwise than thought, by command.
    ``silences`` is how many clients have fallen silent by chance since the last poll.
    """

    decisions: Sequence[Decision]
    incidents: Sequence[Incident]
    joined: Mapping[str, Sequence[str]]
    outcomes: Mapping[str, Outcome]
    silences: int
    blind: Blindness | None
    next_at: datetime
