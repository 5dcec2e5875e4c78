"""A snapshot against itself: what it says it has, against what it has.

Checksums pass where collecting left something out. So the counts that Bitbucket gave, the entries of lists
and what documents say of each other are compared with the documents. Where a snapshot itself says that
something could not be read, its absence is no finding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from mirror import __version__
from mirror.bitbucket import fields
from mirror.collect.catalogue import rows
from mirror.collect.marks import Marks, entry_is_gone
from mirror.git.mirrors.fsck import direct_values
from mirror.model import Json, JsonObject, PartState, pointers, value_at
from mirror.restore.comparison.documents import COMMITS, PULL_REQUESTS, SNIPPETS
from mirror.restore.comparison.sides import StoredSide, object_at
from mirror.store.reading.reader import RepositoryFolder

_MARKS = "settings/_parts.json"
# Rows without a document where there is nothing to ask for.
_AT_TIMES = frozenset({"merge_strategies", "schedule_executions"})


@dataclass(frozen=True)
class Contradiction:
    """Something that a snapshot says, and that is not so. `place` is the repository or workspace, `document`
    what the text is about."""

    place: str
    document: str
    text: str

    @property
    def line(self) -> str:
        """The finding in one line, for people."""
        return f"{self.place} {self.document}: {self.text}"

    def to_json(self) -> JsonObject:
        """The JSON in results."""
        return dict(self.__dict__)


def check_own(side: StoredSide) -> list[Contradiction]:
    """What contradicts itself in a snapshot. Raises StoreDamaged."""
    checks = _OF_REPOSITORY if isinstance(side.folder, RepositoryFolder) else _OF_WORKSPACE
    return [Contradiction(side.name, document, text) for check in checks for document, text in check(side)]


_Found = Iterator[tuple[str, str]]


def _is_whole(side: StoredSide, part: str) -> bool:
    found = side.snapshot.parts.get(part)
    return found is not None and found.state is PartState.COMPLETE


def _in(side: StoredSide, folder: str) -> Iterator[tuple[str, JsonObject]]:
    for path in side.paths():
        if path.startswith(f"{folder}/"):
            yield path, object_at(side, path)


def _pull_requests(side: StoredSide) -> _Found:
    is_whole = _is_whole(side, "pull_requests")
    # The first version did not read all of these, and left no mark.
    others = ("activity", "statuses") if side.snapshot.program == __version__ else ()
    for path, document in _in(side, PULL_REQUESTS):
        marks, thing = Marks.of(document), document.get("pull_request")
        if not isinstance(thing, dict):
            yield path, "the pull request itself is missing"
            continue
        for child, said in (("comments", fields.comment_count(thing)), ("tasks", fields.task_count(thing))):
            held = document.get(child)
            if marks.is_gap(child) or marks.is_gone(child):
                continue
            if held is None and is_whole:
                yield path, f"its {child} were never read, and nothing says so"
            elif held is not None and said is not None:
                there = sum(1 for one in held if fields.is_not_removed(one))
                if there < said:
                    yield path, f"it has {there} {child}, and Bitbucket counted {said}"
        yield from _whole_children(path, document, marks, others, is_whole=is_whole)
        if not marks.is_gap("comments") and not marks.is_gone("comments"):
            yield from _named_comments(path, document)


def _named_comments(path: str, document: JsonObject) -> _Found:
    """Comments that something names: an answer, a task, the activity."""
    comments = document.get("comments")
    if comments is None:
        return
    there = {one.get("id") for one in comments}
    named = {value_at(one, "parent.id"): "an answer" for one in comments}
    named |= {value_at(one, "comment.id"): "a task" for one in document.get("tasks") or []}
    named |= {value_at(one, "comment.id"): "the activity" for one in document.get("activity") or []}
    for number, what in sorted((number, what) for number, what in named.items() if number is not None):
        if number not in there:
            yield path, f"{what} names the comment {number}, which is missing"


def _whole_children(
    path: str, document: JsonObject, marks: Marks, names: tuple[str, ...], *, is_whole: bool
) -> _Found:
    for child in names:
        # An older version did not know every child, and its documents do not name it.
        if is_whole and document.get(child, ()) is None and child not in marks:
            yield path, f"its {child} were never read, and nothing says so"


def _commits(side: StoredSide) -> _Found:
    for path, document in _in(side, COMMITS):
        # Statuses of the heads of pull requests are in the pull request.
        names = ("comments", "participants", "reports")
        yield from _whole_children(
            path, document, Marks.of(document), names, is_whole=_is_whole(side, "commit_comments")
        )


def _counts(side: StoredSide) -> _Found:
    """What `snapshot.json` counts, against the documents and refs."""
    code = side.mirrors.get("code")
    refs = [] if code is None else [name for name in code.refs.refs if not name.startswith(b"refs/mirror/")]
    numbered = {name: sum(1 for _ in _in(side, folder)) for name, folder in _NUMBERED.items()}
    there: dict[tuple[str, str], int] = {
        **{(name, name): count for name, count in numbered.items()},
        ("code", "refs"): len(refs),
        ("lfs", "objects"): len(side.lfs or {}),
        ("lfs", "missing"): sum(1 for _, is_held in (side.lfs or {}).values() if not is_held),
    }
    for (part, count), number in there.items():
        said = side.snapshot.parts[part].counts.get(count) if part in side.snapshot.parts else None
        if said is not None and said != number:
            yield (
                "snapshot.json",
                f"it counts {said} {count.replace('_', ' ')} of {part}, and there are {number}",
            )


_NUMBERED = {"pull_requests": PULL_REQUESTS, "issues": "issues", "pipelines": "pipelines"}


def _refs(side: StoredSide) -> _Found:
    """The refs of the snapshot, against those of the mirrors."""
    for mirror, recorded in sorted(side.mirrors.items()):
        path = side.folder.mirror(mirror)
        held = direct_values(path) if path.is_dir() else set()
        for value in sorted(recorded.values - held):
            yield mirror, f"the hash {value} of its refs is not in the mirror"


def _kinds(side: StoredSide) -> _Found:
    """Documents of kinds that were read, as the snapshot says, and that are absent."""
    if side.snapshot.program != __version__:
        return  # another version may know other kinds
    marks = Marks(object_at(side, _MARKS))
    for row in rows():
        is_here = row.level == "repository" and row.document.startswith(("settings/", "downloads.json"))
        if not is_here or row.name in _AT_TIMES or row.part == "issues" or not _is_whole(side, row.part):
            continue
        if row.name not in marks and side.document(row.document) is None:
            yield row.document, f"the snapshot says that {row.kind} were read, and does not have them"


def _files(side: StoredSide) -> _Found:
    """Files that documents point to, and downloads whose content is missing."""
    for path in side.paths():
        for pointer in pointers(side.document(path)):
            sha256 = str(pointer["sha256"])
            if side.folder.find_file(sha256) is None and sha256 not in side.folder.dropped():
                yield path, f"the file {pointer['name']} is missing"
    if _is_whole(side, "downloads"):
        for one in side.document("downloads.json") or []:
            if "_content" not in one and not entry_is_gone(one):
                yield "downloads.json", f"the content of {one.get('name')} is missing, and nothing says so"


def _snippets(side: StoredSide) -> _Found:
    for path, document in _in(side, SNIPPETS):
        marks = Marks.of(document)
        listed: Mapping[str, Json] = value_at(document, "snippet.files") or {}
        for name in sorted(listed.keys() - (document.get("files") or {}).keys()):
            if not marks:
                yield path, f"the file {name} is missing, and nothing says so"
        is_whole = _is_whole(side, "snippets")
        yield from _whole_children(path, document, marks, ("comments",), is_whole=is_whole)


_Check = Callable[[StoredSide], _Found]
_OF_REPOSITORY: tuple[_Check, ...] = (_pull_requests, _commits, _counts, _refs, _kinds, _files)
_OF_WORKSPACE: tuple[_Check, ...] = (_snippets, _refs, _files)
