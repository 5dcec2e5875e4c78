"""Keeping the packs of a repository of documents few.

Each snapshot and each checkpoint is a pack of its own. Every pack costs each reader two open files,
so a thousand of them would be more than a process may open.
"""

from __future__ import annotations

from pathlib import Path

from dulwich.pack import load_pack_index

from mirror.git.durable import sync_folder
from mirror.git.failures import GitFailed
from mirror.git.packs import PackWriter
from mirror.git.refs import open_repository

PACKS_MAX = 50
_KINDS = {1: "commit", 2: "tree", 3: "blob", 4: "tag"}
# What else may stand beside a pack; all of it can be made again.
_BESIDE = (".rev", ".bitmap", ".mtimes")


def consolidate(path: Path) -> int:
    """Merge the small packs of the repository at `path` where it has more than PACKS_MAX.

    Returns how many packs were merged. Every object is read and hashed on the way, and the old
    packs go only after the new one is durable, so a kill at any point loses nothing. The caller
    holds the writer's lock; readers find each object in the old place or the new. Raises GitFailed
    where a pack is damaged: nothing is removed then.
    """
    folder = path / "objects" / "pack"
    for index in folder.glob("pack-*.idx"):
        if not index.with_suffix(".pack").exists():
            _remove(index.with_suffix(".pack"))  # the rest of a merge that was interrupted
    # A pack without an index is not ours to judge: it may be all that is left of its objects.
    packs = [
        pack
        for pack in folder.glob("pack-*.pack")
        if pack.with_suffix(".idx").exists() and not pack.with_suffix(".keep").exists()
    ]
    if len(packs) <= PACKS_MAX:
        return 0
    chosen = _choose({pack: pack.stat().st_size for pack in packs})
    new = _merge(path, chosen)
    if not new:
        return 0
    # C git's index over all packs would point to those that go; git works without it.
    (folder / "multi-pack-index").unlink(missing_ok=True)
    for pack in chosen:
        if pack.name != new:
            _remove(pack)
    sync_folder(folder)
    return len(chosen)


def _remove(pack: Path) -> None:
    """Remove a pack and then what stands beside it: an index alone holds nothing and is told apart."""
    for suffix in (".pack", ".idx", *_BESIDE):
        pack.with_suffix(suffix).unlink(missing_ok=True)


def _choose(sizes: dict[Path, int]) -> list[Path]:
    """The smallest packs, as far as they are worth it: a big one is copied only when the small
    ones together come near its size, so that each byte is copied a few times in all its life."""
    chosen: list[Path] = []
    total = 0
    for pack, size in sorted(sizes.items(), key=lambda item: (item[1], item[0])):
        if len(chosen) > PACKS_MAX // 2 and size > 2 * total:
            break
        chosen.append(pack)
        total += size
    return chosen


def _merge(path: Path, packs: list[Path]) -> str:
    """Write the objects of `packs` into one new pack; returns its name."""
    writer = PackWriter(path / "objects")
    repository = open_repository(path)
    try:
        for pack in packs:
            index = load_pack_index(str(pack.with_suffix(".idx")), repository.object_format)
            try:
                for name, _, _ in index.iterentries():
                    kind, data = repository.object_store.get_raw(name)
                    if writer.add(_KINDS[kind], data) != name.hex():
                        raise GitFailed(f"{path.name}: object {name.hex()} is damaged")
            finally:
                index.close()
        new = writer.publish()
    except (OSError, MemoryError, GitFailed):
        raise
    except Exception as error:
        raise GitFailed(f"{path.name}: a pack is damaged: {type(error).__name__}: {error}") from error
    finally:
        writer.discard()
        repository.close()
    return f"{new}.pack" if new else ""
