"""Counting what there is upstream, for the mass-loss brake.

Only what a run read reliably is counted: a list that was whole, refs that were advertised, pull
requests that were looked through. Everything is kept and saved all the same; a tripped brake stops
prune, and every run ends with 5 until somebody accepts the loss.
"""

from __future__ import annotations

from collections.abc import Iterable

from mirror.backup.tools import Tools
from mirror.discovery import Discovered
from mirror.errors import MirrorError
from mirror.logs import get_logger
from mirror.model import Outcome, PartState, Problem, RunEntry
from mirror.store.brake import Key, write_brake
from mirror.store.writer import WorkspaceWriter

_log = get_logger("backup")


async def apply_brake(
    tools: Tools, home: WorkspaceWriter, found: Discovered, entries: Iterable[RunEntry]
) -> list[Problem]:
    """Compare this run's counts with what was accepted, and keep them; returns the run's problems."""
    names: dict[Key, str] = {}
    counts: dict[Key, int] = {}
    if found.is_whole:
        counts["", "repositories"] = len(found.listed)
        names["", "repositories"] = found.workspace.slug
    for entry in entries:
        for what, count in _counts(entry).items():
            counts[entry.uuid, what] = count
            names[entry.uuid, what] = entry.full_name
    try:
        async with home.lock(tools.lock_wait, tools.clock):
            before = home.folder.brake()
            rules = tools.config.brake
            brake = before.seen(
                counts, names, share=rules.share, at_least=rules.at_least, now=tools.clock.now()
            )
            if brake != before:
                write_brake(home.path, brake)
    except (MirrorError, OSError) as error:
        text = error.message if isinstance(error, MirrorError) else f"{error.strerror}: {error.filename}"
        code = error.exit_code if isinstance(error, MirrorError) else 1
        return [Problem(code, f"{found.workspace.slug}: the mass-loss brake could not be set: {text}")]
    for loss in brake.losses:
        _log.error("backup.mass_loss", loss=str(loss), workspace=found.workspace.slug)
    return [
        Problem(
            5, f"{loss}; all is kept, and nothing is pruned until: mirror accept-loss {found.workspace.slug}"
        )
        for loss in brake.losses
    ]


def _counts(entry: RunEntry) -> dict[str, int]:
    """What an entry tells reliably of how much there is upstream."""
    counts: dict[str, int] = {}
    if entry.outcome not in (Outcome.SAVED, Outcome.CONFIRMED, Outcome.PARTIAL):
        return counts
    code, requests = entry.parts.get("code"), entry.parts.get("pull_requests")
    if code is not None and "refs" in code.counts:
        counts["refs"] = code.counts["refs"]
    if requests is not None and (
        requests.state is PartState.COMPLETE or "pull_requests_to_ask" in requests.counts
    ):
        held = requests.counts.get("pull_requests", 0)
        counts["pull_requests"] = held - requests.counts.get("pull_requests_gone", 0)
    return counts
