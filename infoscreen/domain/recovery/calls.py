"""When a person would be called for several clients at once: one alarm for what has one cause."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from infoscreen.domain.recovery.book import IncidentBook, held_by
from infoscreen.domain.recovery.cases import Case
from infoscreen.domain.recovery.coincidence import LEAST, RATE_UNLEARNED, rarely_within
from infoscreen.domain.recovery.incidents import LEFT_LEAST, OUTAGES, Incident, IncidentKind
from infoscreen.domain.recovery.ladder import Phase, Trouble
from infoscreen.domain.recovery.plan import Verb, Verdict
from infoscreen.domain.recovery.policy import RecoveryPolicy, Rung
from infoscreen.domain.recovery.reasons import Reason
from infoscreen.domain.recovery.silence import causes_of_calls, dark_of
from infoscreen.domain.recovery.snapshot import Snapshot
from infoscreen.domain.recovery.waves import first_of, refused_key, refusing, was_dismissed

Verdicts = list[Verdict | None]
"""By the number of the case; None where something may be done."""


def find_left_behind(book: IncidentBook, cases: Sequence[Case], verdicts: Verdicts) -> None:
    """Make one alarm of those whom an outage has left and only a person can help."""
    left: defaultdict[str, list[int]] = defaultdict(list)
    called: set[str] = set()
    under_way = book.open(*OUTAGES, IncidentKind.ALIKE)
    for number, verdict in enumerate(verdicts):
        case = cases[number]
        if verdict is None or not case.silent or case.ladder is None or case.ladder.incident is None:
            continue
        if case.ladder.incident in under_way or case.ladder.phase is Phase.GONE:
            continue
        outage = _outage_of(case.ladder.incident)
        if verdict.rung is Rung.HUMAN:
            called.add(outage)
            left[outage].append(number)
        elif case.trouble is Trouble.UNREACHABLE:
            left[outage].append(number)
    open_ones = book.open(IncidentKind.LEFT_BEHIND)
    for outage, numbers in left.items():
        if outage not in called:
            continue
        own = next((key for key in open_ones if key.endswith(f"/{outage}")), None)
        if own is None:
            if len(numbers) < LEFT_LEAST:
                continue
            # With the time: an outage may leave clients behind once more after this incident has ended.
            own = f"{_LEFT}{book.now.timestamp():.0f}/{outage}"
            book.incidents[own] = Incident(key=own, kind=IncidentKind.LEFT_BEHIND, began_at=book.now)
        fresh = [one for one in map(cases.__getitem__, numbers) if one.ladder and one.ladder.incident != own]
        known = book.incidents[own]
        if fresh:
            book.incidents[own] = known = replace(known, members=known.members + len(fresh))
            book.join(own, fresh)
        # Nobody is called for singly: the incident does that.
        arguments = {"silent": known.members}
        verdict = Verdict(Verb.HOLD, Reason.LEFT_BEHIND, None, arguments, incident=own)
        for number in numbers:
            verdicts[number] = verdict


_LEFT = f"{IncidentKind.LEFT_BEHIND}/"


def _outage_of(incident: str) -> str:
    """Return the key of the outage, also from that of an incident about those whom it has left."""
    while incident.startswith(_LEFT):
        incident = incident.removeprefix(_LEFT)
        number, _, rest = incident.partition("/")
        incident = rest if number.isdecimal() else incident
    return incident


def find_cut_off(
    book: IncidentBook,
    cases: Sequence[Case],
    verdicts: Verdicts,
    snapshot: Snapshot,
    policy: RecoveryPolicy,
) -> None:
    """Make one alarm of the unreachable that somebody would be called for, and that are no chance."""
    calls = {
        cases[number].patient.uuid
        for number, verdict in enumerate(verdicts)
        if verdict is not None and verdict.rung is Rung.HUMAN and _is_single(cases[number])
    }
    if not calls:
        return
    single = {case.patient.uuid: number for number, case in enumerate(cases) if _is_single(case)}
    outages = book.open(*OUTAGES)
    known = [one for one in cases if one.silent and one.ladder and one.ladder.incident in outages]
    dark = [dark_of(case, policy) for case in (*known, *map(cases.__getitem__, single.values()))]
    populations, rate = snapshot.populations, snapshot.silences
    for cause in causes_of_calls(dark, calls, outages, populations, rate, book.now):
        book.incidents[cause.incident.key] = cause.incident
        numbers = [single[uuid] for uuid in cause.joined]
        book.join(cause.incident.key, [cases[number] for number in numbers])
        for number in numbers:
            verdicts[number] = held_by(cause.incident)


def _is_single(case: Case) -> bool:
    """Tell whether nobody has been called for an unreachable client yet, and no incident holds it."""
    ladder = case.ladder
    return (
        case.trouble is Trouble.UNREACHABLE
        and ladder is not None
        and ladder.phase is Phase.CLIMBING
        and ladder.incident is None
        and not case.explained
        and not case.off
        and not case.missed
    )


def find_more_alike(book: IncidentBook, cases: Sequence[Case], verdicts: Verdicts, fleet: int) -> None:
    """Let those join a group that have its trouble, a little earlier or later, and are not helped either.

    They were tried like any other; now somebody would be called for them, who is called for the group.
    """
    groups = book.open(IncidentKind.ALIKE)
    if not groups:
        return
    called = [
        case
        for case, verdict in zip(cases, verdicts, strict=True)
        if verdict is not None
        and verdict.rung is Rung.HUMAN
        and verdict.reason not in {Reason.REFUSED, Reason.UNANSWERED}
        and not case.silent
        and case.ladder is not None
        and case.ladder.incident is None
        and case.ladder.phase is Phase.CLIMBING
    ]
    if not called:
        return
    members: defaultdict[str, list[tuple[float, str]]] = defaultdict(list)
    for case in cases:
        if case.ladder is not None and (known := groups.get(case.ladder.incident or "")) is not None:
            members[known.trouble or ""].append((first_of(case), known.key))
    for some in members.values():
        some.sort()
    reach = rarely_within(fleet, RATE_UNLEARNED)
    for case in called:
        first, some = first_of(case), members[case.trouble or ""]
        position = bisect_left(some, (first, ""))
        near = [(abs(at - first), key) for at, key in some[max(0, position - 1) : position + 1]]
        if near and min(near)[0] <= reach:
            key = min(near)[1]
            book.incidents[key] = replace(book.incidents[key], members=book.incidents[key].members + 1)
            book.join(key, [case])


def find_refusing(book: IncidentBook, cases: Sequence[Case], verdicts: Verdicts) -> None:
    """Make one incident of those that refuse with the same code, however far apart in time."""
    of_code: defaultdict[str, list[int]] = defaultdict(list)
    groups = book.open(IncidentKind.ALIKE)
    for number, verdict in enumerate(verdicts):
        ladder = cases[number].ladder
        if verdict is None or verdict.reason is not Reason.REFUSED or verdict.rung is not Rung.HUMAN:
            continue
        if ladder is None or ladder.incident in groups or was_dismissed(cases[number], groups):
            continue
        of_code[str(verdict.arguments["code"])].append(number)
    for code, numbers in of_code.items():
        key = next((one for one in groups if one.startswith(refused_key(code))), None)
        some = [cases[number] for number in numbers]
        if key is None and len(some) < LEAST:
            continue
        known = book.incidents[key] if key is not None else refusing(code, some, book.now)
        book.incidents[known.key] = replace(known, members=known.members + len(some))
        book.join(known.key, some)
