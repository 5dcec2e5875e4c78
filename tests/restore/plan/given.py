"""A snapshot that is made of plain documents, and the documents of a pull request and its discussion."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

from mirror.model import Json, Refs, Repository, Snapshot
from mirror.restore.plan.source import Options, Source, Target
from mirror.restore.plan.steps import Call, Loss, Step
from mirror.store.reading.folders import AnyFolder
from mirror.store.reading.reader import MirrorRefs

UUID = "{0f9c4a2e-1111-4222-8333-444455556666}"
TARGET = Target("spare", "site")
A, B, C = (digit * 40 for digit in "abc")
MADE = Step | Loss
ANN = {"display_name": "Ann Archer", "uuid": "{ann}", "account_id": "557058:" + UUID.strip("{}")}
BOB = {"display_name": "Bob Baker", "uuid": "{bob}", "account_id": "5b10a2844c20165700ede21f"}


@dataclass(frozen=True)
class Given(Source):
    """`documents` by path, `branches` and `pinned` heads by hash."""

    documents: Mapping[str, Json] = field(default_factory=dict)
    branches: Mapping[str, str] = field(default_factory=dict)
    pinned: Mapping[int, str] = field(default_factory=dict)

    @property
    def repository(self) -> Repository:
        return Repository(UUID, "acme", "website")

    @property
    def mirrors(self) -> Mapping[str, MirrorRefs]:
        refs = {b"refs/heads/" + name.encode(): value for name, value in self.branches.items()}
        return {"code": MirrorRefs(Refs(refs), self.pinned)}

    def document(self, path: str) -> Json | None:
        return self.documents.get(path)

    def paths(self, prefix: str = "") -> list[str]:
        return sorted(path for path in self.documents if path.startswith(f"{prefix}/"))


def given(
    documents: Mapping[str, Json] | None = None,
    branches: Mapping[str, str] | None = None,
    pinned: Mapping[int, str] | None = None,
) -> Given:
    """A snapshot of `acme/website`, whose branches are `main` (A) and `topic` (B) unless others are given."""
    when = datetime(2026, 11, 28, tzinfo=UTC)
    snapshot = Snapshot("20261128T000000Z", when, 1, "mirror", UUID, "acme/website", {})
    known = {"main": A, "topic": B} if branches is None else branches
    return Given(cast("AnyFolder", None), snapshot, "website", documents or {}, known, pinned or {})


def pull(number: int = 12, branch: str = "topic", **more: Any) -> dict[str, Any]:
    """An open pull request of the repository itself, as Bitbucket shows it."""
    home = {"full_name": "acme/website", "uuid": UUID}
    return {
        "id": number, "title": "New prices", "description": "Cheaper.", "state": "OPEN", "draft": False,
        "close_source_branch": True, "author": ANN, "reviewers": [], "participants": [],
        "created_on": "2026-03-02T09:30:00.000000+00:00",
        "source": {"branch": {"name": branch}, "repository": home, "commit": {"hash": B[:12]}},
        "destination": {"branch": {"name": "main"}, "repository": home},
        **more,
    }  # fmt: skip


def document(shown: Json = None, **children: Any) -> dict[str, Any]:
    """The document of a pull request in the store."""
    return {"pull_request": shown or pull(), "comments": [], "tasks": [], "statuses": [], **children}


def comment(identifier: int, text: str = "Hm.", **more: Any) -> dict[str, Any]:
    """A comment of Ann's, each a minute after the one before."""
    return {
        "id": identifier, "content": {"raw": text}, "user": ANN, "deleted": False, "pending": False,
        "created_on": f"2026-03-02T10:{identifier:02}:00.000000+00:00", **more,
    }  # fmt: skip


def steps(made: Iterable[MADE]) -> dict[str, Step]:
    """The steps among what a planner made, by key."""
    return {one.key: one for one in made if isinstance(one, Step)}


def losses(made: Iterable[MADE]) -> dict[str, Loss]:
    """The losses among what a planner made, by key."""
    return {one.key: one for one in made if isinstance(one, Loss)}


def body(step: Step) -> dict[str, Any]:
    """The body of the request that a step sends."""
    assert isinstance(step.action, Call) and isinstance(step.action.body, dict)
    return step.action.body


EVERYTHING = Options()
