"""Each claim of the threat model names a test that exists."""

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parent
DOCUMENT = TESTS.parent / "docs" / "security.md"


def test_every_test_that_the_threat_model_names_exists() -> None:
    named = re.findall(r"`(test_\w+\.py)(?:::(test_\w+))?`", DOCUMENT.read_text(encoding="utf-8"))
    assert len(named) > 40
    missing = []
    for file, name in named:
        path = TESTS / file
        known = set()
        if path.exists():
            tree = ast.parse(path.read_text(encoding="utf-8"))
            known = {
                node.name
                for node in ast.walk(tree)
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            }
        if not known or (name and name not in known):
            missing.append(f"{file}::{name}")
    assert missing == []
