"""The code of a pull request: its commits, its difference, and the lines around each comment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from mirror.bitbucket.readable.values import Anchor, Comment, PullRequest
from mirror.git.comparison import Changes, CommitInfo, Commits, Comparer, FileChange
from mirror.git.difference import Line
from mirror.git.failures import GitFailed

# So many lines are shown before and after the one that a comment is about.
LINES_BEFORE, LINES_AFTER = 6, 3


@dataclass(frozen=True)
class Place:
    """The lines around a comment; `marked` are the indices of those it is about. `note` says why there are
    none, or where they are from."""

    lines: Sequence[Line] = ()
    marked: frozenset[int] = frozenset()
    note: str = ""


@dataclass(frozen=True)
class Code:
    """What git says of a pull request. `note` says why there is no difference."""

    head: str = ""
    base: str = ""
    commits: Sequence[CommitInfo] = ()
    more_commits: bool = False
    changes: Changes = field(default_factory=lambda: Changes(()))
    note: str = ""


def code_of(pull: PullRequest, comparer: Comparer | None, pin: str | None) -> Code:
    """The commits and the difference of a pull request; `pin` is the head that the mirror keeps."""
    if comparer is None:
        return Code(note="There is no git mirror of this repository to compare commits in.")
    head = _resolved(comparer, pin, pull.source.hash)
    if head is None:
        return Code(note="The backup does not have the commits of this pull request.")
    try:
        return _compared(pull, comparer, head)
    except GitFailed as error:
        return Code(head, note=f"The code of this pull request cannot be read: {error.message}.")


def _compared(pull: PullRequest, comparer: Comparer, head: str) -> Code:
    bases = [_resolved(comparer, pull.destination.hash)]
    merge = _resolved(comparer, pull.merge_commit)
    if merge is not None and merge != head:
        bases.append(next(iter(_commit(comparer, merge).parents), None))
    for base in bases:
        found = comparer.commits(base, head) if base is not None else Commits(None, ())
        if found.merge_base is not None and found.merge_base != head:
            changes = comparer.changes(found.merge_base, head)
            return Code(head, found.merge_base, found.commits, found.more, changes)
    return Code(head, note="The commit that this pull request started from is not known, or has all of it.")


def _resolved(comparer: Comparer, *names: str | None) -> str | None:
    found = (comparer.resolve(name) for name in names if name)
    return next((one for one in found if one is not None), None)


def _commit(comparer: Comparer, identifier: str) -> CommitInfo:
    found = comparer.commit(identifier)
    assert found is not None, "it was resolved"
    return found


def places_of(pull: PullRequest, code: Code, comparer: Comparer | None) -> dict[str, Place]:
    """The code beside each comment that stands in the code, by the comment's id."""
    by_path = {one.old_path: one for one in code.changes.files}
    by_path |= {one.new_path: one for one in code.changes.files}
    return {
        one.id: _place(one.anchor, code, by_path, comparer)
        for one in _all(pull.threads)
        if one.anchor is not None
    }


def _all(comments: Sequence[Comment]) -> Iterator[Comment]:
    waiting = list(comments)
    while waiting:
        one = waiting.pop()
        yield one
        waiting += one.replies


def _place(anchor: Anchor, code: Code, by_path: Mapping[str, FileChange], comparer: Comparer | None) -> Place:
    if anchor.new is None and anchor.old is None:
        return Place(note="About the whole file.")
    if not anchor.is_outdated or anchor.commit is None:
        change = by_path.get(anchor.path)
        for hunk in change.hunks if change is not None else ():
            found = _window(hunk, anchor)
            if found is not None:
                return found
    for commit, note in _sources(anchor, code, comparer):
        lines = comparer.lines(commit, anchor.path) if comparer is not None else None
        number = anchor.new or anchor.old or 0
        if lines is not None and 0 < number <= len(lines):
            first = max(1, number - LINES_BEFORE)
            last = min(len(lines), number + LINES_AFTER)
            shown = [Line(" ", one, one, lines[one - 1]) for one in range(first, last + 1)]
            begin = min(anchor.first or number, number)
            marked = frozenset(range(max(0, begin - first), number - first + 1))
            return Place(shown, marked, note)
    return Place(note="The backup does not have this code.")


def _sources(anchor: Anchor, code: Code, comparer: Comparer | None) -> Iterator[tuple[str, str]]:
    """The commits that may have the lines: what the author of the comment saw, then what git keeps."""
    if comparer is None:
        return
    seen = comparer.resolve(anchor.commit) if anchor.commit else None
    if seen is not None:
        yield seen, "" if seen == code.head else f"As of {seen[:12]}."
    if anchor.new is not None and code.head and not anchor.is_outdated:
        yield code.head, ""
    if anchor.new is None and code.base:
        yield code.base, f"As of {code.base[:12]}, before the change."


def _window(hunk: Sequence[Line], anchor: Anchor) -> Place | None:
    """The lines of a difference around the one that a comment is about; None where that is elsewhere."""

    def number_of(line: Line) -> int | None:
        return line.new if anchor.new is not None else line.old

    wanted = anchor.new if anchor.new is not None else anchor.old
    index = next((at for at, line in enumerate(hunk) if number_of(line) == wanted), None)
    if index is None or wanted is None:
        return None
    begin = max(0, index - LINES_BEFORE)
    lines = hunk[begin : index + 1 + LINES_AFTER]
    first = min(anchor.first or wanted, wanted)
    marked = {at for at, line in enumerate(lines) if first <= (number_of(line) or -1) <= wanted}
    return Place(lines, frozenset(marked))
