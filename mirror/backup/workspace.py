"""The workspace's own snapshot: its profile, and which repositories it had."""

from __future__ import annotations

from mirror import __version__
from mirror.backup.failures import understood
from mirror.backup.repository import problems_of, work_of
from mirror.backup.snippets import PART as SNIPPETS
from mirror.backup.snippets import Snippets, mirror_snippets, part_of_snippets
from mirror.backup.tools import Tools
from mirror.backup.upkeep import keep_up
from mirror.bitbucket import fields
from mirror.bitbucket.people import without_people
from mirror.collect.workspace import collect_workspace
from mirror.discovery import Discovered
from mirror.errors import CredentialRefused, Locked
from mirror.model import Outcome, Part, PartState, Problem, Repository, RunEntry
from mirror.store.erasing import finish_erasures
from mirror.store.reader import Erased
from mirror.store.writer import WorkspaceWriter

PROFILE = "workspace.json"
REPOSITORIES = "repositories.json"


async def backup_workspace(tools: Tools, home: WorkspaceWriter, found: Discovered) -> RunEntry:
    """Keep what belongs to no repository. Whatever goes wrong is told by the entry.

    A credential refused as a whole is raised.
    """
    workspace = found.workspace
    parts = {
        "profile": Part(PartState.COMPLETE)
        if workspace.profile.get("name")
        else Part(PartState.UNAVAILABLE, {}, "only what its repositories tell of it can be read"),
        "repositories": Part(PartState.COMPLETE, {"repositories": len(found.repositories)})
        if not found.problems
        else Part(PartState.PARTIAL, {"repositories": len(found.repositories)}, found.problems[0].text),
    }
    entry = RunEntry("workspace", workspace.slug, workspace.uuid, home.folder.place, Outcome.FAILED)
    try:
        async with home.lock(tools.lock_wait, tools.clock) as lock:
            await finish_erasures(
                home, workers=tools.workers, lock=lock.fileno, without_people=without_people
            )
            begun = tools.clock.now()
            erased = Erased(home.folder.erasures(), without_people)
            draft = home.work(erased)
            profile = fields.merged(draft.get(PROFILE), fields.stable(workspace.profile))
            draft.put(PROFILE, profile)
            draft.put(REPOSITORIES, {one.uuid: one.full_name for one in found.repositories})
            # As far as addresses go, a workspace is a repository without a name.
            nameless = Repository(workspace.uuid, workspace.slug, "")
            work = work_of(tools, home, nameless, draft, until=tools.until)
            wanted = tools.config.parts
            parts |= await collect_workspace(
                work, with_settings=wanted.settings, with_snippets=wanted.snippets
            )
            mirrored = Snippets()
            if wanted.snippets:
                mirrored = await mirror_snippets(tools, home, work, erased, lock.fileno)
                parts[SNIPPETS] = part_of_snippets(home, work, parts[SNIPPETS], mirrored)
            taken = home.snapshot(
                draft, begun=begun, program=__version__, parts=parts, mirrors=mirrored.mirrors
            )
            work.checkpoint_state()
            kept = home.kept_ids()
            fetched = {name: path for name, path in home.folder.mirrors().items() if name in mirrored.mirrors}
            kept_up = await keep_up(
                fetched,
                repository=workspace.slug,
                lock=lock.fileno,
                workers=tools.workers,
                clock=tools.clock,
                progress=tools.progress,
            )
    except Locked as error:
        problem = Problem(error.exit_code, error.message)
        return RunEntry(**{**entry.__dict__, "outcome": Outcome.LOCKED, "problems": (problem,)})
    except CredentialRefused:
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, the run goes on and tells of it
        fault = understood(error, home.folder.place)
        return RunEntry(**{**entry.__dict__, "problems": (Problem(fault.exit_code, fault.message),)})
    # A narrow token can never read the workspace itself, so that alone is no failure of the run.
    problems = problems_of(tools.config, parts, work.codes)
    good = Outcome.SAVED if taken.changed else Outcome.CONFIRMED
    return RunEntry(
        kind="workspace",
        full_name=workspace.slug,
        uuid=workspace.uuid,
        folder=home.folder.place,
        outcome=Outcome.PARTIAL if problems else good,
        snapshot=taken.snapshot.id,
        tree=taken.snapshot.tree,
        kept=kept,
        parts=parts,
        ref_changes=tuple(mirrored.changes),
        problems=problems,
        facts=kept_up,
    )
