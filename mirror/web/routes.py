"""Every route of the page. A module of routes is one line here."""

from __future__ import annotations

from starlette.routing import BaseRoute

from mirror.web import assets, health, metrics, overview, repository, runs, sign_in

# Whoever asks, these answer: no route here shows anything of the store, but which job is overdue.
OPEN: tuple[BaseRoute, ...] = (
    *health.ROUTES,
    *assets.ROUTES,
    *sign_in.ROUTES,
)
# These need the sign-in.
ROUTES: tuple[BaseRoute, ...] = (
    *metrics.ROUTES,
    *overview.ROUTES,
    *repository.ROUTES,
    *runs.ROUTES,
)  # fmt: skip
