"""The end of a backup run: what no list had, and what each workspace lost."""

from __future__ import annotations

from mirror.backup.absence import mark_absent, tell_unreached
from mirror.backup.brake import failed_to_judge, judge_workspace
from mirror.backup.order import Order, Tally, Visit, selects, told_later
from mirror.config.settings import WorkspaceConfig
from mirror.errors import MirrorError
from mirror.model import Outcome, RunEntry
from mirror.store.format.layout import BRAKE_FILE
from mirror.store.reading.reader import RepositoryFolder, Store, StoreDamaged, current_workspace


def _excluded(order: Order, visit: Visit) -> list[RunEntry]:
    """Entries of what the store holds and the list has, and the configuration leaves out."""
    left_out = visit.found.listed - {one.uuid for one in visit.found.repositories}
    return [
        RunEntry("repository", one.full_name, one.uuid, one.place, Outcome.EXCLUDED)
        for one in visit.held
        if one.uuid in left_out and selects(order, one.full_name)
    ]


async def conclude(order: Order, store: Store, tally: Tally) -> None:
    """Report what the lists lacked, and judge what each workspace lost, once all have been listed: what one
    lacks may have been transferred to another."""
    listed = frozenset(uuid for visit in tally.visits for uuid in visit.found.listed)
    for visit in tally.visits:
        tools, home, found = visit.tools, visit.home, visit.found
        missing = [one for one in visit.held if one.uuid not in listed]
        asked = {entry.uuid for entry in tally.entries}  # of a list that broke off, also what it lacks
        chosen = [one for one in missing if one.uuid not in asked and selects(order, one.full_name)]
        counts = found.is_whole and not order.selectors
        if counts:
            told = mark_absent(tools.store, missing, order.clock)
        else:
            told = tell_unreached(tools.config, chosen, is_whole=found.is_whole)
        for entry in (*told, *_excluded(order, visit)):
            tally.add(entry)
        try:
            tally.problems += await judge_workspace(tools, home, whole=counts, listed=listed)
            visit.mark.finish()
        except (MirrorError, OSError) as error:
            tally.problems.append(failed_to_judge(found.workspace.slug, error))
        if home.folder.has(BRAKE_FILE):
            tally.brakes.append(home.folder.place)
    if not order.selectors:
        _tell_damaged(store, tally)
    for config in tally.listing:
        for entry in tell_unreached(config, _unlisted(order, config, store, tally), is_whole=False):
            tally.add(entry)


def _tell_damaged(store: Store, tally: Tally) -> None:
    """Name the folders whose card cannot be read, but for those that their own entries name."""
    told = "\n".join(problem.text for entry in tally.entries for problem in entry.problems)

    def note(damage: StoreDamaged) -> None:
        if damage.file not in told:
            tally.fail(damage)

    store.workspaces(on_damage=note)
    store.repositories(on_damage=note)


def _unlisted(order: Order, config: WorkspaceConfig, store: Store, tally: Tally) -> list[RepositoryFolder]:
    """What is held of workspaces that an entry of the configuration means, and that were not found: the
    credential does not list them any more, or their name is another one's now."""
    named = {one.workspace.lower() for one in order.config.workspaces if one.workspace is not None}
    visited = {visit.home.folder.place for visit in tally.visits if visit.is_reached}
    told = {entry.uuid for entry in tally.entries}
    workspaces = store.workspaces(on_damage=told_later)
    return [
        one
        for one in store.repositories(on_damage=told_later)
        if one.uuid not in told
        and selects(order, one.full_name)
        and (home := current_workspace(one, workspaces)) is not None
        and home.place not in visited
        and _is_meant(config, {home.slug.lower(), home.uuid.lower()}, named)
    ]


def _is_meant(config: WorkspaceConfig, names: set[str], named: set[str]) -> bool:
    """Whether an entry of the configuration means the workspace of these names; `named` are those that any
    entry names."""
    return not names & named if config.workspace is None else config.workspace.lower() in names
