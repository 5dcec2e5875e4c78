"""Everything that the world has stands on the page where a reader looks for it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from mirror.archive.render import moment
from mirror.simulator.world.discussions import PullRequest
from mirror.simulator.world.repository import SimRepository
from tests.archive.conftest import Made
from tests.archive.reading import page, words_of


def shown(made: Made, form: str, path: str) -> str:
    """The text of a page, named without its ending."""
    if form == "html":
        return page(made.html / f"{path}.html").text
    return words_of((made.markdown / f"{path}.md").read_text(encoding="utf-8"))


def repositories(made: Made) -> Iterator[tuple[str, SimRepository]]:
    for slug, repository in made.world.workspaces["acme"].repositories.items():
        yield f"acme/{slug}", repository


def check_pull_request(text: str, pull: PullRequest) -> None:
    assert pull.title in text
    assert words_of(pull.description) in text
    assert pull.source in text and pull.destination in text
    assert pull.author.name in text
    for comment in pull.comments:
        if comment.deleted:
            assert "deleted" in text
        else:
            assert words_of(comment.text) in text, comment.text
        assert comment.author.name in text
        if comment.resolved is not None:
            assert re.search(f"Resolved by {comment.resolved[0].name}", text)
        if comment.inline is not None:
            assert comment.inline["path"] in text
    for task in pull.tasks:
        assert words_of(task.text) in text
    for user, when in pull.approvals.values():
        assert re.search(f"{user.name},? Approved,? {moment(when.isoformat())}", text)
    for user in pull.reviewers:
        assert user.name in text
    for status in pull.statuses:
        assert status["key"] in text
    if pull.reason:
        assert pull.reason in text


@pytest.mark.parametrize("form", ["html", "markdown"])
def test_every_pull_request_is_there_with_all_that_is_said_in_it(made: Made, form: str) -> None:
    count = 0
    for name, repository in repositories(made):
        for number, pull in repository.pull_requests.items():
            check_pull_request(shown(made, form, f"{name}/pull-requests/{number}"), pull)
            count += 1
    assert count == 8


@pytest.mark.parametrize("form", ["html", "markdown"])
def test_comments_stand_beside_their_code_and_changes_are_shown(made: Made, form: str) -> None:
    text = shown(made, form, "acme/api/pull-requests/3")
    old, new = "return order.total * 0.9", 'return (order.total * decimal.Decimal("0.9")).quantize'
    place = text.index("src/prices.py")
    assert place < text.index(old) < text.index(new) < text.index("Should this be ROUND_HALF_EVEN?")
    # Once beside each of two comments, and once in the difference.
    assert text.count(new) == 3
    assert "raise ValueError" in text and "def test_half():" in text
    assert "Count money in decimals Floats lose cents." in text and "Test rounding" in text
    assert "pushed" in text


def test_replies_stand_below_what_they_answer_and_tasks_beside(made: Made) -> None:
    source = (made.html / "acme/api/pull-requests/3.html").read_text()
    order = ["Should this be", "Add a test for rounding", "It is the default of", "Good. A test for it"]
    places = [source.index(text) for text in order]
    assert places == sorted(places)
    assert source.count('<div class="replies') == 2


@pytest.mark.parametrize("form", ["html", "markdown"])
def test_every_issue_is_there_with_its_attachments(made: Made, form: str) -> None:
    count = 0
    for name, repository in repositories(made):
        for number, issue in repository.issues.items():
            text = shown(made, form, f"{name}/issues/{number}")
            assert issue.title in text and words_of(issue.content) in text and issue.author.name in text
            for comment in issue.comments:
                assert words_of(comment.text) in text
            for change in issue.changes:
                for field, (old, new) in change.fields.items():
                    assert f"changed {field} from {old} to {new}" in text
            folder = (made.html if form == "html" else made.markdown) / name / "files"
            for attachment in issue.attachments:
                assert attachment.name in text
                digest = hashlib.sha256(attachment.content).hexdigest()
                [copy] = folder.glob(f"{digest[:16]}-*")
                assert copy.read_bytes() == attachment.content
            count += 1
    assert count == 2


@pytest.mark.parametrize("form", ["html", "markdown"])
def test_every_pipeline_is_there_with_steps_logs_and_tests(made: Made, form: str) -> None:
    count = 0
    for name, repository in repositories(made):
        for number, pipeline in repository.pipelines.items():
            text = shown(made, form, f"{name}/pipelines/{number}")
            assert pipeline.branch in text and pipeline.commit[:12] in text
            assert str(pipeline.result).capitalize() in text
            for step in pipeline.steps:
                assert step.name in text
                for line in (step.log or b"").decode().splitlines():
                    assert " ".join(re.sub(r"\x1b\[\d+m", "", line).split()) in text, line
                for case, reason in step.tests.items():
                    assert case in text and (reason is None or reason in text)
            count += 1
    assert count == 5


@pytest.mark.parametrize("form", ["html", "markdown"])
def test_commits_downloads_snippets_settings_and_snapshots_are_there(made: Made, form: str) -> None:
    website = made.world.workspaces["acme"].repositories["website"]
    for commit, comments in website.commit_comments.items():
        text = shown(made, form, f"acme/website/commits/{commit}")
        assert all(comment.text in text for comment in comments)
        assert "nightly" in text and "Bob Baker" in text and "Line 12 is never reached" in text
    assert "catalogue.pdf" in shown(made, form, "acme/website/downloads")
    for snippet in made.world.workspaces["acme"].snippets.values():
        text = shown(made, form, f"acme/_workspace/snippets/{snippet.id}")
        assert snippet.title in text
        assert all(one.text in text for one in snippet.comments)
        for name, content in snippet.files.items():
            assert name in text and " ".join(content.decode().split()) in text
    settings = shown(made, form, "acme/website/settings")
    for text in ("https://ci.acme.example/hook", "REGION", "eu-central-1", "require_approvals_to_merge"):
        assert text in settings.replace("\\", "")
    assert "Production" in shown(made, form, "acme/website/deployments")
    assert "shop.acme.example" in shown(made, form, "acme/website/deployments")
    assert "refs/heads/feature/blog" in shown(made, form, "acme/website/refs")
    assert "20261123T030000Z" in shown(made, form, "acme/website/snapshots")
    first = "index" if form == "html" else "README"
    assert "Ann Archer" in shown(made, form, "acme/_workspace/settings")
    assert all(name in shown(made, form, first) for name, _ in repositories(made))


def test_what_git_does_not_have_is_shown_from_the_stored_patch(made: Made) -> None:
    text = page(made.html / "acme/billing/pull-requests/1.html").text
    assert "RATE" in text and "Patch" in text


def test_the_index_of_the_search_has_all_that_is_said(made: Made) -> None:
    for name, repository in repositories(made):
        source = (made.html / name / "search-index.js").read_text(encoding="ascii")
        found = re.fullmatch(r"mirrorIndex\((\".*?\"), (\[.*\])\);\n", source, re.DOTALL)
        assert found is not None and json.loads(found[1]) == name
        entries = json.loads(re.sub(r",\n\]$", "]", found[2]))
        assert all((made.html / href).is_file() for href, *_ in entries)
        said = " ".join(text for *_, text in entries)
        for pull in repository.pull_requests.values():
            assert any(title == pull.title for _, _, title, _ in entries)
            for comment in pull.comments:
                assert comment.deleted or " ".join(comment.text.split()) in said


def test_results_tell_counts_and_snapshots(made: Made) -> None:
    names = [one.name for one in made.done]
    assert names == ["acme", "acme/api", "acme/billing", "acme/handbook", "acme/website"]
    for one in made.done:
        assert one.is_there and not one.problems and one.when is not None
        folder = made.html / one.place
        assert one.pages == len(list(folder.rglob("*.html")))
        assert one.files == len(list(folder.glob("files/*")))
        assert Path(one.target) == folder
