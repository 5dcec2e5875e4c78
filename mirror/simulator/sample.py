"""A small, believable workspace, and an accident that befalls it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from mirror.simulator.world import SimRepository, User, World

SLUG = "acme"
REWRITTEN = "website"
LOST = "billing"
BRANCH_LOST_IN = "api"

# Everything that a backup reads.
SCOPES = frozenset({"account", "project", "repository", "pullrequest", "pipeline", "webhook", "runner"})
_START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


def populate(world: World) -> None:
    """Make the workspace `acme`: four repositories with histories, discussions and builds."""
    ann = world.add_user("Ann Archer", "ann@acme.example")
    bob = world.add_user("Bob Baker", "bob@acme.example")
    eve = world.add_user("Eve Eng", "eve@acme.example")
    workspace = world.add_workspace(SLUG, "Acme Corporation")
    _website(workspace.add_repository("website", project="WEB", description="The shop window"), ann, bob)
    _api(workspace.add_repository("api", project="CORE", description="Orders and stock"), bob, eve)
    _billing(workspace.add_repository("billing", project="CORE", description="Invoices"), eve, ann)
    workspace.add_repository("handbook", project="DOCS", description="Nothing written yet")


def accident(world: World) -> list[str]:
    """A force-push, a deleted branch, a deleted repository. Returns the story, line by line."""
    workspace = world.workspaces[SLUG]
    website = workspace.repositories[REWRITTEN]
    first = website.commit(
        "rewrite", {"index.html": b"<h1>Oops</h1>\n"}, "Start over\n", author=_person(0), parents=()
    )
    website.set_ref(b"refs/heads/main", first)
    website.delete_ref(b"refs/heads/rewrite")
    api = workspace.repositories[BRANCH_LOST_IN]
    api.delete_ref(b"refs/heads/feature/stock-alerts")
    workspace.delete_repository(LOST)
    return [
        f"somebody force-pushes {SLUG}/{REWRITTEN}: main now has one commit",
        f"somebody deletes the branch feature/stock-alerts of {SLUG}/{BRANCH_LOST_IN}",
        f"somebody deletes the repository {SLUG}/{LOST}",
    ]


def _person(index: int) -> tuple[str, str]:
    return (("Ann Archer", "ann@acme.example"), ("Bob Baker", "bob@acme.example"))[index % 2]


def _history(repository: SimRepository, folder: str, subjects: list[str]) -> str:
    tip = ""
    for index, subject in enumerate(subjects):
        content = "".join(f"{line}\n" for line in subjects[: index + 1]).encode()
        files: dict[str, bytes | None] = {
            f"{folder}/{index % 5}.txt": content,
            "README.md": f"# {repository.slug}\n\n{subject}\n".encode(),
        }
        when = _START + timedelta(hours=7 * index)
        tip = repository.commit("main", files, f"{subject}\n", author=_person(index), when=when)
    return tip


def _website(repository: SimRepository, ann: User, bob: User) -> None:
    subjects = [
        "Begin",
        "A first page",
        "Prices",
        "Pictures",
        "A shopping cart",
        "Imprint",
        "Search",
        "Faster",
    ]
    tip = _history(repository, "pages", subjects)
    repository.tag("v1.0", tip, "The first release\n")
    repository.commit(
        "feature/dark-mode", {"style.css": b"body { background: #111 }\n"}, "Dark mode\n", parents=[tip]
    )
    merged = repository.open_pull_request(
        source="feature/dark-mode", title="Dark mode", author=ann, description="For those who work at night."
    )
    merged.reviewers.append(bob)
    question = merged.comment("Does it follow the system setting?", author=bob)
    merged.comment("It does now.", author=ann, parent=question)
    merged.add_task("Take a screenshot", author=bob, comment=question)
    merged.approve(bob)
    merged.add_status("build-1")
    merged.merge(author=ann)
    repository.commit("feature/blog", {"blog.html": b"<h1>Blog</h1>\n"}, "A blog\n")
    opened = repository.open_pull_request(source="feature/blog", title="A blog", author=bob)
    opened.comment("This line is too long.", author=ann, inline={"path": "blog.html", "from": None, "to": 1})
    repository.add_pipeline(
        steps=[("build", b"npm ci\nnpm run build\nDone in 41 s.\n"), ("deploy", b"uploaded 12 files\n")]
    )
    repository.add_pipeline(steps=[("build", b"npm ci\nerror: no space left\n")], result="FAILED")


def _api(repository: SimRepository, bob: User, eve: User) -> None:
    tip = _history(repository, "src", ["Begin", "Orders", "Stock", "Customers", "Rate limits", "Metrics"])
    repository.tag("v0.9", tip, "Release candidate\n")
    repository.commit("feature/stock-alerts", {"src/alerts.py": b"ALERT_BELOW = 5\n"}, "Alert on low stock\n")
    repository.commit(
        "fix/rounding", {"src/money.py": b"from decimal import Decimal\n"}, "Round money right\n"
    )
    declined = repository.open_pull_request(source="fix/rounding", title="Round money right", author=eve)
    declined.comment("Billing does this already.", author=bob)
    declined.decline(author=bob, reason="Done elsewhere")
    opened = repository.open_pull_request(source="feature/stock-alerts", title="Stock alerts", author=bob)
    opened.add_task("Agree on the threshold", author=eve)
    repository.add_pipeline(steps=[("test", b"212 passed in 9.14s\n")])


def _billing(repository: SimRepository, eve: User, ann: User) -> None:
    tip = _history(repository, "invoices", ["Begin", "Invoices", "Reminders", "VAT", "Dunning", "Archive"])
    repository.tag("2026.1", tip, "For the new year\n")
    repository.commit(
        "feature/e-invoice", {"invoices/xml.py": b"FORMAT = 'EN16931'\n"}, "Electronic invoices\n"
    )
    opened = repository.open_pull_request(
        source="feature/e-invoice",
        title="Electronic invoices",
        author=eve,
        description="Required from January.",
    )
    opened.comment("Which profile do we need?", author=ann)
    repository.add_pipeline(steps=[("test", b"88 passed in 3.02s\n")])
