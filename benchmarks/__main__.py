"""Runs every benchmark, prints the table and writes ``benchmarks/results.json``."""

import json
import os
import platform
import sqlite3
from dataclasses import asdict
from pathlib import Path

import uvloop

from benchmarks import ingest
from benchmarks.figures import table

RESULTS = Path(__file__).with_name("results.json")


async def run() -> None:
    """Measure, print and save."""
    figures = await ingest.measure()
    print(table(figures))  # noqa: T201 - this is a program for people
    about = {"python": platform.python_version(), "sqlite": sqlite3.sqlite_version, "cores": os.cpu_count()}
    results = {
        "about": about,
        "figures": [asdict(figure) | {"reached": figure.reached} for figure in figures],
    }
    RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    uvloop.run(run())
