"""READS: all reading routes."""

from __future__ import annotations

from mirror.simulator.api.routes import ROUTES
from mirror.simulator.api.routes_source import SOURCES
from mirror.simulator.api.routing import Route
from mirror.simulator.api.single_items import SINGLE_ITEMS

READS: tuple[Route, ...] = (*ROUTES, *SINGLE_ITEMS, *SOURCES)
