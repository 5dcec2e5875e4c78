"""What collecting lost contradicts what the snapshot says of itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from mirror.model import Json
from mirror.restore.comparison import own
from mirror.restore.comparison.sides import StoredSide
from mirror.store.reading.reader import Store
from tests.drill.sample import whole_store

Document = dict[str, Any]
PULL_REQUEST = "pull-requests/0/3.json"
COMMIT = "commit-comments/91/91a6ed2532fdb244a08f772f4d6b3e899c879434.json"


@dataclass(frozen=True)
class Changed(StoredSide):
    """A stored side, some of whose documents are others; None: it does not have them."""

    others: Document = field(default_factory=dict)

    def document(self, path: str) -> Json | None:
        """See `Side`."""
        return self.others[path] if path in self.others else super().document(path)

    def paths(self) -> list[str]:
        """See `Side`."""
        return [path for path in super().paths() if self.others.get(path, path) is not None]


@pytest.fixture(scope="module")
def sides() -> Iterator[tuple[StoredSide, StoredSide]]:
    with Store.open(whole_store()) as store:
        [website] = [one for one in store.repositories() if one.slug == "website"]
        [acme] = store.workspaces()
        latest = website.metadata.latest(), acme.metadata.latest()
        assert latest[0] is not None and latest[1] is not None
        yield StoredSide(website, latest[0]), StoredSide(acme, latest[1])


def _lines(side: StoredSide) -> list[str]:
    return [one.line for one in own.check_own(side)]


def test_a_whole_snapshot_agrees_with_itself(sides: tuple[StoredSide, StoredSide]) -> None:
    assert [_lines(side) for side in sides] == [[], []]


def _less(child: str) -> Callable[[Document], object]:
    return lambda document: document[child].pop(0)


def _never_read(child: str) -> Callable[[Document], object]:
    return lambda document: document.update({child: None})


FAULTS: dict[str, tuple[str, Callable[[Any], object] | None, str]] = {
    "a comment": (PULL_REQUEST, _less("comments"), "it has 0 comments, and Bitbucket counted 1"),
    "a deleted comment": (
        PULL_REQUEST, lambda document: document["comments"].pop(), "the activity names the comment 6",
    ),
    "a task": (PULL_REQUEST, _less("tasks"), "it has 0 tasks, and Bitbucket counted 1"),
    "the activity": (PULL_REQUEST, _never_read("activity"), "its activity were never read"),
    "all comments": (PULL_REQUEST, _never_read("comments"), "its comments were never read"),
    "a report": (COMMIT, _never_read("reports"), "its reports were never read"),
    "a pull request": (PULL_REQUEST, None, "it counts 3 pull requests of pull_requests, and there are 2"),
    "a setting": ("settings/webhooks.json", None, "the snapshot says that webhooks were read"),
    "a download": (
        "downloads.json", lambda document: document[0].pop("_content"),
        "the content of catalogue.pdf is missing",
    ),
    "a stored file": (
        "downloads.json", lambda document: document[0]["_content"].update(sha256="0" * 64),
        "the file catalogue.pdf is missing",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_what_collecting_lost_is_found(sides: tuple[StoredSide, StoredSide], name: str) -> None:
    path, change, text = FAULTS[name]
    document = None
    if change is not None:
        document = deepcopy(sides[0].document(path))
        change(document)
    found = _lines(Changed(sides[0].folder, sides[0].snapshot, others={path: document}))
    assert any(text in line for line in found), found


def test_a_snippets_file_that_is_listed_must_be_there(sides: tuple[StoredSide, StoredSide]) -> None:
    [path] = [one for one in sides[1].paths() if one.startswith("snippets/")]
    document: Any = deepcopy(sides[1].document(path))
    document["files"] = {}
    found = _lines(Changed(sides[1].folder, sides[1].snapshot, others={path: document}))
    assert found == [f"acme {path}: the file deploy.sh is missing, and nothing says so"]


def test_what_is_marked_as_unread_is_no_finding(sides: tuple[StoredSide, StoredSide]) -> None:
    document: Any = deepcopy(sides[0].document(PULL_REQUEST))
    document |= {"comments": None, "_parts": {"comments": {"state": "partial"}}}
    others: Document = {PULL_REQUEST: document, "settings/webhooks.json": None}
    others["settings/_parts.json"] = {"webhooks": {"state": "denied"}}
    assert _lines(Changed(sides[0].folder, sides[0].snapshot, others=others)) == []


def test_refs_are_held_against_the_mirror(sides: tuple[StoredSide, StoredSide]) -> None:
    website = sides[0]
    code = website.mirrors["code"]
    refs = replace(code.refs, refs={**code.refs.refs, b"refs/tags/v1.0": "1" * 40})
    changed = Changed(website.folder, website.snapshot)
    changed.__dict__["mirrors"] = {"code": replace(code, refs=refs)}
    assert _lines(changed) == [f"acme/website code: the hash {'1' * 40} of its refs is not in the mirror"]
