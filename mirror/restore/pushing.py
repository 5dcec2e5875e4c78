"""Restoring the refs of one repository to a git server. See `push`."""

from __future__ import annotations

from dataclasses import dataclass

from mirror.errors import MirrorError
from mirror.git.refs import OURS
from mirror.git.wire.client import GitLogin
from mirror.git.wire.push import PushJob, PushResult
from mirror.git.workers.pool import WorkerPool
from mirror.model import Progress
from mirror.restore import lfs, server
from mirror.restore.refs import archive_refs, choose_refs
from mirror.restore.report import Item, item_of, lacks_mirror
from mirror.store.reading.reader import At, RepositoryFolder

# What `--to URL` may hold for several repositories, and what stands for each.
REPOSITORY, WORKSPACE = "{repository}", "{workspace}"


@dataclass(frozen=True)
class PushOptions:
    """How to push: `mirror` is `code` or `wiki`, `refs` are globs, `archive` is the prefix of
    `--with-archive`, where it was given."""

    mirror: str
    url: str
    refs: tuple[str, ...]
    archive: bytes | None
    login: GitLogin | None
    overwrite: bool
    dry_run: bool
    pool: WorkerPool
    progress: Progress


def url_of(options: PushOptions, folder: RepositoryFolder) -> str:
    """The URL for a repository: its names stand in place of the placeholders."""
    return options.url.replace(REPOSITORY, folder.slug).replace(WORKSPACE, folder.workspace_slug)


async def push(options: PushOptions, folder: RepositoryFolder, when: At) -> Item:
    """Push one repository's code or wiki; the result names each ref. LFS objects go first. Raises UsageError
    where the options do not fit the snapshot."""
    name, mirror, url = folder.full_name, options.mirror, url_of(options, folder)
    known = folder.metadata.mirrors(when.snapshot).get(mirror)
    if known is None:
        raise lacks_mirror(folder, when.snapshot, mirror)
    refs = {ref: value for ref, value in known.refs.refs.items() if not ref.startswith(OURS)}
    wanted = choose_refs(refs, options.refs)
    archive: dict[bytes, str] = {}
    problems: list[tuple[int, str]] = []
    if options.archive is not None:
        archive, damages = await archive_refs(folder, mirror, when.snapshot, options.archive, options.pool)
        problems += [(damage.exit_code, f"{name}: {damage.message}") for damage in damages]
    head = known.refs.head
    default = head.value if head is not None and head.kind == "symref" else None
    job = PushJob(
        str(folder.mirror(mirror)), url, options.login, wanted | archive, options.overwrite, options.dry_run,
        default=default if default in wanted else None,
    )  # fmt: skip
    result: PushResult | None = None
    objects = lfs.Objects()
    try:
        if mirror == "code":
            objects = await server.send_objects(folder, when.snapshot, job, options.pool, options.progress)
            problems += objects.problems
        result = await options.pool.run(
            job, progress=lambda text, *counts: options.progress.report(name, f"push: {text}", *counts)
        )
        problems += server.problems_of(result, overwrite=options.overwrite)
    except MirrorError as error:
        problems.append((error.exit_code, error.message))
    finally:
        options.progress.report(name, "done")
    return item_of(
        folder, when, url, refs=len(job.refs), archived=len(archive), lfs_objects=objects.restored,
        lfs_absent=objects.absent, is_there=result is not None and bool(result.pushed or result.unchanged),
        problems=tuple(problems), advice=server.advice_of(result) if result is not None else (),
        push=server.to_json(result) if result is not None else None,
    )  # fmt: skip
