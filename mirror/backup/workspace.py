"""The workspace's own snapshot: its profile, its settings and snippets, and which repositories it had."""

from __future__ import annotations

from collections.abc import Collection

from mirror import __version__
from mirror.backup.context import WorkspaceContext
from mirror.backup.entries import failed_entry, problems_of_ledger, problems_of_parts
from mirror.backup.failures import as_mirror_error
from mirror.backup.git.maintenance import run_maintenance
from mirror.backup.git.snippets import PART as SNIPPETS
from mirror.backup.git.snippets import SnippetMirrors, mirror_snippets, part_of_snippets
from mirror.backup.turn import collect_context
from mirror.bitbucket import fields
from mirror.bitbucket.people import without_people
from mirror.collect.catalogue import row_of
from mirror.collect.workspace import collect_workspace
from mirror.discovery import Discovered
from mirror.errors import Locked
from mirror.model import DONE, JsonObject, Outcome, Part, PartState, Repository, RunEntry
from mirror.reclaim.erasing import finish_erasures
from mirror.store.reading.reader import ErasureFilter
from mirror.store.writing.draft import DocumentDraft
from mirror.store.writing.writer import WorkspaceWriter

PROFILE = "workspace.json"
REPOSITORIES = "repositories.json"


async def backup_workspace(workspace: WorkspaceContext, home: WorkspaceWriter, found: Discovered) -> RunEntry:
    """Back up what belongs to no repository. The entry names whatever goes wrong."""
    try:
        async with home.lock(workspace.lock_wait, workspace.clock) as lock:
            return await _under_lock(workspace, home, found, lock.fileno)
    except Locked as error:
        return failed_entry(found.workspace, home.folder.place, Outcome.LOCKED, error)
    except Exception as error:  # noqa: BLE001 - whatever it is, the run goes on and reports it
        fault = as_mirror_error(error, home.folder.place)
        return failed_entry(found.workspace, home.folder.place, Outcome.FAILED, fault)
    finally:
        for subject in (found.workspace.slug, f"{found.workspace.slug}/"):
            workspace.progress.report(subject, DONE)


def _put_found(draft: DocumentDraft, found: Discovered) -> None:
    """Put what was found of the workspace. Repositories that a broken list lacks stay in the document."""
    draft.put(PROFILE, fields.merged(draft.get(PROFILE), fields.stable(found.workspace.profile)))
    listed: JsonObject = {one.uuid: one.full_name for one in found.repositories}
    before = draft.get(REPOSITORIES)
    if found.is_broken and isinstance(before, dict):
        listed = {**before, **listed}
    draft.put(REPOSITORIES, listed)


async def _under_lock(
    workspace: WorkspaceContext, home: WorkspaceWriter, found: Discovered, lock: int
) -> RunEntry:
    wanted, uuid, slug = workspace.config.parts, found.workspace.uuid, found.workspace.slug
    await finish_erasures(home, workers=workspace.workers, lock=lock, without_people=without_people)
    begun = workspace.clock.now()
    erased = ErasureFilter(home.folder.erasures(), without_people)
    draft = home.draft(erased)
    _put_found(draft, found)
    # As far as addresses go, a workspace is a repository without a name.
    nameless = Repository(uuid, slug, "")
    context = collect_context(workspace, home, nameless, draft, until=workspace.run.request.until)
    kinds = {workspace.client.kind_of(one) for one in workspace.client.sign_ins}
    parts = _parts_found(found, kinds) | await collect_workspace(
        context, with_settings=wanted.settings, with_snippets=wanted.snippets
    )
    fetched = SnippetMirrors()
    if wanted.snippets:
        fetched = await mirror_snippets(workspace, home, context, erased, lock)
        parts[SNIPPETS] = part_of_snippets(home, context, parts[SNIPPETS], fetched)
    snapshot = home.snapshot(
        draft,
        begun=begun,
        program=__version__,
        parts=parts,
        mirrors=fetched.mirrors,
        last_confirmed=workspace.last_confirmed("workspace", uuid),
    )
    context.save_state()
    mirrors = {name: path for name, path in home.folder.mirrors().items() if name in fetched.mirrors}
    facts = await run_maintenance(workspace, mirrors, name=slug, lock=lock)
    # A narrow token can never read the workspace itself, so that alone is no failure of the run.
    problems = (
        *problems_of_parts(workspace.config, parts, context.failures.exit_codes),
        *problems_of_ledger(workspace, home, snapshot),
    )
    good = Outcome.SAVED if snapshot.changed else Outcome.CONFIRMED
    return RunEntry(
        kind="workspace",
        full_name=slug,
        uuid=uuid,
        folder=home.folder.place,
        outcome=Outcome.PARTIAL if problems else good,
        snapshot=snapshot.snapshot.id,
        tree=snapshot.snapshot.tree,
        ledger=snapshot.ledger,
        parts=parts,
        ref_changes=tuple(fetched.changes),
        problems=problems,
        facts=facts,
    )


def _parts_found(found: Discovered, kinds: Collection[str]) -> dict[str, Part]:
    """The parts that discovery read. Any credential that is no narrow token can read the workspace itself."""
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
