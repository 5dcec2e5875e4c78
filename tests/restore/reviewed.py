"""Reviews as people have them: with every kind of pull request, comment, task and report."""

from __future__ import annotations

from datetime import UTC, datetime

from mirror.simulator import World
from mirror.simulator.world.repository import SimRepository

TEXT = "".join(f"{number}\n" for number in range(1, 21)).encode()


def furnish(world: World) -> None:
    """Add to the sample's `api`: reviews, a pull request from a fork and one whose branch goes, and what
    is said about a commit. Of the reviewers, Sue is in no workspace any more, and Rita is who restores."""
    api = world.workspaces["acme"].repositories["api"]
    with world.at(datetime(2026, 10, 12, 8, 30, tzinfo=UTC)):
        _reviewed(api)
        _from_fork(world)
        _without_branch(api)
        _about_a_commit(api)


def _reviewed(api: SimRepository) -> None:
    ann, bob, eve = (api.world.users[f"{name}@acme.example"] for name in ("ann", "bob", "eve"))
    sue = api.world.add_user("Sue Sales", "sue@elsewhere.example", workspaces=[])
    api.commit("review", {"src/list.txt": TEXT}, "Numbers\n", author=("Bob Baker", bob.email))
    pull = api.open_pull_request(
        source="review", title="Count to *twenty*", author=bob,
        description=f"For @{{{ann.uuid.strip('{}')}}}.\n\n<b>Hostile</b> [x](javascript:alert(1))",
    )  # fmt: skip
    rita = api.world.add_user("Rita Restores", "rita@spare.example")
    pull.reviewers += [ann, eve, sue, rita]
    pull.draft, pull.close_source_branch = True, False
    pull.approve(eve)
    place = {"path": "src/list.txt", "from": None, "to": 5, "start_from": None, "start_to": 3}
    thread = pull.comment(f"Why three, @{{{bob.uuid.strip('{}')}}}?", author=ann, inline=place)
    reply = pull.comment("Because.\r\n\r\n```\n<script>\n```", author=bob, parent=thread, inline=place)
    pull.comment("I see.", author=ann, parent=reply, inline=place)
    pull.resolve(thread, by=bob)
    pull.comment(
        "This file is gone.", author=eve,
        inline={"path": "src/old.txt", "from": 2, "to": None, "outdated": True},
    )  # fmt: skip
    pull.comment("Never was.", author=eve, inline={"path": "src/none.txt", "from": None, "to": 1})
    removed = pull.comment("Wrong tab.", author=eve)
    pull.comment("Which tab?", author=ann, parent=removed)
    pull.delete_comment(removed)
    pull.delete_comment(pull.comment("Nothing.", author=ann))
    pull.comment("In general: fine." + " Very." * 6_000, author=ann)
    pull.add_task("Explain three", author=ann, comment=thread)
    pull.add_task("Ship it", author=eve)
    pull.tasks[0].resolved = True
    pull.add_status("build-1")


def _from_fork(world: World) -> None:
    acme, bob = world.workspaces["acme"], world.users["bob@acme.example"]
    api = acme.repositories["api"]
    fork = acme.add_repository("api-of-bob", parent=api)
    fork.commit("main", {"fork.txt": b"from afar\n"}, "Afar\n", author=("Bob Baker", bob.email))
    pull = api.open_pull_request(source="main", title="From afar", author=bob, fork=fork)
    pull.comment("Hello.", author=bob)


def _without_branch(api: SimRepository) -> None:
    eve = api.world.users["eve@acme.example"]
    api.commit("short-lived", {"short.txt": b"short\n"}, "Short\n", author=("Eve Eng", eve.email))
    api.open_pull_request(source="short-lived", title="Short", author=eve)


def _about_a_commit(api: SimRepository) -> None:
    ann, bob = (api.world.users[f"{name}@acme.example"] for name in ("ann", "bob"))
    tip = api.branch("main")
    assert tip is not None
    first = api.comment_on_commit(tip, "Here it began.", author=ann)
    first.inline = {"path": "src/6.py", "from": None, "to": 1}
    api.comment_on_commit(tip, "Where it ends.", author=bob).parent = first.id
    api.comment_on_commit(api.branch("review") or "", "Not on main.", author=bob)
    api.add_commit_status(tip, "nightly")
    annotation = {
        "type": "report_annotation", "uuid": "{0f9c4a2e-1111-4222-8333-000000000001}", "external_id": "f1",
        "annotation_type": "BUG", "path": "src/6.py", "line": 2, "summary": "Bad", "details": "Very",
        "result": "FAILED", "severity": "LOW", "link": "https://x.example/f",
        "created_on": "2026-10-12T08:30:00.000000+00:00", "updated_on": "2026-10-12T08:30:00.000000+00:00",
    }  # fmt: skip
    api.report(tip, "Scan")
    api.reports[tip][-1]["annotations"] = [annotation]
    api.reports[tip][-1]["fields"] = {
        "details": "All", "external_id": "scan-1", "reporter": "scanner", "link": "https://x.example/",
        "remote_link_enabled": True, "logo_url": "https://x.example/l.png", "report_type": "SECURITY",
        "result": "FAILED", "data": [{"title": "Safe", "type": "BOOLEAN", "value": False}],
    }  # fmt: skip
