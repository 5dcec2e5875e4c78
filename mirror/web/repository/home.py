"""The page of a repository or a workspace: how it is, its snapshots on a time line, and each snapshot."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby

from starlette.responses import Response

from mirror.archive import views
from mirror.bitbucket.readable import discussions
from mirror.browse.repository.changes import Changes
from mirror.browse.repository.condition import condition, last_confirmed
from mirror.browse.repository.moves import how_moved
from mirror.browse.repository.timeline import Moment, Timeline
from mirror.errors import UsageError
from mirror.model import Snapshot
from mirror.store.reading.reader import StoreDamaged
from mirror.web.repository.here import At, Here, redirect

# So many snapshots are compared with those before them on one page.
RECENT, PIECE = 10, 25


@dataclass(frozen=True)
class Point:
    """A snapshot in a list: what changed since the one before it, how many between were let go, and why
    retention keeps it (empty: nobody knows)."""

    moment: Moment
    before: Moment | None
    changes: Changes
    let_go: int
    why: str


def home(here: Here) -> Response:
    """The page of a repository, or of a workspace."""
    line = here.line
    latest, problems = None, []
    try:
        latest = _snapshot(here, line.kept[0]) if line.kept else None
    except StoreDamaged as damage:
        problems.append(damage.message)
    return here.render(
        "home.html", problems=problems, line=line, latest=latest,
        condition=condition(here.store, here.folder, here.copies()),
        points=_days(here, line, line.kept[:RECENT]), months=_months(line),
        title=_title(here, latest), restore=_restore(here, latest), keeping=here.keeping(),
    )  # fmt: skip


def history(here: Here) -> Response:
    """A piece of the time line: a month's newest snapshots, or those before one."""
    line = here.line
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
    found = here.line.as_of(here.query("when").strip() or "latest")
    return redirect(f"{here.base}/{found.id}")


def overview(at: At) -> Response:
    """A snapshot: what it holds, what it lacks and why, and what changed since the one before."""
    line = at.line
    before, after = line.before(at.snapshot.id), line.after(at.snapshot.id)
    moment = line.find(at.snapshot.id) or Moment(at.snapshot.id, at.snapshot.time, at.snapshot.sequence)
    home = "repository.json" if at.is_repository else "workspace.json"
    title, description, facts = discussions.repository_facts(at.folder.metadata.read(at.snapshot, home))
    [found] = at.reading.changes.of(at.folder, [(before, moment)])
    return at.render(
        "snapshot.html", shown=at.snapshot, before=before, after=after, title=title, facts=facts,
        description=description, changes=found, why=at.keeping().reasons.get(moment.id, ""),
        confirmed=last_confirmed(at.store, at.folder, moment.id) or moment.confirmed,
        moved=how_moved(at.folder, at.snapshot, found.refs, at.reading.histories),
        restore=_restore(at, at.snapshot), was_called=_was_called(at),
    )  # fmt: skip


def compare(here: Here) -> Response:
    """What differs between two snapshots, whichever of them is the older."""
    line = here.line
    if not line.kept:
        raise UsageError("There is no snapshot yet")
    wanted = [
        here.query("old") or (line.kept[1] if len(line.kept) > 1 else line.kept[0]).id,
        here.query("new") or "latest",
    ]
    moments = [_moment(line, text) for text in wanted]
    old, new = (_snapshot(here, one) for one in moments)
    found = here.reading.differences.of(here.folder, old, new)
    return here.render(
        "compare.html", line=line, old=moments[0], new=moments[1], found=found,
        moved=how_moved(here.folder, new, found.refs.several, here.reading.histories),
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
    reasons = here.keeping().reasons
    pairs = [(line.before(one.id), one) for one in piece]
    points = [
        Point(moment, before, found, line.let_go_between(before, moment), reasons.get(moment.id, ""))
        for (before, moment), found in zip(pairs, here.reading.changes.of(here.folder, pairs), strict=True)
    ]
    days = groupby(points, lambda one: f"{one.moment.time:%Y-%m-%d}")
    return [(day, list(several)) for day, several in days]


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
