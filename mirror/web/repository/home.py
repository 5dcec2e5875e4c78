"""The page of a repository or a workspace: how it is, its snapshots on a time line, and each snapshot."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby

from starlette.responses import Response

from mirror.archive import views
from mirror.bitbucket.readable import discussions
from mirror.browse.repository import timeline as lines
from mirror.browse.repository.condition import condition
from mirror.browse.repository.moves import how_moved
from mirror.browse.repository.timeline import Changes, Moment, Timeline, changes
from mirror.errors import UsageError
from mirror.model import Snapshot
from mirror.store.reading.reader import StoreDamaged
from mirror.web.repository.here import At, Here, redirect

# So many snapshots are compared with those before them on one page.
RECENT, PIECE = 10, 25
_DOCUMENTS_MAX = 300


@dataclass(frozen=True)
class Point:
    """A snapshot in a list: what changed since the one before it, and how many between were let go."""

    moment: Moment
    before: Moment | None
    changes: Changes
    let_go: int


def home(here: Here) -> Response:
    """The page of a repository, or of a workspace."""
    line = lines.timeline(here.folder)
    latest, problems = None, []
    try:
        latest = _snapshot(here, line.kept[0]) if line.kept else None
    except StoreDamaged as damage:
        problems.append(damage.message)
    return here.render(
        "home.html", problems=problems, line=line, latest=latest,
        condition=condition(here.store, here.folder), points=_days(here, line, line.kept[:RECENT]),
        months=_months(line), title=_title(here, latest), restore=_restore(here, latest),
    )  # fmt: skip


def history(here: Here) -> Response:
    """A piece of the time line: a month's newest snapshots, or those before one."""
    line = lines.timeline(here.folder)
    month, before = here.query("month"), here.query("before")
    kept = [one for one in line.kept if (not before or one.id < before)]
    if month:
        kept = [one for one in kept if f"{one.time:%Y-%m}" == month]
        if not kept and not before:
            raise UsageError(
                f"No snapshot is kept of {month[:20]}", hint="The time line lists the months that have some."
            )
    piece = kept[:PIECE]
    return here.render(
        "history.html", line=line, points=_days(here, line, piece), months=_months(line), month=month,
        before=before, older=piece[-1].id if len(kept) > PIECE else None,
    )  # fmt: skip


def as_of(here: Here) -> Response:
    """Leads to the last snapshot at or before a date."""
    found = lines.timeline(here.folder).as_of(here.query("when").strip() or "latest")
    return redirect(f"{here.base}/{found.id}")


def overview(at: At) -> Response:
    """A snapshot: what it holds, what it lacks and why, and what changed since the one before."""
    line = lines.timeline(at.folder)
    moment, before = line.find(at.snapshot.id), line.before(at.snapshot.id)
    when = at.folder.metadata.at(at.snapshot.id)
    home = "repository.json" if at.is_repository else "workspace.json"
    title, description, facts = discussions.repository_facts(at.folder.metadata.read(at.snapshot, home))
    old = _snapshot(at, before) if before is not None else None
    found = changes(at.folder, old, at.snapshot)
    return at.render(
        "snapshot.html", moment=moment, when=when, before=before, title=title, description=description,
        facts=facts, changes=found, moved=how_moved(at.folder, at.snapshot, found.refs, at.reading.histories),
        restore=_restore(at, at.snapshot), was_called=_was_called(at),
    )  # fmt: skip


def compare(here: Here) -> Response:
    """What differs between two snapshots, whichever of them is the older."""
    line = lines.timeline(here.folder)
    if not line.kept:
        raise UsageError("There is no snapshot yet")
    wanted = [
        here.query("old") or (line.kept[1] if len(line.kept) > 1 else line.kept[0]).id,
        here.query("new") or "latest",
    ]
    moments = [_moment(line, text) for text in wanted]
    old, new = (_snapshot(here, one) for one in moments)
    refs = lines.ref_changes(here.folder, old, new)
    documents = lines.document_changes(here.folder, old, new)
    shown = tuple(refs[:_DOCUMENTS_MAX])
    return here.render(
        "compare.html", line=line, old=moments[0], new=moments[1], refs=shown,
        documents=documents[:_DOCUMENTS_MAX],
        more_refs=len(refs) - len(shown), more_documents=max(0, len(documents) - _DOCUMENTS_MAX),
        moved=how_moved(here.folder, new, shown, here.reading.histories),
        ref_counts=Counter(one.kind for one in refs), document_counts=Counter(one.kind for one in documents),
    )  # fmt: skip


def settings(at: At) -> Response:
    """Settings, projects and members, as tables."""
    folders = [
        kind for kind in ("settings", "projects") if f"{kind}/" in at.folder.metadata.names(at.snapshot)
    ]
    paths = [path for kind in folders for path in at.folder.metadata.paths(at.snapshot, kind)]
    read = [(path, at.folder.metadata.read(at.snapshot, path)) for path in paths]
    return at.render("sections.html", **views.settings(read))


def _moment(line: Timeline, text: str) -> Moment:
    found = line.find(text)
    if found is not None and found.is_kept:
        return found
    return line.as_of(text)


def _snapshot(here: Here, moment: Moment) -> Snapshot:
    found = here.folder.metadata.get(moment.id)
    if found is None:
        raise StoreDamaged(here.folder.metadata.file, f"the tag {moment.id} is gone")
    return found


def _days(here: Here, line: Timeline, piece: Sequence[Moment]) -> list[tuple[str, list[Point]]]:
    """The snapshots of a piece by day, each with what changed."""
    before = {one.id: line.before(one.id) for one in piece}
    wanted = {one.id for one in (*piece, *before.values()) if one is not None}
    damages: list[StoreDamaged] = []
    known = here.folder.metadata.several(sorted(wanted), damages.append)
    points = [_point(here, line, one, before[one.id], known, damages) for one in piece]
    days = groupby(points, lambda one: f"{one.moment.time:%Y-%m-%d}")
    return [(day, list(several)) for day, several in days]


def _point(
    here: Here, line: Timeline, moment: Moment, before: Moment | None, known: Mapping[str, Snapshot],
    damages: Sequence[StoreDamaged],
) -> Point:  # fmt: skip
    let_go = sum(
        one.removal is not None and one.id < moment.id and (before is None or one.id > before.id)
        for one in line.moments
    )
    needed = [one.id for one in (moment, before) if one is not None]
    if not all(one in known for one in needed):
        texts = [one.message for one in damages if any(name in one.message for name in needed)]
        return Point(moment, before, Changes(damage="; ".join(texts) or "it is damaged"), let_go)
    old = known[before.id] if before is not None else None
    return Point(moment, before, changes(here.folder, old, known[moment.id]), let_go)


def _months(line: Timeline) -> list[tuple[str, list[tuple[str, str, int]]]]:
    """The months with kept snapshots by year: (month, its name, how many), the newest first."""
    named = [
        (f"{month[:4]}", (month, datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC).strftime("%B"), count))
        for month, count in line.months().items()
    ]
    return [(year, [one for _, one in several]) for year, several in groupby(named, lambda one: one[0])]


def _title(here: Here, latest: Snapshot | None) -> str:
    """The display name, where the newest snapshot knows one."""
    if latest is None:
        return here.folder.full_name
    try:
        home = "repository.json" if here.is_repository else "workspace.json"
        found = discussions.repository_facts(here.folder.metadata.read(latest, home))[0]
    except StoreDamaged:
        found = ""
    return found or here.folder.full_name


def _restore(here: Here, snapshot: Snapshot | None) -> str:
    """The command that restores exactly this snapshot."""
    if snapshot is None:
        return ""
    name = here.reading.directory.address(here.store, here.name)
    target = f"./{here.folder.slug}"
    words = ["mirror", "restore", name, "--store", str(here.store.path), "--at", snapshot.id, "--to", target]
    return shlex.join(words)


def _was_called(at: At) -> str:
    """The name that the repository had at the snapshot, where that is another than now."""
    return at.snapshot.full_name if at.snapshot.full_name != at.folder.full_name else ""
