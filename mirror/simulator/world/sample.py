"""A small sample workspace, and an accident in it. People, times and hashes are the same every time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from mirror.simulator.world.discussions import Comment
from mirror.simulator.world.git_repository import Person
from mirror.simulator.world.people import User
from mirror.simulator.world.repository import SimRepository
from mirror.simulator.world.settings import fill_repository_settings, fill_workspace_settings
from mirror.simulator.world.world import SimWorkspace, World

SLUG = "acme"
REWRITTEN = "website"
LOST = "billing"
BRANCH_LOST_IN = "api"
BRANCH_LOST = "feature/stock-alerts"

# Everything that a backup reads.
SCOPES = frozenset(
    {
        "account", "project", "project:admin", "repository", "repository:admin", "pullrequest", "pipeline",
        "webhook", "runner",
    }
)  # fmt: skip
_START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
_ACCIDENT = datetime(2026, 11, 20, 17, 45, tzinfo=UTC)


def populate(world: World) -> None:
    """Make the workspace `acme`: four repositories with histories, discussions and builds."""
    ann = world.add_user("Ann Archer", "ann@acme.example")
    bob = world.add_user("Bob Baker", "bob@acme.example")
    eve = world.add_user("Eve Eng", "eve@acme.example")
    workspace = world.add_workspace(SLUG, "Acme Corporation")
    with world.at(_START):
        _website(workspace.add_repository("website", project="WEB", description="The shop window"), ann, bob)
        _api(workspace.add_repository("api", project="CORE", description="Orders and stock"), bob, eve)
        _billing(workspace.add_repository("billing", project="CORE", description="Invoices"), eve, ann)
        workspace.add_repository("handbook", project="DOCS", description="Nothing written yet")
        _extras(workspace, ann, bob)


def accident(world: World) -> list[str]:
    """A force-push, a deleted branch, a deleted repository. Returns the story, line by line."""
    workspace = world.workspaces[SLUG]
    website = workspace.repositories[REWRITTEN]
    first = website.commit(
        "rewrite",
        {"index.html": b"<h1>Oops</h1>\n"},
        "Start over\n",
        author=("Ann Archer", "ann@acme.example"),
        when=_ACCIDENT,
        parents=(),
    )
    website.force("main", first)
    website.delete_ref(b"refs/heads/rewrite")
    workspace.repositories[BRANCH_LOST_IN].delete_ref(b"refs/heads/" + BRANCH_LOST.encode())
    workspace.delete_repository(LOST)
    return [
        f"somebody force-pushes {SLUG}/{REWRITTEN}: main now has one commit",
        f"somebody deletes the branch {BRANCH_LOST} of {SLUG}/{BRANCH_LOST_IN}",
        f"somebody deletes the repository {SLUG}/{LOST}",
    ]


def _extras(workspace: SimWorkspace, ann: User, bob: User) -> None:
    """Add settings, files, commit comments, a wiki and a snippet."""
    website = workspace.repositories["website"]
    fill_repository_settings(website)
    fill_workspace_settings(workspace)
    website.upload("catalogue.pdf", b"%PDF-1.4 an empty catalogue\n")
    tip = website.branch("main")
    assert tip is not None
    website.comment_on_commit(tip, "This made the shop twice as fast.", author=bob)
    website.add_commit_status(tip, "nightly")
    website.approve_commit(tip, bob)
    [schedule] = website.settings["schedules"]
    error = {"type": "pipeline_error", "key": "no-branch"}
    website.schedule_executions[schedule["uuid"]] = [
        {"type": "pipeline_schedule_execution_errored", "error": error}
    ]
    website.report(tip, "Coverage", ["Line 12 is never reached"])
    wiki = website.add_wiki()
    wiki.commit("main", {"Home.md": b"# How the shop works\n"}, "A first page\n", author=_person(ann))
    snippet = workspace.add_snippet("Deploy by hand", {"deploy.sh": b"make deploy\n"}, author=ann)
    snippet.comments.append(Comment(workspace.world.number(), "Not on Fridays.", bob, workspace.world.now()))


def _person(user: User) -> Person:
    return user.name, user.email


def _history(repository: SimRepository, folder: str, subjects: Sequence[str], people: Sequence[User]) -> str:
    tip = ""
    for index, subject in enumerate(subjects):
        content = "".join(f"{line}\n" for line in subjects[: index + 1]).encode()
        files: dict[str, bytes | None] = {
            f"{folder}/{index % 5}.txt": content,
            "README.md": f"# {repository.slug}\n\n{subject}\n".encode(),
        }
        when = _START + timedelta(hours=7 * index)
        author = _person(people[index % len(people)])
        tip = repository.commit("main", files, f"{subject}\n", author=author, when=when)
    return tip


def _website(repository: SimRepository, ann: User, bob: User) -> None:
    world = repository.world
    subjects = [
        "Begin", "A first page", "Prices", "Pictures", "A shopping cart", "Imprint", "Search", "Faster",
    ]  # fmt: skip
    tip = _history(repository, "pages", subjects, (ann, bob))
    with world.at(_START + timedelta(days=4)):
        repository.tag("v1.0", tip, "The first release\n")
        repository.commit(
            "feature/dark-mode", {"style.css": b"body { background: #111 }\n"}, "Dark mode\n",
            author=_person(ann), parents=[tip],
        )  # fmt: skip
        repository.add_pipeline(
            steps=[("build", b"npm ci\nnpm run build\nDone in 41 s.\n"), ("deploy", b"uploaded 12 files\n")]
        )
    with world.at(_START + timedelta(days=5)):
        merged = repository.open_pull_request(
            source="feature/dark-mode", title="Dark mode", author=ann,
            description="For those who work at night.",
        )  # fmt: skip
        merged.reviewers.append(bob)
        question = merged.comment("Does it follow the system setting?", author=bob)
        merged.push({"style.css": b"@media (prefers-color-scheme: dark) {}\n"}, "Follow the system\n")
        merged.comment("It does now.", author=ann, parent=question)
        merged.resolve(question, by=bob)
        merged.add_task("Take a screenshot", author=bob, comment=question).resolved = True
        merged.add_status("build-1")
        merged.approve(bob)
    with world.at(_START + timedelta(days=6)):
        merged.merge(author=ann)
        repository.commit("feature/blog", {"blog.html": b"<h1>Blog</h1>\n"}, "A blog\n", author=_person(bob))
        old = repository.open_pull_request(source="feature/blog", title="Blog, first try", author=bob)
        old.supersede(author=bob)
        opened = repository.open_pull_request(source="feature/blog", title="A blog", author=bob)
        opened.comment(
            "This line is too long.", author=ann, inline={"path": "blog.html", "from": None, "to": 1}
        )
        opened.delete_comment(opened.comment("Wrong tab, sorry.", author=ann))
        opened.add_task("Add an RSS feed", author=ann)
        repository.add_pipeline(steps=[("build", b"npm ci\nerror: no space left\n")], result="FAILED")


def _api(repository: SimRepository, bob: User, eve: User) -> None:
    world = repository.world
    subjects = ["Begin", "Orders", "Stock", "Customers", "Rate limits", "Metrics"]
    tip = _history(repository, "src", subjects, (bob, eve))
    with world.at(_START + timedelta(days=10)):
        repository.tag("v0.9", tip, "Release candidate\n")
        repository.commit(
            BRANCH_LOST, {"src/alerts.py": b"ALERT_BELOW = 5\n"}, "Alert on low stock\n",
            author=_person(bob), parents=[tip],
        )  # fmt: skip
        repository.commit(
            "fix/rounding", {"src/money.py": b"from decimal import Decimal\n"}, "Round money right\n",
            author=_person(eve), parents=[tip],
        )  # fmt: skip
        declined = repository.open_pull_request(source="fix/rounding", title="Round money right", author=eve)
        declined.comment("Billing does this already.", author=bob)
    with world.at(_START + timedelta(days=11)):
        declined.decline(author=bob, reason="Done elsewhere")
        opened = repository.open_pull_request(source=BRANCH_LOST, title="Stock alerts", author=bob)
        opened.reviewers.append(eve)
        opened.request_changes(eve)
        opened.add_task("Agree on the threshold", author=eve)
        tested = repository.add_pipeline(steps=[("test", b"212 passed in 9.14s\n")])
        tested.steps[0].tests = {"test_money": None, "test_rounding": "0.1 + 0.2 is not 0.3"}


def _billing(repository: SimRepository, eve: User, ann: User) -> None:
    world = repository.world
    subjects = ["Begin", "Invoices", "Reminders", "VAT", "Dunning", "Archive"]
    tip = _history(repository, "invoices", subjects, (eve, ann))
    with world.at(_START + timedelta(days=20)):
        repository.tag("2026.1", tip, "For the new year\n")
        repository.commit(
            "fix/vat", {"invoices/vat.py": b"RATE = '0.19'\n"}, "The right rate\n",
            author=_person(ann), parents=[tip],
        )  # fmt: skip
        squashed = repository.open_pull_request(source="fix/vat", title="The right rate", author=ann)
        squashed.approve(eve)
        # Its own commit is on no branch any more.
        squashed.merge(author=ann, squash=True)
    with world.at(_START + timedelta(days=21)):
        repository.commit(
            "feature/e-invoice", {"invoices/xml.py": b"FORMAT = 'EN16931'\n"}, "Electronic invoices\n",
            author=_person(eve),
        )  # fmt: skip
        opened = repository.open_pull_request(
            source="feature/e-invoice", title="Electronic invoices", author=eve,
            description="Required from January.",
        )  # fmt: skip
        opened.comment("Which profile do we need?", author=ann)
        repository.add_pipeline(steps=[("test", b"88 passed in 3.02s\n")])
