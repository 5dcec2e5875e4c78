"""Backing up one repository: documents, then git, then the snapshot.

Self-contained: it needs a client, workers and the store, and ends in one RunEntry whatever happens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mirror import __version__
from mirror.bitbucket.client import Client
from mirror.bitbucket.people import without_people
from mirror.collect.ports import Work
from mirror.collect.repository import Collected, Wanted, collect_repository
from mirror.config.settings import WorkspaceConfig
from mirror.errors import CredentialRefused, Locked, MirrorError, TryLater
from mirror.git.failures import GitUnauthorized
from mirror.git.mirrors import FetchJob, FetchResult, GitLogin
from mirror.git.workers import WorkerPool
from mirror.logs import get_logger
from mirror.model import (
    Clock,
    JsonObject,
    Outcome,
    Part,
    PartState,
    Problem,
    Progress,
    Repository,
    RunEntry,
    name_to_json,
)
from mirror.store.erasing import finish_erasures
from mirror.store.reader import Erased, Erasure
from mirror.store.writer import RepositoryWriter, StoreWriter, Taken, WorkspaceWriter

_log = get_logger("backup")
# So many heads that git did not have are remembered, to be pinned should they turn up.
UNPINNED_MAX = 20_000


@dataclass(frozen=True)
class Tools:
    """What every repository of a workspace is backed up with."""

    store: StoreWriter
    client: Client
    workers: WorkerPool
    config: WorkspaceConfig
    git_url: str
    silence_timeout: float
    clock: Clock
    progress: Progress
    full: bool
    lock_wait: float


async def backup_repository(tools: Tools, home: WorkspaceWriter, repository: Repository) -> RunEntry:
    """Bring one repository's copy up to date. Never raises for what Bitbucket or the disk does.

    A credential refused as a whole is raised: it concerns every other repository, too.
    """
    clock = tools.clock
    began = clock.monotonic()
    folder = ""
    try:
        writer = tools.store.adopt_repository(home, repository, clock.now())
        folder = writer.folder.place
        async with writer.lock(tools.lock_wait, clock) as lock:
            await finish_erasures(
                writer, workers=tools.workers, lock=lock.fileno, without_people=without_people
            )
            erased = Erased([*writer.folder.erasures(), *people_erased(home)], without_people)
            if erased.everything is not None:
                entry = _left_out(writer, erased.everything.reason)
            else:
                entry = await _under_lock(tools, writer, repository, erased, lock.fileno)
    except Locked as error:
        entry = _failed(repository, folder, Outcome.LOCKED, error)
    except CredentialRefused:
        raise
    except MirrorError as error:
        entry = _failed(repository, folder, Outcome.FAILED, error)
    except OSError as error:
        text = f"{error.strerror or type(error).__name__}: {error.filename or folder}"
        entry = _failed(repository, folder, Outcome.FAILED, MirrorError(text))
    tools.progress.report(repository.full_name, "done")
    entry = _timed(entry, clock.monotonic() - began)
    _log.info(
        "backup.repository_done",
        repository=repository.full_name,
        outcome=str(entry.outcome),
        snapshot=entry.snapshot,
        problems=[problem.text for problem in entry.problems],
        seconds=round(entry.seconds, 2),
    )
    return entry


def people_erased(home: WorkspaceWriter) -> list[Erasure]:
    """The people who were erased from a workspace: they stay out of its repositories, new ones too."""
    return [one for one in home.folder.erasures() if one.people]


def _left_out(writer: RepositoryWriter, reason: str) -> RunEntry:
    """The entry of a repository that was erased as a whole: it is not taken up again."""
    return RunEntry(
        kind="repository",
        full_name=writer.folder.full_name,
        uuid=writer.folder.uuid,
        folder=writer.folder.place,
        outcome=Outcome.ERASED,
        facts={"reason": f"it was erased: {reason}"},
    )


def _timed(entry: RunEntry, seconds: float) -> RunEntry:
    return RunEntry(**{**entry.__dict__, "seconds": seconds})


def _failed(repository: Repository, folder: str, outcome: Outcome, error: MirrorError) -> RunEntry:
    return RunEntry(
        kind="repository",
        full_name=repository.full_name,
        uuid=repository.uuid,
        folder=folder,
        outcome=outcome,
        problems=(Problem(error.exit_code, error.message),),
    )


async def _under_lock(
    tools: Tools, writer: RepositoryWriter, repository: Repository, erased: Erased, lock: int
) -> RunEntry:
    begun = tools.clock.now()
    state = writer.read_state()
    draft = writer.work(erased)
    parts_wanted = tools.config.parts
    work = Work(
        client=tools.client,
        repository=repository,
        draft=draft,
        state=state,
        save=writer.write_state,
        clock=tools.clock,
        progress=tools.progress,
        full=tools.full,
    )
    wanted = Wanted(
        parts_wanted.pull_requests, parts_wanted.issues, parts_wanted.pipelines, parts_wanted.pipeline_logs
    )
    collected = await collect_repository(work, wanted)
    heads = {**_remembered(state), **collected.heads}
    result, code, code_problem = await _fetch(tools, writer, repository, heads, erased.refs, lock)
    parts = {"code": code, **collected.parts}
    taken = writer.snapshot(
        draft,
        begun=begun,
        program=__version__,
        parts=parts,
        refs=result.refs if result is not None else None,
        pins=result.pins if result is not None else None,
    )
    held = set(result.pins) if result is not None else set()
    unpinned = {number: head for number, head in heads.items() if result is None or number not in held}
    state["unpinned"] = {str(number): unpinned[number] for number in sorted(unpinned)[-UNPINNED_MAX:]}
    writer.write_state(state)
    problems = _problems(tools.config, parts, collected, code_problem)
    return _entry(writer, taken, parts, result, problems)


def _remembered(state: JsonObject) -> dict[int, str]:
    """Heads that an earlier run could not pin, or was stopped before it could."""
    saved = state.get("unpinned")
    if not isinstance(saved, dict):
        return {}
    return {int(key): str(head) for key, head in saved.items() if key.isdigit()}


async def _fetch(
    tools: Tools,
    writer: RepositoryWriter,
    repository: Repository,
    heads: Mapping[int, str],
    erased: frozenset[bytes],
    lock: int,
) -> tuple[FetchResult | None, Part, MirrorError | None]:
    name = repository.full_name
    try:
        login = await tools.client.git_login()
        job = FetchJob(
            mirror=str(writer.folder.code),
            url=f"{tools.git_url.rstrip('/')}/{repository.workspace}/{repository.slug}.git",
            login=GitLogin(*login) if login is not None else None,
            pins=dict(heads),
            erased=erased,
            silence_timeout=tools.silence_timeout,
        )
        result = await tools.workers.run(
            job, lock_fd=lock, progress=lambda text: tools.progress.report(name, f"git: {text}")
        )
    except MirrorError as error:
        state = PartState.DENIED if isinstance(error, GitUnauthorized) else PartState.PARTIAL
        _log.warning("backup.fetch_failed", repository=name, reason=error.message)
        return None, Part(state, {}, error.message), error
    for change in result.changes:
        if change.kind in ("rewritten", "removed"):
            _log.warning(
                "backup.ref_" + change.kind,
                repository=name,
                ref=name_to_json(change.name),
                old=change.old,
                new=change.new,
            )
    counts = {"refs": len(result.refs.refs), "pull_request_heads": len(result.pins)}
    if result.unpinned:
        counts["pull_request_heads_missing"] = len(result.unpinned)
    if result.refused:
        first, reason = result.refused[0]
        text = f"{len(result.refused)} refs refused, the first {name_to_json(first)!r}: {reason}"
        return result, Part(PartState.PARTIAL, counts, text), None
    return result, Part(PartState.COMPLETE, counts), None


def _problems(
    config: WorkspaceConfig, parts: Mapping[str, Part], collected: Collected, code: MirrorError | None
) -> tuple[Problem, ...]:
    problems = []
    for name, part in parts.items():
        if part.is_settled or name in config.accept_missing:
            continue
        number = 3
        if name in collected.passing:
            number = 75
        if name == "code" and isinstance(code, TryLater | CredentialRefused):
            number = code.exit_code
        problems.append(Problem(number, f"{name} {part.state}: {part.reason or 'no reason given'}", name))
    return tuple(problems)


def _entry(
    writer: RepositoryWriter,
    taken: Taken,
    parts: Mapping[str, Part],
    result: FetchResult | None,
    problems: tuple[Problem, ...],
) -> RunEntry:
    good = Outcome.SAVED if taken.changed else Outcome.CONFIRMED
    outcome = Outcome.PARTIAL if problems else good
    return RunEntry(
        kind="repository",
        full_name=writer.folder.full_name,
        uuid=writer.folder.uuid,
        folder=writer.folder.place,
        outcome=outcome,
        snapshot=taken.snapshot.id,
        tree=taken.snapshot.tree,
        refs_sha256=taken.refs_sha256,
        kept=writer.kept_ids(),
        parts=parts,
        ref_changes=result.changes if result is not None else (),
        problems=problems,
    )
