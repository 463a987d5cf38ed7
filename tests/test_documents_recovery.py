"""docs/recovery.md says what the code says: every reason, the ladder's diagram, and the results."""

import re
from pathlib import Path

import pytest

from benchmarks.scenarios import CLIENTS, line
from infoscreen.domain.recovery import Reason
from infoscreen.domain.recovery.ladder import TRANSITIONS
from infoscreen.domain.recovery.reasons import WORDS
from infoscreen.simulator.scenarios import names
from infoscreen.simulator.scenarios.scenario import Kind

DOCUMENT = Path(__file__).parents[1] / "docs" / "recovery.md"


def text() -> str:
    return DOCUMENT.read_text(encoding="utf-8")


def between(begin: str, end: str) -> str:
    found = re.search(f"<!-- {begin} -->\n(.*?)\n<!-- {end} -->", text(), re.DOTALL)
    assert found is not None
    return found[1]


def reasons_table() -> str:
    rows = [
        f"| `{reason}` | {WORDS[reason].ending} | {WORDS[reason].english}<br>*{WORDS[reason].german}* |"
        for reason in Reason
    ]
    return "\n".join(["| code | ends by | sentence |", "|---|---|---|", *rows])


def test_every_reason_is_documented_with_its_sentences() -> None:
    assert between("reasons", "end of reasons") == reasons_table()


def test_the_diagram_of_the_ladder_is_the_table() -> None:
    steps = [
        f"    {before} --> {after}: {step}"
        for before, row in TRANSITIONS.items()
        for step, after in row.items()
    ]
    found = re.search(r"```mermaid\n(.*?)\n```", text(), re.DOTALL)
    assert found is not None
    assert found[1] == "\n".join(["stateDiagram-v2", "    [*] --> rest", *steps])


def test_every_scenario_has_its_results_and_every_event_its_line() -> None:
    results = between("results", "end of results")
    assert re.findall(r"^\| `([\w-]+)` \|", results, re.MULTILINE) == names()
    assert f"{CLIENTS:,} clients" in text()
    for kind in Kind:
        assert f"| `{kind}` |" in text()


@pytest.mark.parametrize("name", ["single-crash", "hang", "service-failed", "dead-host", "skewed-clocks"])
def test_the_results_are_those_of_this_code(name: str) -> None:
    assert line(name) in between("results", "end of results").splitlines()
