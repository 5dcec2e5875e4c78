"""The parts of a restore to a git server around the push: LFS objects, and the report."""

from __future__ import annotations

from dataclasses import replace

from mirror.git.failures import GitFailed
from mirror.git.wire.push import PushJob, PushResult
from mirror.git.workers.pool import WorkerPool
from mirror.model import JsonObject, Progress, Snapshot, name_to_json
from mirror.restore import lfs
from mirror.store.reading.reader import RepositoryFolder

# The number of refs refused for the same reason that are named.
NAMED_MAX = 20


async def send_objects(
    folder: RepositoryFolder, snapshot: Snapshot, job: PushJob, pool: WorkerPool, progress: Progress
) -> lfs.Objects:
    """Send the LFS objects before the refs are pushed, so that no pointer lacks its object."""
    tips = list(job.refs.values())
    try:
        oids = await lfs.reached_by(folder, tips, pool)
    except GitFailed as error:  # the code may be complete all the same
        return lfs.Objects(problems=((4, error.message),))
    if not oids or job.dry_run:
        return lfs.Objects(len(oids))
    planned = await pool.run(replace(job, dry_run=True))
    if planned.would_overwrite and not job.overwrite:
        return lfs.Objects(len(oids))
    return await lfs.to_url(
        folder, snapshot, oids, tips, job.url, job.login, pool,
        lambda text, *counts: progress.report(folder.full_name, f"lfs: {text}", *counts),
    )  # fmt: skip


def problems_of(result: PushResult, *, overwrite: bool) -> list[tuple[int, str]]:
    """The problems of a push, each with its exit code; refs refused for the same reason are one problem."""
    problems: list[tuple[int, str]] = []
    if result.would_overwrite and not overwrite:
        first, count = name_to_json(result.would_overwrite[0]), len(result.would_overwrite)
        text = f"the target has {count} of these refs with another value, such as {first}"
        problems.append((2, f"{text}; nothing was pushed (see --overwrite)"))
    by_reason: dict[str, list[str]] = {}
    for name, why in result.refused:
        if name in result.damaged:
            problems.append(
                (4, f"{name_to_json(name)} cannot be read from the store: {why}; run mirror verify")
            )
        else:
            by_reason.setdefault(why, []).append(name_to_json(name))
    for why, names in by_reason.items():
        count_text = f"{len(names)} refs: " if len(names) > 1 else ""
        more = f" and {len(names) - NAMED_MAX} more" if len(names) > NAMED_MAX else ""
        problems.append((3, f"the target refused {count_text}{', '.join(names[:NAMED_MAX])}{more}: {why}"))
    if result.error is not None:
        problems.append((result.error.exit_code, result.error.message))
    return problems


def advice_of(result: PushResult) -> tuple[str, ...]:
    """What the user must do at the target after a push."""
    found = result.default
    if found is None or found.is_set:
        return ()
    wanted = name_to_json(found.wanted)
    short = wanted.removeprefix("refs/heads/")
    if found.problem is not None:
        has = f"could not be asked for ({found.problem})"
    elif found.theirs is None:
        has = "is one that it does not have"
    else:
        has = f"is {name_to_json(found.theirs).removeprefix('refs/heads/')}"
    where = f"in the repository's settings, or in a plain repository: git symbolic-ref HEAD {wanted}"
    text = f"set the default branch to {short} at the target, where it {has}, {where}"
    return (f"{text}; else whoever clones it gets other files, or none",)


def to_json(result: PushResult) -> JsonObject:
    """The JSON of a push that `--json` prints."""
    default = result.default
    return {
        "pushed": [name_to_json(ref) for ref in result.pushed],
        "unchanged": [name_to_json(ref) for ref in result.unchanged],
        "refused": [{"ref": name_to_json(ref), "reason": why} for ref, why in result.refused],
        "would_overwrite": [name_to_json(ref) for ref in result.would_overwrite],
        "left_alone": [name_to_json(ref) for ref in result.unrelated],
        "default_branch": None
        if default is None
        else {
            "wanted": name_to_json(default.wanted),
            "target": None if default.theirs is None else name_to_json(default.theirs),
            "set": default.is_set,
            "problem": default.problem,
        },
    }
