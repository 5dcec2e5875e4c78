"""Opening metadata repositories, and reading snapshots from them."""

from __future__ import annotations

import hashlib
import weakref
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from mirror.git.documents.repository import Documents
from mirror.git.failures import GitFailed
from mirror.model import Snapshot, is_snapshot_id, loads
from mirror.store.format import layout
from mirror.store.format.failures import Malformed, StoreDamaged

_OPEN_MAX = 16


class OpenDocuments:
    """A cache of open metadata repositories, which closes the least recently used one.

    Without it a reader of a thousand repositories would run out of file descriptors.
    """

    def __init__(self) -> None:
        self._open: OrderedDict[Path, Documents] = OrderedDict()
        # Close memory maps even if nobody calls `close`.
        weakref.finalize(self, _close_all, self._open)

    def get(self, path: Path) -> Documents:
        """The repository at `path`, opened if necessary."""
        documents = self._open.pop(path, None)
        if documents is None:
            documents = Documents(path)
        self._open[path] = documents
        while len(self._open) > _OPEN_MAX:
            self._open.popitem(last=False)[1].close()
        return documents

    def close(self) -> None:
        """Close all of them."""
        _close_all(self._open)


def _close_all(opened: OrderedDict[Path, Documents]) -> None:
    while opened:
        opened.popitem()[1].close()


@contextmanager
def damage_in(file: str) -> Iterator[None]:
    """Turn the errors of a damaged repository or document into StoreDamaged for `file`."""
    try:
        yield
    except StoreDamaged:
        raise
    except GitFailed as error:
        raise StoreDamaged(file, error.message) from error
    except (ValueError, KeyError, OverflowError) as error:
        raise StoreDamaged(file, str(error) or type(error).__name__) from error


def only_snapshots(tags: Mapping[str, str]) -> dict[str, str]:
    """The tags that name a snapshot, sorted."""
    return {name: tags[name] for name in sorted(tags) if is_snapshot_id(name)}


def snapshot_tags(documents: Documents) -> dict[str, str]:
    """Snapshot id to commit, the oldest first: ids sort as sequences do."""
    return only_snapshots(documents.tags())


def refs_sha256(documents: Documents, tree: str) -> str | None:
    """The sha256 of `refs.json` in `tree`, or None where there is none."""
    data = documents.read(tree, layout.REFS_DOCUMENT)
    return None if data is None else hashlib.sha256(data).hexdigest()


def read_snapshot(documents: Documents, commit: str) -> Snapshot:
    """The snapshot of a commit. Raises GitFailed, ValueError or KeyError where it is damaged."""
    tree = documents.tree_of(commit)
    data = documents.read(tree, layout.SNAPSHOT_DOCUMENT)
    if data is None:
        raise Malformed(f"the commit {commit} has no {layout.SNAPSHOT_DOCUMENT}")
    content = loads(data)
    try:
        snapshot = Snapshot.from_json(content, tree=tree)
    except (TypeError, AttributeError) as error:
        raise Malformed(f"{layout.SNAPSHOT_DOCUMENT} is not of its form: {error}") from error
    if type(content["sequence"]) is not int:
        raise Malformed(f"{layout.SNAPSHOT_DOCUMENT} has no sequence")
    return snapshot
