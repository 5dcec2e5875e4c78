"""Pruning a folder: the tags at once, then the bytes that no kept snapshot needs.

`pruned.json` is written before the first tag is removed, and marked as done after the last byte is free:
the next run finishes what a killed one began.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime

from mirror.git.documents.rewrite import distinct_documents, packed_sizes
from mirror.git.mirrors.gc import DiskUsageJob
from mirror.git.refs import read_all
from mirror.git.workers.pool import WorkerPool
from mirror.model import time_text
from mirror.reclaim.freeing import (
    Freed,
    ListedFiles,
    list_files,
    remove_files,
    unlisted_files,
    unneeded_keeps,
)
from mirror.store.format import layout
from mirror.store.format.removals import Pruned
from mirror.store.reading.documents import damage_in
from mirror.store.writing.folder_writer import AnyWriter
from mirror.store.writing.small_files import write_dropped, write_pruned


def begin_pruning(writer: AnyWriter, run: str, drop: Collection[str]) -> None:
    """Record that the run `run` removes the snapshots `drop`, and remove their tags."""
    writer.mark_removed(drop, run, "retention")
    write_pruned(writer.path, Pruned(run, tuple(sorted(drop)), done=False))
    with damage_in(writer.folder.metadata.file):
        writer.documents.set_refs({f"refs/tags/{name}": None for name in drop})


def finish_pruning(writer: AnyWriter) -> None:
    """Record that the bytes of the removed snapshots are free."""
    pruned = writer.folder.pruned()
    if pruned is not None and not pruned.done:
        write_pruned(writer.path, replace(pruned, done=True))


def drop_logs(writer: AnyWriter, sha256s: Collection[str], now: datetime, listed: ListedFiles) -> int:
    """Remove the step logs `sha256s`; returns the bytes freed.

    The pointers to them stay. The folder's list of dropped logs says when each was removed.
    """
    before = writer.folder.dropped()
    dropped = {one: when for one, when in before.items() if one in listed.files}
    dropped |= {one: time_text(now) for one in sha256s if one not in dropped}
    if dropped != before:
        write_dropped(writer.path, dropped)
    found = (writer.folder.find_file(one) for one in sorted(sha256s))
    return remove_files([one.path for one in found if one is not None])


async def estimate_freed(
    writer: AnyWriter, workers: WorkerPool, drop: Collection[str], logs: Collection[str]
) -> Freed:
    """The bytes that removing the snapshots `drop` and the step logs `logs` would free; changes nothing.

    Exact for files. For documents and code it is the present size of their objects.
    """
    documents, folder = writer.documents, writer.folder
    with damage_in(folder.metadata.file):
        snapshots = folder.metadata.snapshots()
        kept = [one for one in snapshots if one.id not in drop]
        work = documents.head(layout.WORK)
        kept_tree = [one.tree for one in kept] + ([documents.tree_of(work)] if work is not None else [])
        stays = {blob for _, blob in distinct_documents(documents, kept_tree)}
        goes = {blob for _, blob in distinct_documents(documents, [one.tree for one in snapshots])} - stays
        sizes = packed_sizes(documents.path)
    freed = Freed(documents=sum(sizes.get(blob, 0) for blob in goes))
    listed = list_files(documents, kept_tree)
    paths = unlisted_files(folder, listed, kept) if drop else []
    paths += [found.path for one in sorted(logs) if (found := folder.find_file(one)) is not None]
    freed += Freed(files=sum(path.stat().st_size for path in set(paths)))
    named = folder.metadata.hash_usage(kept) if drop else {}
    for mirror, path in folder.mirrors().items() if drop else ():
        kept_hashes = set(named.get(mirror, ()))
        gone = unneeded_keeps(path, kept_hashes)
        if gone:
            others = {value for value in read_all(path).values() if value not in gone} | kept_hashes
            answer = await workers.run(DiskUsageJob(str(path), tuple(sorted(gone)), tuple(sorted(others))))
            freed += Freed(code=answer.size)
    return freed
