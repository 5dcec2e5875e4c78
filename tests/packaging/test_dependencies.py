"""What the program imports is what it declares, no less and no more."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Ourselves, and what only type checkers know.
NO_PACKAGES = {"mirror", "_typeshed"}


def plain(name: str) -> str:
    """A distribution's name in the form that compares."""
    return re.sub(r"[-_.]+", "-", name).lower()


def imported() -> dict[str, str]:
    """Every package outside the standard library that the program imports, and where."""
    found: dict[str, str] = {}
    for path in (ROOT / "mirror").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Import | ast.ImportFrom):
                continue
            names = [one.name for one in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            for name in names:
                top = name.partition(".")[0]
                if top not in sys.stdlib_module_names and top not in NO_PACKAGES:
                    found.setdefault(top, f"{path.relative_to(ROOT)}:{node.lineno}")
    return found


def declared() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [
        *project["dependencies"],
        *(one for extra in project.get("optional-dependencies", {}).values() for one in extra),
    ]
    return {plain(re.split(r"[\s<>=!~;\[]", one, maxsplit=1)[0]) for one in wanted}


def test_what_is_imported_is_declared() -> None:
    made_by = packages_distributions()
    missing = {
        f"{where}: {module}"
        for module, where in imported().items()
        if not {plain(one) for one in made_by.get(module, [module])} & declared()
    }
    assert missing == set()


def test_what_is_declared_is_imported() -> None:
    made_by = packages_distributions()
    used = {plain(one) for module in imported() for one in made_by.get(module, [])}
    assert declared() - used == set()
