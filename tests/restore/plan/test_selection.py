"""One setting, one variable or one pull request can be restored alone, with what it needs and no more."""

from __future__ import annotations

import pytest

from mirror.errors import UsageError
from mirror.restore.plan.order import OF_REPOSITORY, part_of
from mirror.restore.plan.repository import steps_of_projects
from mirror.restore.plan.selection import choose_things
from mirror.restore.plan.source import Source, Target
from mirror.restore.plan.steps import Loss, Push, SendObjects, Step
from tests.restore.plan.given import EVERYTHING, MADE, TARGET, A, B, Given, comment, document, given, pull

GROUND = {"website/repository", "~workspace/project/WEB"}


@pytest.fixture(scope="module")
def website(sources: dict[str, Source]) -> list[MADE]:
    """Everything that is planned of `acme/website`."""
    source, target = sources["website"], Target("spare", "website")
    made = [one for planner in OF_REPOSITORY for one in planner(source, target, EVERYTHING)]
    return [*steps_of_projects(None, [source], target), *made]


def choose(made: list[MADE], *things: str) -> list[MADE]:
    return choose_things(made, things, part_of, lambda one: one.kind in ("projects", "repository profile"))


def keys(made: list[MADE]) -> set[str]:
    return {one.key for one in made if isinstance(one, Step)}


def test_a_kind_of_setting_comes_with_its_repository_alone(website: list[MADE]) -> None:
    found = keys(choose(website, "settings/variables"))
    variables = {key for key in keys(website) if key.startswith("website/variables/")}
    assert variables and found == variables | GROUND
    [first, *_] = sorted(variables)
    assert keys(choose(website, f"settings/{first.partition('/')[2]}")) == {first, *GROUND}


def test_what_a_step_names_comes_along(website: list[MADE]) -> None:
    inside = [key for key in keys(website) if "/variables/" in key and key.count("/") > 2]
    assert inside, "the sample has variables of an environment"
    found = keys(choose(website, f"settings/{inside[0].partition('/')[2]}"))
    assert inside[0] in found and found - {inside[0], *GROUND}
    assert len(found) == 4


def of_pull_requests() -> list[MADE]:
    documents = {
        "pull-requests/0/12.json": document(comments=[comment(1), comment(2, parent={"id": 1})]),
        "pull-requests/0/13.json": document(pull(13, "other")),
    }
    source: Given = given(documents, {"main": A, "topic": B, "other": "d" * 40})
    refs = {b"refs/heads/" + name.encode(): value for name, value in source.branches.items()}
    every = [
        Step("website/lfs-objects", "refs", "objects", SendObjects((A,)), 3, ("website/repository",)),  # type: ignore[arg-type]
        Step("website/branches", "refs", "branches", Push("code", refs), 4, ("website/repository",)),  # type: ignore[arg-type]
    ]
    planned = [one for planner in OF_REPOSITORY[2:3] for one in planner(source, TARGET, EVERYTHING)]
    return [*every, *planned]


def test_a_pull_request_takes_its_discussion_and_its_own_branches_along() -> None:
    found = choose(of_pull_requests(), "pull-requests/12")
    assert keys(found) == {
        f"website/pull-request/12{rest}"
        for rest in ("", "/branches", "/branches-objects", "/comment/1", "/comment/2")
    }
    steps = {one.key: one for one in found if isinstance(one, Step)}
    pushed = steps["website/pull-request/12/branches"]
    assert isinstance(pushed.action, Push)
    assert pushed.action.refs == {b"refs/heads/main": A, b"refs/heads/topic": B}
    assert "website/pull-request/12/branches-objects" in pushed.after
    assert "website/pull-request/12/branches" in steps["website/pull-request/12"].after


@pytest.mark.parametrize(
    ("thing", "words"),
    [
        ("pull-requests/99", "only open ones can"), ("settings/nothing", "settings/variables"),
        ("settings/variables/NONE", "settings/variables/"), ("nothing/x", "--dry-run"),
        ("pull-request/12", "did you mean pull-requests/12?"),
    ],
)  # fmt: skip
def test_an_error_names_what_could_be_chosen(website: list[MADE], thing: str, words: str) -> None:
    with pytest.raises(UsageError) as error:
        choose(website, "settings/variables", thing)
    assert thing in error.value.message
    assert words in f"{error.value.message} {error.value.hint}"


def test_what_never_comes_back_is_told(website: list[MADE]) -> None:
    lost = next(one for one in website if isinstance(one, Loss) and one.key.count("/") == 1
                and part_of(one.kind) == "settings")  # fmt: skip
    assert lost in choose(website, f"settings/{lost.key.partition('/')[2]}")
