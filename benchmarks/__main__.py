"""Runs benchmarks and prints the table; in full, writes ``results.json`` and ``docs/performance.md`` too.

A figure is the median of three runs at different times: all benchmarks are run in turn, then all once more.
"""

import argparse
import json
import os
import platform
import signal
import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import uvloop

from benchmarks import (
    bulk,
    command,
    flood,
    ingest,
    judge,
    lag,
    memory,
    mix,
    pages,
    readers,
    recovery,
    start,
    viewers,
)
from benchmarks.document import rewritten
from benchmarks.figures import ENOUGH_RUNS, Figure, NotMeasured, summed_up, table, unmeasured
from benchmarks.sizes import FULL, QUICK, Sizes
from infoscreen.app import freeze_startup_objects

RESULTS = Path(__file__).with_name("results.json")
DOCUMENT = RESULTS.parent.with_name("docs") / "performance.md"
HOUR = 3_600.0

Benchmark = Callable[[Sizes], Awaitable[list[Figure]]]

BENCHMARKS: Mapping[str, Benchmark] = {
    "ingest": ingest.measure,
    "mix": mix.measure,
    "flood": flood.measure,
    "bulk": bulk.measure,
    "command": command.measure,
    "pages": pages.measure,
    "recovery": recovery.measure,
    "judge": judge.measure,
    "lag": lag.measure,
    "memory": memory.measure,
    "start": start.measure,
    "viewers": viewers.measure,
    "readers": readers.measure,
}


async def run(name: str, measure: Benchmark, sizes: Sizes) -> list[Figure]:
    """Return the figures of a benchmark; those of one that failed say so."""
    try:
        return await measure(sizes)
    except (NotMeasured, aiohttp.ClientError, OSError) as error:
        # The daemon or the broker has ended, or does not answer any more: a finding, not a figure.
        return [unmeasured(name, str(error) or type(error).__name__)]


def save(name: str, record: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
    """Add a run of a benchmark to its results, let go of all but the newest three, and return everything."""
    known = json.loads(path.read_text(encoding="utf-8"))["benchmarks"] if path.exists() else {}
    runs = [*known.get(name, {"runs": []})["runs"], record]
    known[name] = {"runs": runs[-ENOUGH_RUNS:]}
    about = {"python": platform.python_version(), "sqlite": sqlite3.sqlite_version, "cores": os.cpu_count()}
    results = {"about": about, "benchmarks": {one: known[one] for one in BENCHMARKS if one in known}}
    path.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return results


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(BENCHMARKS)}; all")
    parser.add_argument("--quick", action="store_true", help="smaller sizes; nothing is written")
    parser.add_argument(
        "--runs",
        type=int,
        default=1,
        metavar="N",
        help="run all that was named so often, in turn; 3 for figures",
    )
    parser.add_argument("--hour", action="store_true", help="watch the memory for an hour")
    given = parser.parse_args()
    unknown = sorted(set(given.names) - BENCHMARKS.keys())
    if unknown:
        parser.error(f"no such benchmark: {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    sizes = QUICK if given.quick else FULL
    if given.hour:
        sizes = replace(sizes, traffic_seconds=HOUR)
    stopped = False

    def stop(_number: int, _frame: object) -> None:
        nonlocal stopped
        stopped = True
        raise KeyboardInterrupt

    # Both stop its daemons and brokers; what is measured then is no run.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    # The garbage collector runs as in the daemon, also for what is measured in this process.
    freeze_startup_objects()
    everything: dict[str, list[list[Figure]]] = {}
    for name in list(given.names or BENCHMARKS) * given.runs:
        _say(f"{name} ...")
        begun, load = datetime.now(UTC), os.getloadavg()[0]
        figures = uvloop.run(run(name, BENCHMARKS[name], sizes))
        if stopped:
            raise SystemExit(130)
        everything.setdefault(name, []).append(figures)
        if not given.quick:
            record = {
                "at": begun.isoformat(timespec="seconds"),
                "load_before": round(load, 1),
                "figures": [figure.as_json() for figure in figures],
            }
            results = save(name, record, RESULTS)
            text = rewritten(DOCUMENT.read_text(encoding="utf-8"), results, list(BENCHMARKS))
            DOCUMENT.write_text(text, encoding="utf-8")
    _say("", table([one for runs in everything.values() for one in summed_up(runs)]))


def _say(*lines: str) -> None:
    print(*lines, sep="\n", flush=True)  # noqa: T201 - this is a program for people


if __name__ == "__main__":
    main()
