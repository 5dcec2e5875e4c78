"""Entries of the run record: the outcome of a folder's turn, with its problems."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mirror.backup.brake import problems_of_folder
from mirror.backup.context import WorkspaceContext
from mirror.config.settings import WorkspaceConfig
from mirror.errors import DamageFound, MirrorError
from mirror.model import Outcome, Part, Problem, RefChange, Repository, RunEntry, Workspace
from mirror.store.format.layout import BRAKE_FILE
from mirror.store.reading.reader import StoreDamaged
from mirror.store.writing.writer import RepositoryWriter, SnapshotResult, WorkspaceWriter

# The `part` of problems about the file that says whose a folder is.
IDENTITY_FILE = "card"


def problems_of_parts(
    config: WorkspaceConfig, parts: Mapping[str, Part], codes: Mapping[str, int]
) -> tuple[Problem, ...]:
    """What is missing in a snapshot's `parts`; `codes` are the exit codes where they are not 3."""
    return tuple(
        Problem(codes.get(name, 3), f"{name} {part.state}: {part.reason or 'no reason given'}", name)
        for name, part in parts.items()
        if not part.is_settled and name not in config.accept_missing
    )


def problem_of_identity(damage: StoreDamaged) -> Problem:
    """The problem of a folder whose identity file was damaged and is made again from its snapshots."""
    text = f"{damage.file} was damaged ({damage.problem}) and is made again; former names are lost with it"
    return Problem(4, text, IDENTITY_FILE)


def problems_of_ledger(
    workspace: WorkspaceContext, writer: RepositoryWriter | WorkspaceWriter, snapshot: SnapshotResult
) -> tuple[Problem, ...]:
    """What is wrong with a folder's ledger: it was made again, or the folder is an older copy."""
    fault = writer.ledger_fault or workspace.store.reader.rollback_problem(writer.folder, snapshot.ledger)
    return () if fault is None else (Problem(DamageFound.exit_code, fault),)


def repository_entry(
    workspace: WorkspaceContext,
    writer: RepositoryWriter,
    snapshot: SnapshotResult,
    parts: Mapping[str, Part],
    changes: tuple[RefChange, ...],
    problems: tuple[Problem, ...],
    facts: Mapping[str, Any],
) -> RunEntry:
    """The entry of a repository that has a snapshot; the problems of its folder are added."""
    good = Outcome.SAVED if snapshot.changed else Outcome.CONFIRMED
    if writer.folder.has(BRAKE_FILE):
        facts = {**facts, "files": [BRAKE_FILE]}
    damage = writer.identity_damage
    return RunEntry(
        kind="repository",
        full_name=writer.folder.full_name,
        uuid=writer.folder.uuid,
        folder=writer.folder.place,
        outcome=Outcome.PARTIAL if problems else good,
        snapshot=snapshot.snapshot.id,
        tree=snapshot.snapshot.tree,
        refs_sha256=snapshot.refs_sha256,
        ledger=snapshot.ledger,
        parts=parts,
        ref_changes=changes,
        problems=(
            *problems,
            *problems_of_ledger(workspace, writer, snapshot),
            *(() if damage is None else (problem_of_identity(damage),)),
            *problems_of_folder(writer.folder),
        ),
        facts=facts,
    )


def erased_entry(writer: RepositoryWriter, reason: str) -> RunEntry:
    """The entry of a repository that was erased as a whole: it is not backed up again."""
    return RunEntry(
        kind="repository",
        full_name=writer.folder.full_name,
        uuid=writer.folder.uuid,
        folder=writer.folder.place,
        outcome=Outcome.ERASED,
        facts={"reason": f"it was erased: {reason}"},
    )


def failed_entry(
    thing: Repository | Workspace, folder: str, outcome: Outcome, error: MirrorError
) -> RunEntry:
    """The entry of a repository or workspace whose turn failed, or whose folder is locked."""
    is_workspace = isinstance(thing, Workspace)
    return RunEntry(
        kind="workspace" if is_workspace else "repository",
        full_name=thing.slug if isinstance(thing, Workspace) else thing.full_name,
        uuid=thing.uuid,
        folder=folder,
        outcome=outcome,
        problems=(Problem(error.exit_code, error.message, hint=error.hint),),
    )
