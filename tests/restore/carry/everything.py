"""A workspace with everything in it that can be restored, in as many repositories as asked for."""

from __future__ import annotations

from mirror.simulator import World
from mirror.simulator.world.people import User
from mirror.simulator.world.repository import SimRepository
from mirror.simulator.world.settings import fill_repository_settings, fill_workspace_settings

WORKSPACE = "whole"


def fill(world: World, count: int) -> None:
    """Add the workspace."""
    ann = world.add_user("Ann Archer", "ann@acme.example")
    bob = world.add_user("Bob Baker", "bob@acme.example")
    world.add_user("Eve Eng", "eve@acme.example")
    workspace = world.add_workspace(WORKSPACE, "The whole of it")
    for number in range(count):
        slug = f"repository-{number:03}"
        project = ("CORE", "WEB", "DOCS")[number % 3]
        _fill(workspace.add_repository(slug, project=project, description=f"Number {number}"), ann, bob)
    fill_workspace_settings(workspace)
    workspace.add_snippet("Deploy by hand", {"deploy.sh": b"make deploy\n"}, author=ann)


def _fill(repository: SimRepository, ann: User, bob: User) -> None:
    name = repository.slug
    repository.commit("main", {"README.md": f"# {name}\n".encode(), "a.py": b"a = 1\n" * 9}, "Begin\n")
    tip = repository.commit("main", {"b.py": b"b = 2\n"}, "Go on\n")
    repository.tag("v1", tip, "The first\n")
    for branch in ("feature/one", "feature/two"):
        repository.commit(branch, {f"{branch}.py": b"new = True\n"}, f"Work on {branch}\n")
        pull = repository.open_pull_request(
            source=branch, title=f"{branch} of {name}", author=ann, description="What it does.\n\nAnd why."
        )
        pull.reviewers.append(bob)
        place = {"path": f"{branch}.py", "from": None, "to": 1}
        question = pull.comment("Is this right?", author=bob, inline=place)
        pull.comment("It is.", author=ann, parent=question)
        pull.resolve(question, by=bob)
        pull.add_task("Write it down", author=bob, comment=question)
        pull.add_task("Test it", author=bob).resolved = True
    fill_repository_settings(repository)
    repository.upload("manual.pdf", b"%PDF-1.4 " + name.encode())
    repository.comment_on_commit(tip, "This made it faster.", author=bob)
    repository.report(tip, "Coverage", ["Line 12 is never reached"])
