"""How a ref moved between two snapshots: forward, or to another history."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack

from mirror.browse.repository.changes import RefChange
from mirror.browse.repository.code import Code
from mirror.browse.repository.history import Histories
from mirror.errors import MirrorError
from mirror.model import Snapshot
from mirror.store.format.refs_document import split_ref
from mirror.store.reading.folders import AnyFolder

# For so many refs the histories are walked.
_WALKED_MAX = 50


def how_moved(
    folder: AnyFolder, new: Snapshot, several: Iterable[RefChange], histories: Histories
) -> dict[bytes, str]:
    """For each ref that moved: `forwarded` where its new commit has the old one in its history, `rewritten`
    where it has not. Others, and those that cannot be read, are left out: nobody knows."""
    found: dict[bytes, str] = {}
    moved = [one for one in several if one.kind == "moved" and one.old is not None and one.new is not None]
    with ExitStack() as stack:
        opened: dict[str, Code] = {}
        for change in moved[:_WALKED_MAX]:
            mirror, _ = split_ref(change.name)
            try:
                if mirror not in opened:
                    opened[mirror] = stack.enter_context(Code(folder, new, mirror, histories))
                found[change.name] = _kind(opened[mirror], change.old or "", change.new or "")
            except MirrorError:
                continue
    return found


def _kind(code: Code, old: str, new: str) -> str:
    before, after = code.commit_of(old), code.commit_of(new)
    if before is None or after is None:
        return "rewritten"
    return "forwarded" if code.leads_to(after, code.commit(before)) else "rewritten"
