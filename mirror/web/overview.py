"""The overview: which repositories need attention and why, and how the rest is."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mirror.browse import Concern, Status, Urgency, concerns, verdict
from mirror.browse.cluster import with_others
from mirror.browse.freshness import bars, copies_in, overdue
from mirror.browse.runs import calendar
from mirror.config import expiring
from mirror.web.charts import calendar_of, growth
from mirror.web.context import Page, page_of
from mirror.web.filters import address
from mirror.web.listing import SHOWN, SORTS, Query, listing
from mirror.web.render import render

# How many things that need attention are shown before the list of repositories.
CONCERNS_MOST = 8
CALENDAR_WEEKS = 26
# How many runs the calendar reads at most.
CALENDAR_RUNS = 2000


@dataclass(frozen=True)
class Subject:
    """A repository, a workspace or the store (an empty name) that needs attention, with every reason."""

    name: str
    urgency: Urgency
    concerns: tuple[Concern, ...]
    address: str


def subjects(found: Status, several: Sequence[Concern]) -> list[Subject]:
    """What needs attention, each once, the most urgent first."""
    grouped: dict[str, list[Concern]] = {}
    for one in several:
        grouped.setdefault(one.name, []).append(one)
    names = {one.name for one in found.repositories} | {one.name for one in found.workspaces}
    return [
        Subject(name, of[0].urgency, tuple(of), address(name) if name in names else "")
        for name, of in grouped.items()
    ]


def _overview(request: Request) -> Response:
    page = page_of(request)
    now = page.clock.now()
    seen = page.watch.look()
    found = seen.status
    is_empty = not found.repositories and not found.damage and found.last_backup is None
    if is_empty and page.cluster is None:
        return render(request, "empty.html", live=page.live)
    copies = copies_in(found, page.config, now)
    cluster = page.cluster() if page.cluster is not None else None
    here = len(found.repositories)
    if cluster is not None:
        found = with_others(found, cluster.rows)
    too_old = overdue(found, page.config, now)
    several = concerns(found, too_old, copies)
    if cluster is not None:
        several = sorted([*cluster.all_concerns(), *several], key=lambda one: one.urgency)
    grouped = subjects(found, several)
    urgency = {one.name: int(one.urgency) for one in reversed(grouped)}
    days = calendar(page.watch.runs(CALENDAR_RUNS), now=now, weeks=CALENDAR_WEEKS)
    query = Query.of(request.query_params)
    return render(
        request,
        "overview.html",
        found=found,
        cluster=cluster,
        here=here,
        copies=copies,
        verdict=verdict(found, several),
        subjects=grouped,
        most=CONCERNS_MOST,
        tokens=_tokens(page),
        late=too_old,
        urgency=urgency,
        query=query,
        list=listing(found.repositories, urgency, query),
        shown=SHOWN,
        sorts=SORTS,
        calendar=calendar_of(days),
        growth=growth(seen.bytes_by_day, now=now),
        bars=bars(found.repositories, too_old, now),
        bytes=sum(seen.bytes_by_day.values()),
        free=_free(page),
        live=page.live,
    )


def _tokens(page: Page) -> list[tuple[int, str]]:
    """The credentials that expire within 30 days: the days left, and what to do."""
    if page.config is None:
        return []
    return [
        (left, f"{fault.key.removesuffix('.expires')}: {fault.problem}; {fault.remedy}")
        for left, fault in expiring(page.config, page.clock.now().date())
    ]


def _free(page: Page) -> int | None:
    try:
        return shutil.disk_usage(page.store).free
    except OSError:
        return None


ROUTES = (Route("/", _overview, name="overview"),)
