"""Every route of the page. A module of routes is one line here."""

from __future__ import annotations

from starlette.routing import BaseRoute

from mirror.web import assets, overview, repository, sign_in

# Whoever asks, these answer: no route here shows anything of the store.
OPEN: tuple[BaseRoute, ...] = (
    *assets.ROUTES,
    *sign_in.ROUTES,
)
# These need the sign-in.
ROUTES: tuple[BaseRoute, ...] = (
    *overview.ROUTES,
    *repository.ROUTES,
)  # fmt: skip
