"""The form of commit subjects that CONTRIBUTING.md asks for."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# The last commit before the rule existed.
BEFORE = "c010ff2c904102c898b72eed14d00c88d7af384e"
# It ends without a full stop, unless an abbreviation such as a.m. ends it.
FORM = re.compile(r"[a-z0-9_.-]+(?:[,/ ]+[a-z0-9_.-]+)*: [a-z`*].*(?:[^.]|\b[a-z]\.[a-z]\.)")
LENGTH = 72


def _git(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=False)


def wrong(subject: str) -> bool:
    """Whether a subject is too long or not `area: imperative`."""
    return len(subject) > LENGTH or FORM.fullmatch(subject) is None


@pytest.mark.parametrize(
    ("subject", "is_wrong"),
    [
        ("store: write a ledger of snapshots in each folder", False),
        ("git, restore: push heads and tags before other refs", False),
        ("Store: write a ledger", True),
        ("write a ledger", True),
        ("store: Write a ledger", True),
        ("store: write a ledger.", True),
        ("docs: say what to do at 3 a.m.", False),
        ("store: " + "x" * 66, True),
    ],
)
def test_the_rule(subject: str, is_wrong: bool) -> None:
    assert wrong(subject) == is_wrong


def test_subjects_of_new_commits() -> None:
    if _git("merge-base", "--is-ancestor", BEFORE, "HEAD").returncode != 0:
        pytest.skip("no git history here, or a shallow one")
    subjects = _git("log", "--no-merges", "--format=%s", f"{BEFORE}..HEAD").stdout.splitlines()
    assert [one for one in subjects if wrong(one)] == []
