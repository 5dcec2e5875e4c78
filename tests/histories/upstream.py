"""What may happen upstream, as steps that a random source selects.

To add a kind of step, add a function (a repository or workspace, a random source) to STEPS.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from mirror.simulator import World
from mirror.simulator.world.base import BaseWorld
from mirror.simulator.world.people import User
from mirror.simulator.world.repository import SimRepository
from mirror.simulator.world.world import SimWorkspace

HEADS, TAGS = b"refs/heads/", b"refs/tags/"
NAMES = ("topic", "fix", "release/1", "release", "ümläut", "odd'name", "a", "a/b", "a/b/c")
SLUGS = ("shop", "tools", "docs", "infra", "app")
Rng = random.Random


def _user(world: BaseWorld) -> User:
    return world.add_user("Ann Archer", "ann@acme.example")


def _branches(repository: SimRepository) -> list[str]:
    return sorted(name[len(HEADS) :].decode() for name in repository.refs() if name.startswith(HEADS))


def _branch(repository: SimRepository, rng: Rng) -> str:
    """Any branch; creates one if there is none."""
    found = _branches(repository)
    if not found:
        _commit(repository, "main", rng)
        return "main"
    return rng.choice(found)


def _files(rng: Rng) -> dict[str, bytes | None]:
    name = rng.choice(("a.txt", "b/c.txt", "b/d/e.txt", "f.bin"))
    return {name: rng.randbytes(rng.choice((10, 300, 3000)))}


def _commit(repository: SimRepository, branch: str, rng: Rng, parents: tuple[str, ...] | None = None) -> str:
    files = _files(rng)
    if rng.random() < 0.1:
        files = {"b": b"a file where a folder was\n"} if rng.random() < 0.5 else {"a.txt/x": b"the reverse\n"}
    return repository.commit(branch, files, f"Work {rng.random()}\n", parents=parents)


def push(repository: SimRepository, rng: Rng) -> None:
    """One to three commits on top of a branch."""
    branch = _branch(repository, rng)
    for _ in range(rng.randint(1, 3)):
        _commit(repository, branch, rng)


def force_push(repository: SimRepository, rng: Rng) -> None:
    """Rewrite a branch: from an empty history, or from an older commit."""
    branch = _branch(repository, rng)
    others = sorted(set(repository.refs().values()))
    value = repository.branch(branch)
    parents = (
        () if rng.random() < 0.5 else (rng.choice([one for one in others if _is_commit(repository, one)]),)
    )
    _commit(repository, branch, rng, parents)
    if rng.random() < 0.2 and value is not None:
        repository.force(branch, value)  # and back: no backup saw it


def _is_commit(repository: SimRepository, value: str) -> bool:
    return value in {v for name, v in repository.refs().items() if name.startswith(HEADS)}


def new_branch(repository: SimRepository, rng: Rng) -> None:
    """Create a branch from another, under a name that may conflict with other branches."""
    tip = repository.branch(_branch(repository, rng))
    name, existing = rng.choice(NAMES), _branches(repository)
    clash = [one for one in existing if one.startswith(f"{name}/") or name.startswith(f"{one}/")]
    for one in clash:  # a folder becomes a name, or a name becomes a folder
        repository.delete_ref(HEADS + one.encode())
    assert tip is not None
    repository.set_ref(HEADS + name.encode(), tip)


def delete_branch(repository: SimRepository, rng: Rng) -> None:
    """Delete a branch, possibly the main one."""
    repository.delete_ref(HEADS + _branch(repository, rng).encode())


def new_main(repository: SimRepository, rng: Rng) -> None:
    """Make another branch the main one; it may not exist."""
    repository.set_head(rng.choice([*_branches(repository), "unborn"]))


def tag(repository: SimRepository, rng: Rng) -> None:
    """Create or move a tag: lightweight, annotated, of another tag, of a file in a tree."""
    name = rng.choice(("v1", "v2", "nightly"))
    tip = repository.branch(_branch(repository, rng))
    assert tip is not None
    if rng.random() < 0.5:
        repository.set_ref(TAGS + name.encode(), tip)
        return
    value = repository.tag(name, tip, f"{rng.random()}\n")
    if rng.random() < 0.3:
        repository.tag(name, value, "A tag of a tag\n")


def delete_tag(repository: SimRepository, rng: Rng) -> None:
    """Delete a tag."""
    found = sorted(name for name in repository.refs() if name.startswith(TAGS))
    if found:
        repository.delete_ref(rng.choice(found))


def other_ref(repository: SimRepository, rng: Rng) -> None:
    """Create a ref of another kind, possibly below refs/mirror/."""
    tip = repository.branch(_branch(repository, rng))
    assert tip is not None
    repository.set_ref(rng.choice((b"refs/notes/commits", b"refs/x/\xff", b"refs/mirror/keep/no")), tip)


def open_pull_request(repository: SimRepository, rng: Rng) -> None:
    """Open a pull request from a new branch."""
    if repository.branch("main") is None:
        _commit(repository, "main", rng)
    name = f"pr-{len(repository.pull_requests) + 1}"
    tip = repository.branch("main")
    assert tip is not None
    _commit(repository, name, rng, (tip,))
    repository.open_pull_request(source=name, title=f"Pull {name}", author=_user(repository.world))


def contribute(repository: SimRepository, rng: Rng) -> None:
    """Open a pull request from a fork in a workspace of strangers, which the credential may not be able to
    read."""
    if repository.branch("main") is None:
        _commit(repository, "main", rng)
    world = repository.world
    assert isinstance(world, World)
    guests = world.workspaces.get("guests") or world.add_workspace("guests")
    private = rng.random() < 0.3
    fork = guests.add_repository(f"fork-{len(guests.repositories)}", parent=repository, private=private)
    tip = repository.branch("main")
    assert tip is not None
    _commit(fork, "idea", rng, (tip,))
    repository.open_pull_request(source="idea", title="An idea", author=_user(world), fork=fork)


def touch_pull_request(repository: SimRepository, rng: Rng) -> None:
    """Comment on a pull request, push to it, rewrite it, end it, or delete its branch."""
    if not repository.pull_requests:
        open_pull_request(repository, rng)
    ann = _user(repository.world)
    pull = repository.pull_requests[rng.choice(sorted(repository.pull_requests))]
    pull.comment(f"Comment {rng.random()}", author=ann)
    has_branch = repository.branch(pull.source) is not None
    what = rng.choice(("talk", "push", "force", "decline", "merge", "squash", "branch"))
    if what == "push" and has_branch:
        _commit(repository, pull.source, rng)
    elif what == "force" and has_branch:
        _commit(repository, pull.source, rng, ())
    elif what == "branch" and has_branch:
        repository.delete_ref(HEADS + pull.source.encode())
    elif pull.state == "OPEN" and what == "decline":
        pull.decline(author=ann, reason="No")
    elif pull.state == "OPEN" and what in ("merge", "squash") and repository.branch("main") is not None:
        pull.merge(author=ann, squash=what == "squash")


def pipeline(repository: SimRepository, rng: Rng) -> None:
    """Run a pipeline with a log."""
    branch = _branch(repository, rng)
    repository.add_pipeline(branch=branch, steps=[("build", f"log {rng.random()}\n".encode())])


def issue(repository: SimRepository, rng: Rng) -> None:
    """Open an issue, or comment on one."""
    ann = _user(repository.world)
    if repository.issues and rng.random() < 0.5:
        repository.issues[rng.choice(sorted(repository.issues))].comment(f"{rng.random()}", author=ann)
    else:
        repository.add_issue(f"Issue {rng.random()}", author=ann)


def tracker(workspace: SimWorkspace, rng: Rng) -> None:
    """Switch the issue tracker off, or on again."""
    switches = workspace.world.switches
    workspace.world.switches = replace(switches, issue_tracker=not switches.issue_tracker)


def new_repository(workspace: SimWorkspace, rng: Rng) -> None:
    """Create a repository, empty or not. Another one may have had its name."""
    free = [slug for slug in SLUGS if slug not in workspace.repositories]
    if free:
        made = workspace.add_repository(rng.choice(free))
        if rng.random() < 0.7:
            push(made, rng)


def delete_repository(workspace: SimWorkspace, rng: Rng) -> None:
    """Delete a repository; another may take its name."""
    if len(workspace.repositories) > 1:
        slug = rng.choice(sorted(workspace.repositories))
        deleted(workspace).append(workspace.delete_repository(slug))
        if rng.random() < 0.5:
            push(workspace.add_repository(slug), rng)


def restore_repository(workspace: SimWorkspace, rng: Rng) -> None:
    """Restore a deleted repository, if its name is free."""
    back = [one for one in deleted(workspace) if one.slug not in workspace.repositories]
    if back:
        one = rng.choice(back)
        deleted(workspace).remove(one)
        workspace.restore(one)


def rename(workspace: SimWorkspace, rng: Rng) -> None:
    """Rename a repository."""
    free = [slug for slug in SLUGS if slug not in workspace.repositories]
    if free:
        workspace.rename_repository(rng.choice(sorted(workspace.repositories)), rng.choice(free))


def swap(workspace: SimWorkspace, rng: Rng) -> None:
    """Swap the names of two repositories."""
    if len(workspace.repositories) > 1:
        one, two = rng.sample(sorted(workspace.repositories), 2)
        workspace.rename_repository(one, "between")
        workspace.rename_repository(two, one)
        workspace.rename_repository("between", two)


def deleted(workspace: SimWorkspace) -> list[SimRepository]:
    """The deleted repositories that can come back."""
    found: list[SimRepository] = workspace.__dict__.setdefault("deleted", [])
    return found


@dataclass(frozen=True)
class OfRepository:
    """A step that happens to one repository."""

    do: Callable[[SimRepository, Rng], None]


@dataclass(frozen=True)
class OfWorkspace:
    """A step that happens to a workspace."""

    do: Callable[[SimWorkspace, Rng], None]


# Frequent steps appear more than once.
STEPS: tuple[OfRepository | OfWorkspace, ...] = (
    *map(OfRepository, (push, push, force_push, force_push, new_branch, delete_branch, delete_branch)),
    *map(OfRepository, (new_main, tag, delete_tag, other_ref, open_pull_request, pipeline, issue)),
    *map(OfRepository, (contribute, touch_pull_request, touch_pull_request)),
    *map(OfWorkspace, (tracker, new_repository, delete_repository, restore_repository, rename, swap)),
)


def step(workspace: SimWorkspace, rng: Rng) -> str:
    """Run a random step; returns its name."""
    chosen = rng.choice(STEPS)
    if isinstance(chosen, OfWorkspace):
        chosen.do(workspace, rng)
        return chosen.do.__name__
    slug = rng.choice(sorted(workspace.repositories))
    chosen.do(workspace.repositories[slug], rng)
    return f"{chosen.do.__name__} {slug}"
