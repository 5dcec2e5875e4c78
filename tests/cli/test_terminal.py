"""What a person at a terminal sees."""

from __future__ import annotations

import pytest

from mirror.model.words import counted, label
from tests.e2e.helpers import mirror
from tests.place import Place


@pytest.mark.parametrize(
    ("selector", "meant"),
    [("acme/webiste", "acme/website"), ("acem", "acme"), ("acem/website", "acme/website")],
)
def test_a_name_that_is_nearly_right_is_suggested(place: Place, selector: str, meant: str) -> None:
    done = mirror("backup", selector, "-c", str(place.folder / "config.yaml"))
    assert done.returncode == 2, done.stdout + done.stderr
    assert f"did you mean {meant}" in done.stdout


def test_the_hint_of_a_problem_is_shown_to_people(place: Place) -> None:
    (place.folder / "token").write_text("ATCTTwrong-token")
    done = mirror("backup", "-c", str(place.folder / "config.yaml"), "-q")
    assert done.returncode == 12
    assert "  → " in done.stdout


def test_names_for_people_are_words() -> None:
    assert label("pull_requests") == "pull requests"
    assert label("lfs") == "LFS"
    assert label("refs/heads/a_b") == "refs/heads/a_b"
    assert counted(1, "kinds_complete") == "1 kind of settings complete"
    assert counted(1, "pull_requests") == "1 pull request"
    assert counted(3, "pull_requests_to_ask") == "3 pull requests still to be requested"
    assert counted(1, "repositories") == "1 repository"
