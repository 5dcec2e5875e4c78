"""Entries for what the store holds and no list of the run had, so that nothing is left out in silence."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from mirror.backup.failures import as_mirror_error
from mirror.bitbucket import fields
from mirror.bitbucket.failures import BadAnswer
from mirror.config.settings import WorkspaceConfig
from mirror.discovery import Rules
from mirror.errors import MirrorError
from mirror.logs import get_logger
from mirror.model import Clock, Outcome, Problem, RunEntry
from mirror.model.words import counted
from mirror.store.reading.reader import ErasureFilter, RepositoryFolder
from mirror.store.writing.writer import StoreWriter

_log = get_logger("backup")
_PROFILE = "repository.json"
_UNLISTED = "not in the workspace's list; its copy is kept"
_UNREACHED = (
    "not saved: the configuration includes it and the store holds it, but the credential did not list it;"
    " check what the credential may see, and whether the repository was moved or deleted; its copy is kept"
)


def mark_absent(store: StoreWriter, missing: Iterable[RepositoryFolder], clock: Clock) -> list[RunEntry]:
    """Mark the stored repositories that a whole list lacks; returns their entries. Each counts as gone after
    several runs."""
    return [_guarded(one, partial(_marked, store, one, clock)) for one in missing]


def unreached_entries(
    config: WorkspaceConfig, missing: Iterable[RepositoryFolder], *, is_whole: bool
) -> list[RunEntry]:
    """Entries of stored repositories that no list of this run had, and that may exist all the same: those
    that `config` includes, by name or by the project that they were last seen in.

    `is_whole`: the list was whole, but does not count, because the run was over a part only.
    """
    problem = Problem(3, _UNLISTED if is_whole else _UNREACHED)
    unreached = [one for one in missing if one.gone_since is None and _is_included(config, one)]
    return [_guarded(one, partial(_entry, one, Outcome.UNREACHED, problem)) for one in unreached]


def _guarded(folder: RepositoryFolder, make: Callable[[], RunEntry]) -> RunEntry:
    """The entry that `make` gives; where the folder is damaged, an entry that says so."""
    try:
        entry = make()
    except Exception as error:  # noqa: BLE001 - whatever it is, the run goes on and the entry names it
        fault = as_mirror_error(error, folder.place)
        problem = Problem(fault.exit_code, fault.message)
        return RunEntry(
            "repository", folder.full_name, folder.uuid, folder.place, Outcome.FAILED, problems=(problem,)
        )
    _log.warning("backup.repository_missing", repository=folder.full_name, state=str(entry.outcome))
    return entry


def _marked(store: StoreWriter, folder: RepositoryFolder, clock: Clock) -> RunEntry:
    absence = store.mark_missing(folder, clock.now())
    if absence.state == "gone":
        return _entry(folder, Outcome.GONE)
    text = f"not in the workspace's list, as {counted(absence.runs, 'runs')} saw; its copy is kept"
    return _entry(folder, Outcome.ABSENT, Problem(3, text))


def _is_included(config: WorkspaceConfig, folder: RepositoryFolder) -> bool:
    try:
        if ErasureFilter(folder.erasures()).everything is not None:
            return False
    except MirrorError:
        pass  # a damaged folder is still one that is not saved
    return Rules(config.include, config.exclude).chooses(folder.slug, project_of(folder))


def project_of(folder: RepositoryFolder) -> str | None:
    """The key of the project that a repository was in at its last snapshot; None where it is unknown."""
    try:
        latest = folder.metadata.latest()
        profile = folder.metadata.read(latest, _PROFILE) if latest is not None else None
        return fields.project_key(profile.get("project")) if isinstance(profile, dict) else None
    except (MirrorError, BadAnswer):
        return None


def _entry(folder: RepositoryFolder, outcome: Outcome, *problems: Problem) -> RunEntry:
    """The entry of a folder that is left as it is."""
    if folder.identity_damage is not None:
        problems = (*problems, Problem(folder.identity_damage.exit_code, folder.identity_damage.message))
    return RunEntry(
        "repository", folder.full_name, folder.uuid, folder.place, outcome, problems=tuple(problems)
    )
