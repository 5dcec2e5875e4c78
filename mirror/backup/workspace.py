"""The workspace's own snapshot: its profile, and which repositories it had."""

from __future__ import annotations

from collections.abc import Collection

from mirror import __version__
from mirror.backup.failures import problems_of_ledger, understood
from mirror.backup.git.maintenance import keep_up
from mirror.backup.git.snippets import PART as SNIPPETS
from mirror.backup.git.snippets import Snippets, mirror_snippets, part_of_snippets
from mirror.backup.repository import problems_of, work_of
from mirror.backup.tools import Tools
from mirror.bitbucket import fields
from mirror.bitbucket.people import without_people
from mirror.collect.catalogue import row_of
from mirror.collect.workspace import collect_workspace
from mirror.discovery import Discovered
from mirror.errors import Locked, MirrorError
from mirror.model import JsonObject, Outcome, Part, PartState, Problem, Repository, RunEntry
from mirror.reclaim.erasing import finish_erasures
from mirror.store.reading.reader import ErasureFilter
from mirror.store.writing.writer import WorkspaceWriter

PROFILE = "workspace.json"
REPOSITORIES = "repositories.json"


async def backup_workspace(tools: Tools, home: WorkspaceWriter, found: Discovered) -> RunEntry:
    """Keep what belongs to no repository. The entry names whatever goes wrong."""
    try:
        async with home.lock(tools.lock_wait, tools.clock) as lock:
            return await _under_lock(tools, home, found, lock.fileno)
    except Locked as error:
        return _failed(home, found, Outcome.LOCKED, error)
    except Exception as error:  # noqa: BLE001 - whatever it is, the run goes on and tells of it
        return _failed(home, found, Outcome.FAILED, understood(error, home.folder.place))


def _failed(home: WorkspaceWriter, found: Discovered, outcome: Outcome, error: MirrorError) -> RunEntry:
    return RunEntry(
        kind="workspace",
        full_name=found.workspace.slug,
        uuid=found.workspace.uuid,
        folder=home.folder.place,
        outcome=outcome,
        problems=(Problem(error.exit_code, error.message, hint=error.hint),),
    )


async def _under_lock(tools: Tools, home: WorkspaceWriter, found: Discovered, lock: int) -> RunEntry:
    workspace, wanted = found.workspace, tools.config.parts
    await finish_erasures(home, workers=tools.workers, lock=lock, without_people=without_people)
    begun = tools.clock.now()
    erased = ErasureFilter(home.folder.erasures(), without_people)
    draft = home.draft(erased)
    draft.put(PROFILE, fields.merged(draft.get(PROFILE), fields.stable(workspace.profile)))
    listed: JsonObject = {one.uuid: one.full_name for one in found.repositories}
    before = draft.get(REPOSITORIES)
    if found.is_broken and isinstance(before, dict):
        listed = {**before, **listed}
    draft.put(REPOSITORIES, listed)
    # As far as addresses go, a workspace is a repository without a name.
    nameless = Repository(workspace.uuid, workspace.slug, "")
    work = work_of(tools, home, nameless, draft, until=tools.until)
    kinds = {tools.client.kind_of(one) for one in tools.client.sign_ins}
    parts = _parts_found(found, kinds) | await collect_workspace(
        work, with_settings=wanted.settings, with_snippets=wanted.snippets
    )
    mirrored = Snippets()
    if wanted.snippets:
        mirrored = await mirror_snippets(tools, home, work, erased, lock)
        parts[SNIPPETS] = part_of_snippets(home, work, parts[SNIPPETS], mirrored)
    taken = home.snapshot(
        draft,
        begun=begun,
        program=__version__,
        parts=parts,
        mirrors=mirrored.mirrors,
        last_confirmed=tools.last_confirmed("workspace", workspace.uuid),
    )
    work.checkpoint_state()
    fetched = {name: path for name, path in home.folder.mirrors().items() if name in mirrored.mirrors}
    kept_up = await keep_up(
        fetched,
        repository=workspace.slug,
        lock=lock,
        workers=tools.workers,
        clock=tools.clock,
        progress=tools.progress,
    )
    # A narrow token can never read the workspace itself, so that alone is no failure of the run.
    problems = (*problems_of(tools.config, parts, work.codes), *problems_of_ledger(tools, home, taken))
    good = Outcome.SAVED if taken.changed else Outcome.CONFIRMED
    return RunEntry(
        kind="workspace",
        full_name=workspace.slug,
        uuid=workspace.uuid,
        folder=home.folder.place,
        outcome=Outcome.PARTIAL if problems else good,
        snapshot=taken.snapshot.id,
        tree=taken.snapshot.tree,
        ledger=taken.ledger,
        parts=parts,
        ref_changes=tuple(mirrored.changes),
        problems=problems,
        facts=kept_up,
    )


def _parts_found(found: Discovered, kinds: Collection[str]) -> dict[str, Part]:
    """What discovery came to. Who has more than a narrow token can read the workspace itself."""
    is_narrow = all(kind in row_of("profile", "workspace").never_for for kind in kinds)
    state = PartState.UNAVAILABLE if is_narrow else PartState.PARTIAL
    unread = Part(state, {}, "only what its repositories say about it can be read")
    counts = {"repositories": len(found.repositories)}
    return {
        "profile": unread if found.is_hidden else Part(PartState.COMPLETE),
        "repositories": Part(PartState.PARTIAL, counts, found.problems[0].text)
        if found.problems
        else Part(PartState.COMPLETE, counts),
    }
