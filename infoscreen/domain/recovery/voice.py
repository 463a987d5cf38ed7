"""Whether our commands arrive at all: what follows when clients are heard and none of them answers."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from infoscreen.domain.recovery.cases import Case
from infoscreen.domain.recovery.checks import Proposal
from infoscreen.domain.recovery.incidents import Sent
from infoscreen.domain.recovery.ladder import Outcome

UNANSWERED_CLIENTS = 5
DOUBTED_CLIENTS = 2
ANSWER_WITHIN = timedelta(seconds=30)
DOUBTED_AGAIN = timedelta(minutes=15)
"""While in doubt, a client that has not answered is asked again no sooner."""

UNDELIVERED_BEFORE = timedelta(hours=1)
"""Commands sent so long before it was known that none arrives did not arrive either."""

MOST_FRESH = 3
PROBE_SOON, PROBE_RARELY = timedelta(minutes=5), timedelta(hours=1)


def unanswered_in_a_row(sent: Iterable[Sent], now: datetime) -> int:
    """Return how many clients that are heard have not answered since the last answer of any client.

    From ``DOUBTED_CLIENTS`` on it is doubtful, and from ``UNANSWERED_CLIENTS`` on taken for certain, that our
    commands do not arrive.
    """
    silent: set[str] = set()
    for one in sorted(sent, key=lambda one: one.published_at, reverse=True):
        if one.answered:
            break
        if one.published_at <= now - ANSWER_WITHIN:
            silent.add(one.client_uuid)
    return len(silent)


def undelivered(cases: Iterable[Case], since: datetime) -> dict[str, Outcome]:
    """Return the attempts from ``since`` on that nobody answered, which was no fault of the clients."""
    return {
        one.command_id: Outcome.UNDELIVERED
        for case in cases
        for one in case.patient.attempts
        if one.outcome is Outcome.UNANSWERED and one.decided_at >= since
    }


def asked_too_soon(case: Case, now: datetime) -> datetime | None:
    """Return until when a client that has not answered waits while in doubt, None if it need not."""
    last = case.patient.attempts[-1] if case.patient.attempts else None
    if last is None or last.outcome is not Outcome.UNANSWERED or now >= last.decided_at + DOUBTED_AGAIN:
        return None
    return last.decided_at + DOUBTED_AGAIN


def probes(
    cases: Sequence[Case],
    proposals: Mapping[int, Proposal],
    sent: Iterable[Sent],
    began_at: datetime,
    now: datetime,
) -> set[int]:
    """Return the numbers of the cases that are tried although commands do not arrive.

    Those in trouble since the last command are asked, a few of them: they are new evidence. Of the others one
    is asked at a time, at first after minutes, then ever more rarely.
    """
    tried = (case.patient.attempts[-1].decided_at for case in cases if case.patient.attempts)
    last = max((began_at, *tried, *(one.published_at for one in sent)))
    # Those that were asked least first: one device alone may have a reason of its own.
    order = sorted(proposals, key=lambda number: (len(cases[number].patient.attempts), cases[number].since))
    fresh = [n for n in order if cases[n].since >= last and not cases[n].patient.attempts]
    if fresh or now < last + min(max(last - began_at, PROBE_SOON), PROBE_RARELY):
        return set(fresh[:MOST_FRESH])
    return set(order[:1])
