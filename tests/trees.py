"""The syntax trees of our own modules, for tests that read code."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def modules(folder: str) -> Iterator[tuple[str, ast.Module]]:
    """Yield the path, relative to the project, and the tree of every module in a folder."""
    for path in sorted((ROOT / folder).rglob("*.py")):
        yield str(path.relative_to(ROOT)), _tree(path)
