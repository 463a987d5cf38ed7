"""What comes out: one decision with its reason for every patient; the caller stores and carries it out."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from infoscreen.domain.recovery.ladder import Ladder
from infoscreen.domain.recovery.outage import Blindness, Incident
from infoscreen.domain.recovery.policy import Rung
from infoscreen.domain.recovery.reasons import WORDS, Arguments, Ending, Reason, sentence


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
        return WORDS[self.reason].ending

    def sentence(self, language: str) -> str:
        """Return why, as a sentence in ``de`` or ``en``."""
        return sentence(self.reason, self.arguments, language, would=self.would)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision(Decided):
    """A decision fresh from the rules. ``ladder`` is what to store, None for one at rest.

    An ``ACT`` is to be written as an ``Attempt`` in the same transaction, before it is carried out; in a dry
    run as published at once, since nobody will publish it.
    """

    ladder: Ladder | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How many recoveries are in flight and may be; ``started`` are those that this plan adds."""

    in_flight: int
    started: int
    concurrent: int
    per_poll: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What was decided: one decision per patient, in their order, and the incidents as they are now.

    Incidents that have just ended are among them. ``next_at`` is when time alone can change something; the
    next poll at the latest.
    """

    decisions: tuple[Decision, ...]
    incidents: tuple[Incident, ...]
    budget: Budget
    blind: Blindness | None
    next_at: datetime
