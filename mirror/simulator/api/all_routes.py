"""All reading routes together."""

from __future__ import annotations

from mirror.simulator.api.calls import Route
from mirror.simulator.api.routes import ROUTES
from mirror.simulator.api.singles import SINGLES
from mirror.simulator.api.sources import SOURCES

READS: tuple[Route, ...] = (*ROUTES, *SINGLES, *SOURCES)
