"""Copies of a mirror as it was: a bare repository, or an ordinary clone with its work tree.

Objects are copied, never linked: a copy must not share its fate with the store.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from dulwich.index import build_index_from_tree
from dulwich.objects import ObjectID

from mirror.git.durable import sync_folder, write_file
from mirror.git.failures import GitFailed
from mirror.git.objects import COMMIT, read, tree_of
from mirror.git.refs import OURS, closed_after, open_repository, top_of, write_head, write_packed
from mirror.model import Head, Refs

_TRIES = 10
_CONFIG = b"[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = %s\n"


def copy_at(mirror: Path, target: Path, refs: Refs, *, tell: Callable[[str], None] = lambda _: None) -> None:
    """Make `target` a bare repository with exactly `refs` and their HEAD.

    `target` must be absent or an empty folder. Raises GitFailed where it is not, or where an object
    that a ref names is not in the mirror.
    """
    _copy(mirror, target, refs, bare=True, tell=tell)


def checkout(mirror: Path, target: Path, refs: Refs, *, tell: Callable[[str], None] = lambda _: None) -> None:
    """Make `target` an ordinary clone with exactly `refs`, and HEAD's files where it is born."""
    if target.exists() and any(target.iterdir()):
        raise GitFailed(f"{target} is not empty; nothing was written")
    _copy(mirror, target / ".git", refs, bare=False, tell=tell)
    value = _head_value(refs)
    if value is None:
        return
    tell("files")
    with closed_after(open_repository(target / ".git")) as repository:
        kind, data = read(repository.object_store, value)
        tree = tree_of(data) if kind == COMMIT else None
        if tree is not None:
            build_index_from_tree(
                str(target), str(target / ".git" / "index"), repository.object_store, ObjectID(tree.encode())
            )


def _head_value(refs: Refs) -> str | None:
    if refs.head is None:
        return None
    if refs.head.kind == "detached":
        return refs.head.value.decode("ascii")
    return refs.refs.get(refs.head.value)


def _copy(mirror: Path, target: Path, refs: Refs, *, bare: bool, tell: Callable[[str], None]) -> None:
    if target.exists() and any(target.iterdir()):
        raise GitFailed(f"{target} is not empty; nothing was written")
    for folder in ("", "objects/pack", "objects/info", "refs/heads", "refs/tags", "info"):
        (target / folder).mkdir(parents=True, exist_ok=True)
    _copy_objects(mirror / "objects", target / "objects", tell)
    write_file(target / "config", _CONFIG % (b"true" if bare else b"false"))
    head = refs.head if refs.head is not None else Head("unborn", b"refs/heads/main")
    write_head(target, head)
    wanted = {name: value for name, value in refs.refs.items() if not name.startswith(OURS)}
    with closed_after(open_repository(target)) as repository:
        for name, value in wanted.items():
            if ObjectID(value.encode("ascii")) not in repository.object_store:
                raise GitFailed(
                    f"{value}, which {name.decode('utf-8', 'replace')} names, is not in the mirror"
                )
        tops = {}
        for name, value in wanted.items():
            top = top_of(repository.object_store, value)
            if top is not None:
                tops[name] = top
    write_packed(target, wanted, tops)


def _copy_objects(source: Path, target: Path, tell: Callable[[str], None]) -> None:
    """Copy all objects. Upkeep may put them into other packs meanwhile, so what is found to be gone
    is looked for again: what upkeep removes is in a pack that is there before it does."""
    for _ in range(_TRIES):
        files = [path for path in source.glob("pack/pack-*") if path.suffix in (".pack", ".idx")]
        files += list(source.glob("[0-9a-f][0-9a-f]/*"))
        # Packs before their indexes: a reader never sees an index without its pack.
        files.sort(key=lambda path: path.suffix == ".idx")
        for number, path in enumerate(files, start=1):
            tell(f"copying {number} of {len(files)}")
            copy = target / path.relative_to(source)
            if copy.exists():
                continue
            copy.parent.mkdir(exist_ok=True)
            try:
                shutil.copyfile(path, copy)
            except FileNotFoundError:
                copy.unlink(missing_ok=True)
                break
        else:
            sync_folder(target / "pack")
            return
    raise GitFailed(f"{source.parent.name}: its packs change faster than they can be copied")
