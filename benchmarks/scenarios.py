"""Plays families of situations against the judge, and makes the table of docs/recovery.md.

``python -m benchmarks.scenarios`` plays every family with several seeds, the recovery and the naive policy.
With names of families it plays those. ``--write`` puts the lines into the document, in place of those that it
has of the same families. ``--record DIR`` keeps the lines of worlds that failed.
"""

import argparse
import asyncio
import json
import re
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.families import FAMILIES, Case, make
from infoscreen.judge.lines import Line
from infoscreen.judge.playing import Decider, play

DOCUMENT = Path(__file__).parents[1] / "docs" / "recovery.md"
HEADINGS = (
    "family",
    "worlds kept",
    "clients",
    "cured, of those a command can cure",
    "later than best possible, median / most",
    "actions (naive)",
    "needless (naive)",
    "alarms",
)


def run(
    case: Case, mode: Decider = Decider.RECOVERY, record: Callable[[Line], object] | None = None
) -> list[str]:
    """Play a case and return what was not kept."""
    asyncio.run(play(case.world, case.lasts, mode=mode, settings=case.settings, record=record))
    return case.failures()


def line(family: str, seeds: Sequence[int], size: int, *, naive: bool, record: Path | None) -> str:
    """Play the worlds of a family and return its line of the table; failures go to standard error."""
    kept, actions, needless, alarms, cured, curable = 0, 0, 0, 0, 0, 0
    naively: list[tuple[int, int]] = []
    late: list[float] = []
    for seed in seeds:
        case = make(family, seed, size)
        lines: list[Line] = []
        failures = run(case, record=None if record is None else lines.append)
        for failure in failures:
            sys.stderr.write(f"{family} seed {seed} size {size}: {failure}\n")
        sys.stderr.flush()
        if failures and record is not None:
            (record / f"{family}-{seed}-{size}.jsonl").write_text(
                "".join(json.dumps(one) + "\n" for one in lines), encoding="utf-8"
            )
        score = case.world.score
        kept += not failures
        actions += len(score.acts)
        needless += sum(act.needless is not None for act in score.acts)
        alarms += case.alarms()
        curable += len(score.recoverable())
        cured += sum(fault.healed is not None for _, fault in score.recoverable())
        late += [fault.late for _, fault in score.recoverable() if fault.acted and fault.cause is None]
        if naive:
            other = make(family, seed, size)
            run(other, Decider.NAIVE)
            acts = other.world.score.acts
            naively.append((len(acts), sum(act.needless is not None for act in acts)))
    times = f"{statistics.median(late):.0f} s / {max(late):.0f} s" if late else "-"
    cells = [
        f"`{family}`",
        f"{kept} of {len(seeds)}",
        str(size),
        f"{cured} of {curable}" if curable else "-",
        times,
        f"{actions} ({sum(one for one, _ in naively)})" if naive else str(actions),
        f"{needless} ({sum(one for _, one in naively)})" if naive else str(needless),
        str(alarms),
    ]
    return f"| {' | '.join(cells)} |"


def main(arguments: Sequence[str]) -> int:
    """Play, print, and write the document when everything was played."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("families", nargs="*", choices=[[], *FAMILIES])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--size", type=int, default=300)
    parser.add_argument("--no-naive", action="store_true")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--record", type=Path)
    given = parser.parse_args(arguments)
    seeds = range(given.first_seed, given.first_seed + given.seeds)
    if given.record is not None:
        given.record.mkdir(parents=True, exist_ok=True)
    for family in given.families or FAMILIES:
        played = line(family, seeds, given.size, naive=not given.no_naive, record=given.record)
        sys.stdout.write(played + "\n")
        sys.stdout.flush()
        if given.write:
            write(family, played)
    return 0


def write(family: str, played: str) -> None:
    """Put the line of a family into the document's table; lines of families that are no more are left out."""
    text = DOCUMENT.read_text(encoding="utf-8")
    begin, end = "<!-- results -->\n", "<!-- end of results -->"
    before, rest = text.split(begin)
    table, after = rest.split(end)
    known = {name: row for row in table.splitlines() if (name := _family(row)) is not None} | {family: played}
    rows = [f"| {' | '.join(HEADINGS)} |", f"|{'---|' * len(HEADINGS)}"]
    rows += [known[name] for name in FAMILIES if name in known]
    DOCUMENT.write_text(before + begin + "\n".join(rows) + "\n" + end + after, encoding="utf-8")


def _family(row: str) -> str | None:
    found = re.match(r"\| `([a-z-]+)` \|", row)
    return None if found is None else found[1]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
