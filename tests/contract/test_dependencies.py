"""What the product imports is what it requires: the tests have more installed than a user has."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

TOP = Path(__file__).parents[2]
OURS = {"services", "shared"}


def imported() -> set[str]:
    """The first name of every module that is not of Python itself and not ours."""
    found = set()
    for file in (path for name in OURS for path in (TOP / name).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found.add((node.module or "").partition(".")[0])
    return found - OURS - set(sys.stdlib_module_names) - {"__future__"}


def required() -> set[str]:
    """The distributions that a user has."""
    project = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["embedded"]]
    return {normal(re.split(r"[\[<>=!~ ]", one)[0]) for one in wanted}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_everything_that_is_imported_is_required() -> None:
    known = packages_distributions()
    missing = {module for module in imported() if not required() & {normal(one) for one in known.get(module, ())}}
    assert missing == set()
