"""The end of a backup run: what no list had, and what each workspace lost."""

from __future__ import annotations

from mirror.backup.absence import mark_absent, unreached_entries
from mirror.backup.brake import failed_to_judge, judge_workspace
from mirror.backup.context import RunContext, Visit, ignore_damage
from mirror.backup.results import RunResults
from mirror.backup.stored import belongs_to_entry
from mirror.config.settings import WorkspaceConfig
from mirror.errors import CredentialRefused, MirrorError, TryLater
from mirror.model import Outcome, RunEntry
from mirror.store.format.layout import BRAKE_FILE
from mirror.store.reading.reader import RepositoryFolder, Store, StoreDamaged, current_workspace

# The exit codes of what may succeed the next time.
_PASSING = {TryLater.exit_code, CredentialRefused.exit_code}


async def conclude(run: RunContext) -> None:
    """Report what the lists lacked, and judge what each workspace lost, once all of them were listed: what
    one lacks may have been transferred to another."""
    results, store = run.results, run.store.reader
    listed = frozenset(uuid for visit in run.visits for uuid in visit.found.listed)
    if run.request.listed is not None:  # it has workspaces too that are other hosts' alone
        listed |= run.request.listed.uuids()
    for visit in run.visits:
        await _conclude_visit(run, visit, listed)
    if not run.request.selectors:
        _report_damaged(store, results)
    for config in run.found:
        for entry in unreached_entries(config, _unlisted(run, config), is_whole=False):
            results.add(entry)


async def _conclude_visit(run: RunContext, visit: Visit, listed: frozenset[str]) -> None:
    request, results, home, found = run.request, run.results, visit.home, visit.found
    missing = [one for one in visit.held if one.uuid not in listed]
    counts = found.is_whole and not request.selectors
    if counts:
        absent = mark_absent(run.store, missing, request.clock)
    else:
        done = {entry.uuid for entry in results.entries}  # what a broken list lacks was asked for by name
        chosen = [one for one in missing if one.uuid not in done and request.selects(one.full_name)]
        absent = unreached_entries(visit.workspace.config, chosen, is_whole=found.is_whole)
    for entry in (*absent, *_excluded(run, visit)):
        results.add(entry)
    try:
        results.problems += await judge_workspace(visit.workspace, home, whole=counts, listed=listed)
        if not (request.selectors and visit.mark.was_unfinished):  # see `UnfinishedMark.finish`
            visit.mark.finish()
    except (MirrorError, OSError) as error:
        results.problems.append(failed_to_judge(found.workspace.slug, error))
    if home.folder.has(BRAKE_FILE):
        results.brakes.append(home.folder.place)
    if request.announcements is not None and visit.is_reached:
        is_whole = visit.workspace.is_poll and not found.is_broken and _is_polled(visit)
        facts = request.announcements.end_run(home.folder.uuid, visit.began, is_whole=is_whole)
        results.hooks[home.folder.uuid] = facts


def _is_polled(visit: Visit) -> bool:
    """Whether the API was asked about every repository of a visit. One that fails whenever it is tried does
    not count; one that may succeed the next time does."""
    announcements, done = visit.workspace.run.request.announcements, visit.workspace.run.results.done
    assert announcements is not None
    for one in visit.found.repositories:
        if announcements.is_polled(one.uuid, visit.began):
            continue
        entry = done.get(("repository", one.uuid))
        if entry is None or entry.outcome not in (Outcome.FAILED, Outcome.ERASED):
            return False
        if _PASSING & {problem.code for problem in entry.problems}:
            return False
    return True


def _excluded(run: RunContext, visit: Visit) -> list[RunEntry]:
    """Entries of stored repositories that the list has and the configuration excludes, and of those whose
    folders may not be written to."""
    excluded = visit.found.listed - {one.uuid for one in visit.found.repositories}
    if run.request.listed is not None:  # what the rules choose for other stores may have come here since
        excluded -= {uuid for uuid, _, _ in run.request.listed.repositories()}
    found = []
    for one in visit.held:
        why = run.request.why_not(one.uuid)
        if (one.uuid in excluded or why is not None) and run.request.selects(one.full_name):
            outcome = Outcome.EXCLUDED if why is None else Outcome.FAILED
            problems = () if why is None else (why,)
            entry = RunEntry("repository", one.full_name, one.uuid, one.place, outcome, problems=problems)
            found.append(entry)
    return found


def _report_damaged(store: Store, results: RunResults) -> None:
    """Report the folders whose identity file cannot be read, but for those that an entry names."""
    texts = "\n".join(problem.text for entry in results.entries for problem in entry.problems)

    def report(damage: StoreDamaged) -> None:
        if damage.file not in texts:
            results.report_error(damage)

    store.workspaces(on_damage=report)
    store.repositories(on_damage=report)


def _unlisted(run: RunContext, config: WorkspaceConfig) -> list[RepositoryFolder]:
    """The stored repositories of workspaces that an entry of the configuration means, and that were not
    found: the credential does not list them any more, or another workspace has their name now."""
    request, store = run.request, run.store.reader
    visited = {visit.home.folder.place for visit in run.visits if visit.is_reached}
    done = {entry.uuid for entry in run.results.entries}
    workspaces = store.workspaces(on_damage=ignore_damage)
    return [
        one
        for one in store.repositories(on_damage=ignore_damage)
        if one.uuid not in done
        and request.selects(one.full_name)
        and (home := current_workspace(one, workspaces)) is not None
        and home.place not in visited
        and belongs_to_entry(config, {home.slug.lower(), home.uuid.lower()}, request.named_workspaces)
    ]
