"""The runs: those that go on now, a list of the others, and each of them."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mirror.browse.run_page import run_page
from mirror.browse.runs import ROWS_MOST
from mirror.web.charts import tone_of
from mirror.web.context import page_of
from mirror.web.render import render

ROWS = 50
KINDS = ("backup", "verify", "prune", "drill", "copy", "erase", "accept-loss", "move")


def _runs(request: Request) -> Response:
    page = page_of(request)
    kind = request.query_params.get("kind", "")
    kind = kind if kind in KINDS else ""
    number = request.query_params.get("page", "1")
    first = (int(number) - 1 if number.isascii() and number.isdigit() and len(number) < 6 else 0) * ROWS
    rows = [one for one in page.watch.runs(ROWS_MOST) if not kind or one.kind == kind]
    first = max(0, min(first, len(rows) - 1) // ROWS * ROWS)
    return render(
        request, "runs.html", rows=rows[first : first + ROWS], count=len(rows), number=first // ROWS + 1,
        pages=max(1, -(-len(rows) // ROWS)), kind=kind, kinds=KINDS, live=page.live, tone_of=tone_of,
    )  # fmt: skip


def _run(request: Request) -> Response:
    page = page_of(request)
    found = run_page(page.store, request.path_params["run"])
    if found is None:
        raise HTTPException(404)
    return render(request, "run.html", run=found, tone=tone_of(found.row.exit_code))


def _running(request: Request) -> Response:
    return render(request, "running.html", live=page_of(request).live)


ROUTES = (
    Route("/runs", _runs, name="runs"),
    Route("/running", _running, name="running"),
    Route("/runs/{run}", _run, name="run"),
)
