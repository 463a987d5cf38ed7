"""The table of docs/recovery.md: every shipped scenario, the recovery beside the naive policy.

``python -m benchmarks.scenarios`` plays them all and writes the table into the document; with names, it plays
those and only prints. Virtual time and seeded chance: the figures are the same on every machine.
"""

import re
import sys
from pathlib import Path

from infoscreen.simulator.scenarios import load, names
from infoscreen.simulator.virtual import Figures, Mode, play
from infoscreen.simulator.virtual.figures import in_seconds, percentile

DOCUMENT = Path(__file__).parents[1] / "docs" / "recovery.md"
CLIENTS = 1_000
HEADINGS = (
    "scenario",
    "recovered",
    "time to recovery, median / 99 %",
    "best possible, median",
    "later than best, 99 %",
    "actions",
    "needless",
    "on healthy",
    "in outages",
    "without reason",
)


def row(recovery: Figures, naive: Figures) -> str:
    """Return one line of the table; what the naive policy does stands in brackets."""
    times = f"{in_seconds(percentile(recovery.times, 50))} / {in_seconds(percentile(recovery.times, 99))}"
    cells = [
        f"`{recovery.scenario}`",
        f"{_recovered(recovery)} ({_recovered(naive)})",
        times if recovery.times else "-",
        in_seconds(percentile(recovery.best, 50)),
        in_seconds(percentile(recovery.late, 99)),
        f"{recovery.disruptive} ({naive.disruptive})",
        f"{recovery.needless} ({naive.needless})",
        f"{recovery.healthy} ({naive.healthy})",
        f"{recovery.in_outages} ({naive.in_outages})",
        str(recovery.without_reason),
    ]
    return f"| {' | '.join(cells)} |"


def _recovered(figures: Figures) -> str:
    return f"{figures.recovered}/{figures.recoverable}" if figures.recoverable else "-"


def line(name: str) -> str:
    """Play one scenario with both policies and return its line of the table."""
    scenario = load(name)
    recovery, naive = (play(scenario, clients=CLIENTS, mode=mode) for mode in (Mode.RECOVERY, Mode.NAIVE))
    return row(recovery, naive)


def main(wanted: list[str]) -> None:
    """Play, print, and write the document when everything was played."""
    lines = [f"| {' | '.join(HEADINGS)} |", f"|{'---|' * len(HEADINGS)}"]
    for name in wanted or names():
        lines.append(line(name))
        sys.stdout.write(lines[-1] + "\n")
        sys.stdout.flush()
    if not wanted:
        text = DOCUMENT.read_text(encoding="utf-8")
        table = "\n".join(lines)
        text = re.sub(
            r"(<!-- results -->\n).*?(<!-- end of results -->)",
            lambda found: f"{found[1]}{table}\n{found[2]}",
            text,
            flags=re.DOTALL,
        )
        DOCUMENT.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
