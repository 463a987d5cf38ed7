"""Documents that are generated, or name things of the code or each other, are up to date."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from infoscreen.domain.commands import TRANSITIONS

ROOT = Path(__file__).parents[1]

NOT_OURS = {
    ".git",
    ".venv",
    ".cache",
    ".hypothesis",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    "build",
    "dist",
}
"""Folders with files of tools, such as other people's Markdown."""


def documents() -> list[Path]:
    """Return all Markdown files of the repository."""
    folders = [path for path in ROOT.iterdir() if path.is_dir() and path.name not in NOT_OURS]
    deeper = [path for folder in folders for path in folder.rglob("*.md") if "node_modules" not in path.parts]
    return sorted([*ROOT.glob("*.md"), *deeper])


def prose(document: Path) -> str:
    """Return the text without its fenced blocks, in which brackets mean something else."""
    return re.sub(r"^```.*?^```$", "", document.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def anchors(document: Path) -> set[str]:
    """Return what a link may name in a document: its headings, as forges spell them."""
    headings = re.findall(r"^#+ (.+)$", prose(document), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


def broken_links(document: Path) -> Iterator[str]:
    """Yield each relative link that leads nowhere, with the document it is in."""
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(document)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (document.parent / path).resolve() if path else document
        if not there.exists() or (anchor and anchor not in anchors(there)):
            yield f"{document.name}: {target}"


def diagram() -> str:
    """Return the state machine as a mermaid diagram, from the table that the code looks up."""
    steps = [
        f"    {before} --> {after}: {step}"
        for before, row in TRANSITIONS.items()
        for step, after in row.items()
    ]
    ends = [f"    {status} --> [*]" for status, row in TRANSITIONS.items() if not row]
    return "\n".join(["stateDiagram-v2", "    [*] --> queued", "    [*] --> blocked_safety", *steps, *ends])


def test_the_diagram_of_the_life_cycle_is_the_table() -> None:
    text = (ROOT / "docs" / "lifecycle.md").read_text(encoding="utf-8")
    found = re.search(r"```mermaid\n(.*?)\n```", text, re.DOTALL)
    assert found is not None
    assert found[1] == diagram()


def test_every_link_between_documents_leads_somewhere() -> None:
    found = documents()
    assert {"README.md", "copilot-instructions.md", "ingest.md", "lifecycle.md"} <= {
        one.name for one in found
    }
    assert [link for document in found for link in broken_links(document)] == []


@pytest.mark.parametrize(
    "target", ["nothing.md", "#nothing", "other.md#nothing", "../nothing/", "img/nothing.png"]
)
def test_a_link_that_leads_nowhere_is_found(tmp_path: Path, target: str) -> None:
    (tmp_path / "other.md").write_text("# A heading, or two\n", encoding="utf-8")
    page = tmp_path / "page.md"
    page.write_text(
        "# Page\n[a](other.md) [b](other.md#a-heading-or-two) [c](#page)\n"
        f"```\n[d](nowhere)\n```\n[e]({target})\n",
        encoding="utf-8",
    )
    assert list(broken_links(page)) == [f"page.md: {target}"]


def test_every_document_can_be_reached_from_the_readme() -> None:
    reached: set[Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        document = waiting.pop()
        if document in reached:
            continue
        reached.add(document)
        targets = re.findall(r"\]\(([^)\s:#]+\.md)(?:#[^)]*)?\)", prose(document))
        waiting += [(document.parent / target).resolve() for target in targets]
    assert [one.name for one in documents() if one.resolve() not in reached] == []


def test_the_plans_are_listed_with_the_state_that_they_say_of_themselves() -> None:
    plans = ROOT / "implementation-plans"
    listed = dict(
        re.findall(
            r"^\| \[.+?\]\((\S+)\) \| (done|in work|planned)\b",
            (plans / "README.md").read_text(),
            re.MULTILINE,
        )
    )
    said = {
        plan.name: re.findall(r"^\*\*State: ([\w ]+?)\.?\*\*", plan.read_text(encoding="utf-8"), re.MULTILINE)
        for plan in plans.glob("*.md")
        if plan.name != "README.md"
    }
    assert said == {name: [state] for name, state in listed.items()}
    assert {state for states in said.values() for state in states} <= {"done", "in work", "planned"}
