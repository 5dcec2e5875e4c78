"""Backing up one repository: what there is, then git, then what belongs to each thing, then the
snapshot.

Self-contained: it needs a client, workers and the store, and ends in one RunEntry whatever happens.
What takes more requests than are left is asked for by `fill_repository`, when every repository has had
its turn.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from mirror import __version__
from mirror.backup.brake import FolderJudge, problems_of_folder
from mirror.backup.failures import problems_of_ledger, understood
from mirror.backup.git import lfs
from mirror.backup.git.heads import Ask, Heads, look_elsewhere
from mirror.backup.git.identity import AnotherRepository, check_identity, is_suspect
from mirror.backup.git.maintenance import keep_up
from mirror.backup.git.mirrors import fetch_mirror, login_for_git, part_of_refs, with_each_login
from mirror.backup.git.wiki import backup_wiki
from mirror.backup.refused import api_refused, told_once, without_the_api
from mirror.backup.tools import Tools
from mirror.bitbucket.client.budget import Priority
from mirror.bitbucket.people import without_people
from mirror.collect import repository as collecting
from mirror.collect.kinds import commits, heads
from mirror.collect.ports import Draft, Work
from mirror.collect.repository import Wanted
from mirror.config.settings import WorkspaceConfig
from mirror.errors import CredentialRefused, Locked, MirrorError, TryLater
from mirror.git.failures import GitUnauthorized
from mirror.git.lfs.sync import LfsJob
from mirror.git.mirrors.fetch import FetchJob, FetchResult, GitLogin
from mirror.git.mirrors.pull_request_heads import HeadsJob, HeadsResult
from mirror.git.refs import OURS, roll_back
from mirror.logs import get_logger
from mirror.model import (
    JsonObject,
    Outcome,
    Part,
    PartState,
    Problem,
    RefChange,
    Refs,
    Repository,
    RunEntry,
    name_to_json,
)
from mirror.reclaim.erasing import finish_erasures
from mirror.store.format.layout import BRAKE_FILE
from mirror.store.reading.reader import Erasure, ErasureFilter, StoreDamaged
from mirror.store.writing.draft import DocumentDraft
from mirror.store.writing.writer import RepositoryWriter, SnapshotResult, WorkspaceWriter

_log = get_logger("backup")
# What problems call the file that says whose a folder is.
CARD = "card"
# The order in which what is due is asked for.
ORDER = (Priority.OPEN, Priority.CLOSED, Priority.OLD, Priority.IDLE)


@dataclass(frozen=True)
class Backed:
    """What came of one repository's turn. `rest` is there where something is still to be asked for."""

    entry: RunEntry
    rest: Rest | None = None


@dataclass(frozen=True)
class Rest:
    """What `fill_repository` needs to know of the turn before: the parts that could not be read, those that
    git gave (the code, its LFS objects, the wiki), the exit codes of what these lack, and the pull requests
    whose head is pinned."""

    repository: Repository
    unread: Mapping[str, Part]
    git: Mapping[str, Part]
    codes: Mapping[str, int]
    pinned: frozenset[int] | None


async def backup_repository(tools: Tools, home: WorkspaceWriter, repository: Repository) -> Backed:
    """Bring one repository's copy up to date. Its entry names whatever goes wrong."""

    async def turn(writer: RepositoryWriter, erased: ErasureFilter, lock: int) -> Backed:
        return await _under_lock(tools, writer, repository, erased, lock)

    done = await _locked(tools, home, repository, turn)
    tools.progress.report(repository.full_name, "done")
    entry = done.entry
    _log.info(
        "backup.repository_done",
        repository=repository.full_name,
        outcome=str(entry.outcome),
        snapshot=entry.snapshot,
        problems=[problem.text for problem in entry.problems],
        seconds=round(entry.seconds, 2),
    )
    return done


async def fill_repository(
    tools: Tools, home: WorkspaceWriter, before: Backed, priority: Priority, *, last: bool
) -> Backed:
    """Ask for what is due with this priority, waiting for the rate limit where need be.

    With `last` the outcome is made a snapshot; until then it is kept as work towards one. Where that fails,
    what the turn before came to stays told, and is partial.
    """
    rest = before.rest
    assert rest is not None

    async def turn(writer: RepositoryWriter, erased: ErasureFilter, lock: int) -> Backed:
        del lock
        begun = tools.clock.now()
        draft, wanted = writer.draft(erased), _wanted(tools.config)
        work = work_of(tools, writer, rest.repository, draft, until=tools.until)
        if priority is not Priority.IDLE:
            await collecting.activity(work, wanted)
        await collecting.fill(work, wanted, priority)
        if not last:
            return before
        code = heads.counted(work, rest.git["code"], rest.pinned)
        parts = {**rest.git, "code": code, **collecting.parts(work, wanted, dict(rest.unread))}
        taken = writer.snapshot(
            draft,
            begun=begun,
            program=__version__,
            parts=parts,
            last_confirmed=tools.last_confirmed("repository", rest.repository.uuid),
        )
        work.checkpoint_state()
        problems = problems_of(tools.config, parts, {**work.codes, **rest.codes})
        entry = _entry(tools, writer, taken, parts, before.entry.ref_changes, problems, before.entry.facts)
        remade = tuple(one for one in before.entry.problems if one.part == CARD)
        entry = replace(entry, problems=(*entry.problems, *remade))
        if before.entry.outcome is Outcome.SAVED and entry.outcome is Outcome.CONFIRMED:
            entry = replace(entry, outcome=Outcome.SAVED)
        return Backed(replace(entry, seconds=before.entry.seconds))

    done = await _locked(tools, home, rest.repository, turn)
    if done.entry.outcome not in (Outcome.FAILED, Outcome.LOCKED):
        return done
    # What the turn before saved is in the store, whatever became of the rest.
    entry = replace(
        before.entry,
        outcome=Outcome.PARTIAL,
        problems=(*before.entry.problems, *done.entry.problems),
        seconds=before.entry.seconds + done.entry.seconds,
    )
    return Backed(entry)


async def _locked(
    tools: Tools,
    home: WorkspaceWriter,
    repository: Repository,
    turn: Callable[[RepositoryWriter, ErasureFilter, int], Awaitable[Backed]],
) -> Backed:
    """Take a turn with the lock of the repository's folder held."""
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
            erased = ErasureFilter([*writer.folder.erasures(), *people_erased(home)], without_people)
            if erased.everything is not None:
                done = Backed(_left_out(writer, erased.everything.reason))
            else:
                done = await turn(writer, erased, lock.fileno)
    except Locked as error:
        done = Backed(_failed(repository, folder, Outcome.LOCKED, error))
    except Exception as error:  # noqa: BLE001 - one repository's failure is its entry's, whatever it is
        fault = understood(error, folder or repository.full_name)
        done = Backed(_failed(repository, folder, Outcome.FAILED, fault))
    seconds = done.entry.seconds + clock.monotonic() - began
    return replace(done, entry=replace(done.entry, seconds=seconds))


def problem_of_remade(damage: StoreDamaged) -> Problem:
    """The problem of a folder whose card was lost and made again from its snapshots."""
    text = f"{damage.file} was damaged ({damage.problem}) and is made again; former names are lost with it"
    return Problem(4, text, CARD)


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


def _failed(repository: Repository, folder: str, outcome: Outcome, error: MirrorError) -> RunEntry:
    return RunEntry(
        kind="repository",
        full_name=repository.full_name,
        uuid=repository.uuid,
        folder=folder,
        outcome=outcome,
        problems=(Problem(error.exit_code, error.message, hint=error.hint),),
    )


def _wanted(config: WorkspaceConfig) -> Wanted:
    parts = config.parts
    return Wanted(
        parts.pull_requests, parts.issues, parts.pipelines, parts.pipeline_logs, parts.downloads,
        parts.settings, bool(parts.commit_comments), parts.commit_comments == "all",
    )  # fmt: skip


def work_of(
    tools: Tools,
    writer: RepositoryWriter | WorkspaceWriter,
    repository: Repository,
    draft: Draft,
    *,
    until: float,
) -> Work:
    """What collecting into a folder needs; it may wait for requests `until` then (monotonic)."""
    work = Work(
        client=tools.client,
        repository=repository,
        draft=draft,
        state=writer.read_state(),
        save=writer.write_state,
        clock=tools.clock,
        progress=tools.progress,
        full=tools.full,
        until=until,
        agreed=frozenset(tools.config.accept_missing),
        lacking=tools.lacking,
    )
    work.last_checkpoint = tools.clock.monotonic()
    return work


async def _under_lock(
    tools: Tools, writer: RepositoryWriter, repository: Repository, erased: ErasureFilter, lock: int
) -> Backed:
    begun = tools.clock.now()
    # Only what there is may wait for requests here: the other repositories want their turn.
    draft, wanted = writer.draft(erased), _wanted(tools.config)
    work = work_of(tools, writer, repository, draft, until=tools.clock.monotonic())
    unread: dict[str, Part] = {}
    is_filled = False
    with without_the_api(work, wanted, unread):
        unread.update(await collecting.survey(work, wanted))
        is_filled = _has_room(tools, work, wanted)
        if is_filled:
            await _fill(work, wanted)
    since = commits.walked(work) if wanted.every_commit else None
    told = heads.told_heads(work)
    result, code, code_problem = await _fetch(tools, writer, repository, told, erased.refs, lock, since)
    pins: dict[int, str] | None = None
    if result is not None:
        if is_suspect(result):
            await _check_identity(tools, writer, repository, draft)
        found = Heads(dict(result.pins), set(result.unpinned))
        ask = _asking(tools, writer, repository, lock)
        await look_elsewhere(work, found, ask)
        _note_fetched(work, wanted, result, found)
        if since is not None:
            # What heads from elsewhere bring is walked by the next fetch, which sees their pins.
            commits.note_walked(work, {*result.refs.refs.values(), *result.pins.values()})
        is_filled = is_filled and _has_room(tools, work, wanted)
        if is_filled and not work.refused:
            with without_the_api(work, wanted, unread):
                await _fill(work, wanted)
                before = set(found.pins)
                await look_elsewhere(work, found, ask, own_only=True)
                since_then = {number: value for number, value in found.pins.items() if number not in before}
                collecting.note_pinned_since(work, wanted, since_then)
                heads.note_pinned(work, found.unpinned)
                await collecting.fill(work, wanted, Priority.IDLE)
        pins = found.pins
        code, code_problem = found.judged(code)
    pinned = None if pins is None else frozenset(pins)
    objects = await _lfs(tools, writer, work, lock, code_problem, came=result is not None)
    wiki = await backup_wiki(tools, writer, work, erased, lock, code_came=result is not None)
    of_git = {"code": code, lfs.PART: objects.part, "wiki": wiki.part}
    counted = {**of_git, "code": heads.counted(work, code, pinned)}
    parts = {**counted, **collecting.parts(work, wanted, unread)}
    gone = None if "pull_requests" in unread else frozenset(work.numbers("pull_requests")["gone"])
    judge = FolderJudge(tools, writer, parts, result.refs if result is not None else None, erased.refs, gone)
    taken = writer.snapshot(
        draft,
        begun=begun,
        program=__version__,
        parts=parts,
        refs=result.refs if result is not None else None,
        pins=pins,
        lfs=objects.objects,
        mirrors=wiki.mirrors,
        judge=judge,
        last_confirmed=tools.last_confirmed("repository", repository.uuid),
    )
    judge.finish(taken.snapshot)
    work.checkpoint_state()
    codes = {**work.codes, **_codes_of(code_problem, objects)}
    problems = told_once(problems_of(tools.config, parts, codes), unread, work)
    changes = (*(result.changes if result is not None else ()), *wiki.changes)
    kept_up = await _keep_up(tools, writer, repository, lock) if result is not None else {}
    entry = _entry(tools, writer, taken, parts, changes, problems, {**objects.facts, **kept_up})
    git_codes = {name: number for name, number in codes.items() if name in of_git}
    rest = Rest(repository, unread, of_git, git_codes, pinned)
    is_more = work.stopped is not None or (not is_filled and collecting.to_ask(work, wanted) > 0)
    waits = is_more and not wiki.is_anothers and not api_refused(work, unread)
    return Backed(entry, rest if waits else None)


async def _keep_up(tools: Tools, writer: RepositoryWriter, repository: Repository, lock: int) -> JsonObject:
    """Join the packs of what this folder mirrors where it is worth it; what the run record tells of it."""
    return await keep_up(
        dict(writer.folder.mirrors()),
        repository=repository.full_name,
        lock=lock,
        workers=tools.workers,
        clock=tools.clock,
        progress=tools.progress,
    )


async def _check_identity(
    tools: Tools, writer: RepositoryWriter, repository: Repository, draft: DocumentDraft
) -> None:
    """Undo what a fetch and a survey brought where they were another repository's, and raise it."""
    try:
        await check_identity(tools.client, repository)
    except AnotherRepository:
        latest = writer.folder.metadata.latest()
        known = writer.folder.metadata.code_refs(latest) if latest is not None else None
        refs, pins = known if known is not None else (Refs({}), {})
        roll_back(writer.folder.code, refs.refs, pins, refs.head)
        writer.discard_draft(draft)
        raise


def _note_fetched(work: Work, wanted: Wanted, result: FetchResult, found: Heads) -> None:
    branches = [value for name, value in result.refs.refs.items() if name.startswith(b"refs/heads/")]
    collecting.note_fetched(
        work, wanted, pinned=found.pins, unpinned=found.unpinned, branches=branches, came=result.commits
    )


def _has_room(tools: Tools, work: Work, wanted: Wanted) -> bool:
    """Whether there are requests enough for all that is due here and for the turns of the others."""
    return collecting.to_ask(work, wanted) <= tools.client.remaining() - 3 * tools.others()


async def _fill(work: Work, wanted: Wanted) -> None:
    await collecting.activity(work, wanted)
    for priority in ORDER:
        await collecting.fill(work, wanted, priority)


async def _fetch(
    tools: Tools,
    writer: RepositoryWriter,
    repository: Repository,
    told: Mapping[int, str],
    erased: frozenset[bytes],
    lock: int,
    since: frozenset[str] | None,
) -> tuple[FetchResult | None, Part, MirrorError | None]:
    name = repository.full_name
    job = FetchJob(
        mirror=str(writer.folder.code),
        url=_address(tools, name),
        pins=dict(told),
        erased=erased,
        silence_timeout=tools.silence_timeout,
        since=since,
    )

    async def fetch(login: GitLogin | None) -> FetchResult | MirrorError:
        return await fetch_mirror(tools, replace(job, login=login), name=name, mirror="code", lock=lock)

    try:
        result = await with_each_login(tools, name, fetch)
        if isinstance(result, MirrorError):
            raise result
    except MirrorError as error:
        state = PartState.DENIED if isinstance(error, GitUnauthorized) else PartState.PARTIAL
        _log.warning("backup.fetch_failed", repository=name, reason=error.message)
        return None, Part(state, {}, error.message), error
    counts = {"refs": len(result.refs.refs)}
    ours = sorted(ref for ref in result.refs.refs if ref.startswith(OURS))
    if ours:
        # Under these names the mirror has refs of its own.
        counts["refs_kept_by_value"] = len(ours)
        _log.warning(
            "backup.refs_in_our_place", repository=name, count=len(ours), first=name_to_json(ours[0])
        )
    return result, part_of_refs(result, counts), None


def _address(tools: Tools, full_name: str) -> str:
    return f"{tools.git_url.rstrip('/')}/{full_name}.git"


def _asking(tools: Tools, writer: RepositoryWriter, repository: Repository, lock: int) -> Ask:
    """How heads of pull requests are asked for elsewhere: all of them at the same origin."""
    own = repository.full_name

    async def ask(place: heads.Elsewhere) -> HeadsResult:
        job = HeadsJob(
            mirror=str(writer.folder.code),
            url=_address(tools, place.name or own),
            wants=place.wants,
            login=await login_for_git(tools, own),
            own=place.name == heads.OWN,
            silence_timeout=tools.silence_timeout,
        )
        return await tools.workers.run(
            job, lock_fd=lock, progress=lambda text: tools.progress.report(own, f"heads: {text}")
        )

    return ask


async def _lfs(
    tools: Tools,
    writer: RepositoryWriter,
    work: Work,
    lock: int,
    code_problem: MirrorError | None,
    *,
    came: bool,
) -> lfs.Held:
    """The LFS objects of what git has; where it could not be read now, as they were."""
    if not tools.config.parts.lfs:
        return lfs.OFF
    state, name = work.part_state(lfs.PART), work.repository.full_name
    if not came:
        was_passing = state.get("passing") is True
        return lfs.as_before(writer.folder.metadata.latest(), code_problem, was_passing=was_passing)
    try:
        login = await login_for_git(tools, name)
    except MirrorError as error:
        if isinstance(error, CredentialRefused):
            work.refused.add(lfs.PART)
        return lfs.Held(Part(PartState.PARTIAL, {}, error.message), passing=isinstance(error, TryLater))
    job = LfsJob(
        mirror=str(writer.folder.code),
        url=_address(tools, name),
        login=login,
        silence_timeout=tools.silence_timeout,
    )
    held = await lfs.hold_objects(
        tools.workers, job, name, lock, lambda text: tools.progress.report(name, f"lfs: {text}")
    )
    state["passing"] = held.passing
    return held


def _codes_of(code_problem: MirrorError | None, objects: lfs.Held) -> dict[str, int]:
    """The exit codes of what the code and its LFS objects lack, as far as a later try may mend it, or another
    credential."""
    codes = {}
    if isinstance(code_problem, TryLater | CredentialRefused):
        codes["code"] = code_problem.exit_code
    if objects.passing:
        codes[lfs.PART] = TryLater.exit_code
    return codes


def problems_of(
    config: WorkspaceConfig, parts: Mapping[str, Part], codes: Mapping[str, int]
) -> tuple[Problem, ...]:
    """What is missing in a snapshot's `parts`; `codes` are the exit codes where it is not 3."""
    return tuple(
        Problem(codes.get(name, 3), f"{name} {part.state}: {part.reason or 'no reason given'}", name)
        for name, part in parts.items()
        if not part.is_settled and name not in config.accept_missing
    )


def _entry(
    tools: Tools,
    writer: RepositoryWriter,
    taken: SnapshotResult,
    parts: Mapping[str, Part],
    changes: tuple[RefChange, ...],
    problems: tuple[Problem, ...],
    facts: Mapping[str, Any],
) -> RunEntry:
    good = Outcome.SAVED if taken.changed else Outcome.CONFIRMED
    outcome = Outcome.PARTIAL if problems else good
    if writer.folder.has(BRAKE_FILE):
        facts = {**facts, "files": [BRAKE_FILE]}
    remade = () if writer.identity_damage is None else (problem_of_remade(writer.identity_damage),)
    return RunEntry(
        kind="repository",
        full_name=writer.folder.full_name,
        uuid=writer.folder.uuid,
        folder=writer.folder.place,
        outcome=outcome,
        snapshot=taken.snapshot.id,
        tree=taken.snapshot.tree,
        refs_sha256=taken.refs_sha256,
        ledger=taken.ledger,
        parts=parts,
        ref_changes=changes,
        problems=(
            *problems,
            *problems_of_ledger(tools, writer, taken),
            *remade,
            *problems_of_folder(writer.folder),
        ),
        facts=facts,
    )
