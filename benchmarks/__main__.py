"""Runs benchmarks, prints the table, and writes ``benchmarks/results.json`` if they were run in full."""

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

from benchmarks import bulk, command, ingest, lag, memory, pages, recovery, start, viewers
from benchmarks.figures import Figure, NotMeasured, table, unmeasured
from benchmarks.sizes import FULL, QUICK, Sizes

RESULTS = Path(__file__).with_name("results.json")
HOUR = 3_600.0

Benchmark = Callable[[Sizes], Awaitable[list[Figure]]]

BENCHMARKS: Mapping[str, Benchmark] = {
    "ingest": ingest.measure,
    "bulk": bulk.measure,
    "command": command.measure,
    "pages": pages.measure,
    "recovery": recovery.measure,
    "lag": lag.measure,
    "memory": memory.measure,
    "start": start.measure,
    "viewers": viewers.measure,
}


async def run(benchmarks: Mapping[str, Benchmark], sizes: Sizes) -> dict[str, Any]:
    """Measure and print; return what belongs into the results, by benchmark."""
    results: dict[str, Any] = {}
    everything: list[Figure] = []
    for name, measure in benchmarks.items():
        begun, load = datetime.now(UTC), os.getloadavg()[0]
        _say(f"{name} ...")
        try:
            figures = await measure(sizes)
        except (NotMeasured, aiohttp.ClientError, OSError) as error:
            # The daemon or the broker has ended, or does not answer any more: a finding, not a figure.
            figures = [unmeasured(name, str(error) or type(error).__name__)]
        everything += figures
        results[name] = {
            "at": begun.isoformat(timespec="seconds"),
            "load_before": round(load, 2),
            "figures": [figure.as_json() for figure in figures],
        }
    _say("", table(everything))
    return results


def save(results: Mapping[str, Any], path: Path) -> None:
    """Put results in the place of older ones of the same benchmarks."""
    kept = json.loads(path.read_text(encoding="utf-8"))["benchmarks"] if path.exists() else {}
    merged = {name: results.get(name, kept.get(name)) for name in BENCHMARKS}
    about = {"python": platform.python_version(), "sqlite": sqlite3.sqlite_version, "cores": os.cpu_count()}
    shown = {
        "about": about,
        "benchmarks": {name: result for name, result in merged.items() if result is not None},
    }
    path.write_text(json.dumps(shown, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(BENCHMARKS)}; all")
    parser.add_argument("--quick", action="store_true", help="smaller sizes; nothing is written")
    parser.add_argument("--hour", action="store_true", help="watch the memory for an hour, not for a minute")
    given = parser.parse_args()
    unknown = sorted(set(given.names) - BENCHMARKS.keys())
    if unknown:
        parser.error(f"no such benchmark: {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    sizes = QUICK if given.quick else FULL
    if given.hour:
        sizes = replace(sizes, traffic_seconds=HOUR)
    # Ended by whoever started it, it takes its daemons and brokers down like after Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    chosen = {name: BENCHMARKS[name] for name in given.names or BENCHMARKS}
    results = uvloop.run(run(chosen, sizes))
    if not given.quick:
        save(results, RESULTS)


def _say(*lines: str) -> None:
    print(*lines, sep="\n", flush=True)  # noqa: T201 - this is a program for people


if __name__ == "__main__":
    main()
