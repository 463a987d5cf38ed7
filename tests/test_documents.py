"""Documents that are generated, or name things of the code, are up to date."""

import re
from pathlib import Path

from infoscreen.domain.commands import TRANSITIONS

ROOT = Path(__file__).parents[1]


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
    documents = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]
    broken = [
        f"{document.name}: {target}"
        for document in documents
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8"))
        if not (document.parent / target).exists()
    ]
    assert broken == []
